//! The timeline: what the audit logs and a watch show, as it happens, against the edge that caused it.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;

use crate::harness::audit::{Audit, Call, Mark};
use crate::harness::{Result, capi, provider};
use crate::scene::{CONTROLLER, MACHINE, Scene};

/// From the close to the end: grace, drain and a slow machine.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
/// How often the audit logs are looked at; a line carries the API server's own time.
const LOOK: Duration = Duration::from_millis(100);

/// What must have happened, in this order.
const MILESTONES: [&str; 6] =
    ["Machine created", "Node created", "phase Active", "Machine deleted", "Node deleted", "phase Inactive"];

/// Tells it; fails if a milestone is missing.
pub async fn tell(scene: &Scene) -> Result<()> {
    let mut story = Story::begin(scene);
    let manifest = scene.manifest();
    println!(
        "\nOne ScheduledMachine, {} from now to its window:  kubectl apply -f -\n",
        story.until(scene.opens)
    );
    for line in manifest.lines() {
        println!("    {line}");
    }
    scene.apply(&manifest)?;
    println!("\n  time (UTC)     against the edge   what");
    let objects = scene.tenant.api(&Scene::scheduled_machine());
    let phases = watch_object(objects, MACHINE).default_backoff();
    pin_mut!(phases);
    let mut look = tokio::time::interval(LOOK);
    let deadline = scene.closes + PATIENCE;
    while !story.is_over() {
        tokio::select! {
            seen = phases.next() => {
                if let Some(Ok(Some(object))) = seen {
                    story.phase(&object);
                }
            }
            _ = look.tick() => {
                story.edges();
                story.calls();
            }
        }
        if Timestamp::now() > deadline {
            return Err(format!("waited in vain for: {}", story.missing().join(", ")).into());
        }
    }
    story.calls();
    println!("\nAll of it happened: lent at {} UTC, back at {} UTC.", time(scene.opens), time(story.last));
    Ok(())
}

struct Story<'a> {
    scene: &'a Scene,
    logs: [(Audit, Mark, usize); 2],
    phase: String,
    edges_told: usize,
    happened: Vec<String>,
    last: Timestamp,
}

impl<'a> Story<'a> {
    fn begin(scene: &'a Scene) -> Self {
        let planes = scene.tenant.planes();
        let logs = [planes.management().audit(), planes.workload().audit()].map(|log| {
            let mark = log.mark();
            (log, mark, 0)
        });
        Self {
            scene,
            logs,
            phase: String::new(),
            edges_told: 0,
            happened: Vec::new(),
            last: Timestamp::now(),
        }
    }

    fn until(&self, at: Timestamp) -> String {
        format!("{} s", at.duration_since(self.last).as_secs())
    }

    /// The milestones that have not happened, each after the one before it.
    fn missing(&self) -> Vec<&'static str> {
        let mut rest = self.happened.iter();
        MILESTONES.into_iter().skip_while(|milestone| rest.any(|what| what == milestone)).collect()
    }

    fn is_over(&self) -> bool {
        self.missing().is_empty()
    }

    fn edges(&mut self) {
        let edges = [(self.scene.opens, "the window opens"), (self.scene.closes, "the window closes")];
        for (nth, (at, what)) in edges.into_iter().enumerate() {
            if nth == self.edges_told && Timestamp::now() >= at {
                self.edges_told += 1;
                println!("  {}  ---------------   {what}", time(at));
            }
        }
    }

    fn phase(&mut self, object: &DynamicObject) {
        let status = &object.data["status"];
        let Some(phase) = status["phase"].as_str().filter(|phase| *phase != self.phase) else { return };
        // What led to it is in the logs by now, and is told first.
        self.calls();
        self.phase = phase.to_owned();
        let message = status["message"].as_str().unwrap_or_default();
        self.line(Timestamp::now(), &format!("phase {phase}: {message}"));
        self.happened.push(format!("phase {phase}"));
    }

    /// New lines of both audit logs, in the order of time.
    fn calls(&mut self) {
        let mut new: Vec<Call> = Vec::new();
        for (log, mark, told) in &mut self.logs {
            let calls = log.after(*mark);
            new.extend(calls.iter().skip(*told).cloned());
            *told = calls.len();
        }
        new.sort_by_key(|call| call.ended);
        for call in new {
            if let Some((what, milestone)) = self.told(&call) {
                self.line(call.ended, &what);
                self.happened.extend(milestone);
            }
        }
    }

    /// Whatever was made of, done to or taken from this machine.
    fn told(&self, call: &Call) -> Option<(String, Option<String>)> {
        let kind = match call.resource.as_str() {
            "machines" => "Machine",
            "stubconfigs" => "StubConfig",
            "stubmachines" => "StubMachine",
            "nodes" => "Node",
            _ => return None,
        };
        if !(200..300).contains(&call.code) || (kind == "Node" && call.name != MACHINE) {
            return None;
        }
        let by = self.who(call);
        match call.verb.as_str() {
            // Somebody else's Machine would be no merit of ours.
            "create" | "delete" if kind == "Machine" && by != CONTROLLER => None,
            "create" => Some((format!("{kind} created by {by}"), Some(format!("{kind} created")))),
            "delete" => {
                // A finalizer keeps the object until its host has gone; the Node goes at once.
                let word = if kind == "Node" { "deleted" } else { "told to go" };
                Some((format!("{kind} {word} by {by}"), Some(format!("{kind} deleted"))))
            }
            "patch" if kind == "Node" && by == CONTROLLER => Some((format!("Node cordoned by {by}"), None)),
            _ => None,
        }
    }

    fn who(&self, call: &Call) -> &'static str {
        match call.user.as_str() {
            CONTROLLER => CONTROLLER,
            provider::USER => "the infrastructure provider",
            capi::USER => "Cluster API",
            // The workload kubeconfig is shared; programs say who they are.
            user if user == self.scene.tenant.workload_user && call.user_agent.starts_with("5spot/") => {
                CONTROLLER
            }
            user if user == self.scene.tenant.workload_user => "Cluster API",
            _ => "somebody else",
        }
    }

    fn line(&mut self, at: Timestamp, what: &str) {
        self.edges();
        let edge = if at >= self.scene.closes { self.scene.closes } else { self.scene.opens };
        let late = at.duration_since(edge).as_millis();
        let against = if late < 0 { String::new() } else { format!("+{late} ms") };
        println!("  {}  {against:>15}   {what}", time(at));
        self.last = at;
    }
}

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S%.3f").to_string()
}
