//! Ends the process when it is stuck, so that the kubelet starts it anew: liveness without a port.
//!
//! A thread of its own looks at counters that must grow. It counts its own looks and no clock: a process that was
//! stopped, or a host that slept, is not taken for one that is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From one look to the next.
pub const LOOK: Duration = Duration::from_secs(5);
/// Looks at a counter that stands still before its owner counts as stuck. A minute: on a machine whose owner compiles,
/// with the CPU share of a small pod, a walk over all processes may take long.
pub const MOST: u32 = 12;
/// How often the event loop's counter grows.
pub const TICK: Duration = Duration::from_secs(1);

/// Something that must go on.
#[derive(Clone, Debug)]
pub struct Pulse {
    name: &'static str,
    count: Arc<AtomicU64>,
}

impl Pulse {
    /// Of a counter that grows for as long as its owner does.
    pub fn of(name: &'static str, count: Arc<AtomicU64>) -> Self {
        Self { name, count }
    }
}

/// Lets a counter grow from the event loop, for ever.
pub async fn tick(count: Arc<AtomicU64>) {
    loop {
        count.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(TICK).await;
    }
}

/// Looks at the pulses from a thread of its own, and calls `stuck` with the name of the first that stands still.
///
/// # Errors
/// The system refuses the thread.
pub fn guard(
    pulses: Vec<Pulse>,
    look: Duration,
    most: u32,
    stuck: impl FnOnce(&'static str) + Send + 'static,
) -> std::io::Result<()> {
    let run = move || stuck(first_to_stop(&pulses, look, most));
    std::thread::Builder::new().name("5spot-watchdog".to_owned()).spawn(run).map(drop)
}

fn first_to_stop(pulses: &[Pulse], look: Duration, most: u32) -> &'static str {
    let now = |pulse: &Pulse| pulse.count.load(Ordering::Relaxed);
    let mut seen: Vec<(u64, u32)> = pulses.iter().map(|pulse| (now(pulse), 0)).collect();
    loop {
        std::thread::sleep(look);
        for (pulse, (before, still)) in pulses.iter().zip(&mut seen) {
            let count = now(pulse);
            *still = if count == *before { *still + 1 } else { 0 };
            *before = count;
            if *still >= most {
                return pulse.name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const QUICK: Duration = Duration::from_millis(10);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_blocked_event_loop_is_noticed_from_beside_it() {
        let count = Arc::new(AtomicU64::new(0));
        let (tell, told) = mpsc::channel();
        let free = Pulse::of("free", Arc::default());
        let beating = Arc::clone(&free.count);
        let blocked = Pulse::of("blocked", Arc::clone(&count));
        guard(vec![free, blocked], QUICK, 20, move |name| tell.send(name).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let name = runtime.block_on(async {
            // The first tick comes, and never another one: whoever else wants to run has to wait for us.
            let ticks = tokio::time::timeout(QUICK, tick(count));
            assert!(ticks.await.is_err());
            loop {
                beating.fetch_add(1, Ordering::Relaxed);
                if let Ok(name) = told.recv_timeout(QUICK / 10) {
                    return name;
                }
            }
        });
        assert_eq!(name, "blocked");
    }

    #[test]
    fn who_goes_on_is_left_alone() {
        let pulse = Pulse::of("going on", Arc::default());
        let count = Arc::clone(&pulse.count);
        let (tell, told) = mpsc::channel();
        guard(vec![pulse], QUICK, 30, move |name| tell.send(name).unwrap()).unwrap();
        for _ in 0..300 {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(told.recv_timeout(Duration::from_millis(2)), Err(mpsc::RecvTimeoutError::Timeout));
        }
        assert_eq!(told.recv_timeout(PATIENCE), Ok("going on"), "and no longer");
    }
}
