//! Pauses between attempts, for whoever retries for ever.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Doubles from 200 ms, unless another start was asked for, to the caller's limit, with jitter; counts from the start
/// again only after [`Backoff::reset`].
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::starting_at(Self::FIRST)
    }
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    /// Limit while the other side does not answer: it may be back any moment.
    pub const SHORT: Duration = Duration::from_secs(5);
    /// Limit while it answers, and the answer is one that only a person changes.
    pub const LONG: Duration = Duration::from_secs(30);

    /// The first pause is that long at most.
    pub const fn starting_at(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// How long to wait before the next attempt: between half of `longest` and `longest` once it is reached.
    ///
    /// The jitter keeps many watches of one API server, all broken in the same moment, from coming back in step.
    pub fn pause(&mut self, longest: Duration) -> Duration {
        let full = self.next.min(longest);
        self.next = full.saturating_mul(2);
        full / 2 + full.mul_f64(random_fraction() / 2.0)
    }

    /// The next pause is the shortest again. For when something worked, not merely began.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// At least 0, below 1. Spreading attempts needs no better source than the one that seeds hash maps.
fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_spread_over_its_upper_half() {
        let mut backoff = Backoff::default();
        for full in [200, 400, 800, 1600, 3200, 5000, 5000] {
            let pause = backoff.pause(Backoff::SHORT);
            assert!(
                pause >= Duration::from_millis(full / 2) && pause <= Duration::from_millis(full),
                "{pause:?}"
            );
        }
        backoff.reset();
        assert!(backoff.pause(Backoff::LONG) <= Duration::from_millis(200));
    }
}
