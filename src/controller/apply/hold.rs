//! A reclaim's hold, written before the Machine is deleted, if it can be written in time.
//!
//! Nothing here fails a pass: an owner at her desk is waiting. What cannot be written is latched in the status, so that
//! a crash after the DELETE forgets nothing, and the hold is tried again later.

use std::time::Duration;

use kube::api::{Patch, PostParams};
use serde_json::json;
use tokio::time::timeout;

use super::{Apply, params};
use crate::api::names;
use crate::controller::effect::Effect;
use crate::controller::error::words;
use crate::controller::expect::Written;
use crate::controller::hold::machine_hold_resource;
use crate::controller::observe;
use crate::controller::reclaim;
use crate::controller::reclaim::wish::Wish;
use crate::controller::report::Recorded;

/// The promise is that the DELETE goes out within 2 s. The looks before have half a second and the latch a third of one.
const IN_TIME: Duration = Duration::from_secs(1);
/// A server that has just swallowed a call gets no more than this for the latch.
const LATCH: Duration = Duration::from_millis(300);

impl Apply<'_> {
    /// What became of the hold that is among the effects, if there is one.
    pub(super) async fn record(&self, effects: &[&Effect]) -> Option<Recorded> {
        let wish = effects.iter().find_map(|effect| effect.wish())?;
        let failure = match &wish.withheld {
            Some(why) => Some(self.not_written(wish, why, true)),
            None => self.write_hold(wish).await,
        };
        let recorded = Recorded { asked: wish.asked.clone(), failure };
        if recorded.failure.is_some() {
            self.latch(&recorded).await;
        }
        Some(recorded)
    }

    /// Why it is not there, in words.
    async fn write_hold(&self, wish: &Wish) -> Option<String> {
        let api = self.objects(&machine_hold_resource());
        let params =
            PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let (why, was_answered) = match timeout(IN_TIME, api.create(&params, &wish.hold)).await {
            Ok(Ok(made)) => {
                let (request, asked_at) = (&wish.asked.request, wish.asked.at);
                tracing::info!(hold = made.metadata.name, request, "reclaimed: hold written");
                self.hold_tries.written(&self.snapshot.object.uid, &made, asked_at);
                return None;
            }
            Ok(Err(error)) => (words(&error), is_no(&error)),
            Err(_late) => {
                (format!("no answer from the API server within {} s", IN_TIME.as_secs_f32()), false)
            }
        };
        Some(self.not_written(wish, &why, was_answered))
    }

    /// Notes and tells it, in words.
    fn not_written(&self, wish: &Wish, why: &str, was_answered: bool) -> String {
        let request = &wish.asked.request;
        let message = format!(
            "its MachineHold cannot be written: {why}; mend that, and until then the status stands in for it"
        );
        tracing::warn!(request, why, "reclaimed: hold not written; the machine leaves all the same");
        let uid = &self.snapshot.object.uid;
        self.hold_tries.failed(uid, request, message.clone(), was_answered, observe::now());
        message
    }

    /// Its failure is not the owner's matter either: the end of the pass writes the same once more.
    async fn latch(&self, recorded: &Recorded) {
        let latched_at = reclaim::to_latch(self.snapshot, Some(recorded));
        let before = self.snapshot.status.timers.as_ref().and_then(|timers| timers.reclaimed_at);
        if latched_at == before {
            return;
        }
        // Not counted: the end of the pass counts and tells it, be it of another process.
        let told = reclaim::status(self.snapshot, Some(recorded)).map(reclaim::uncounted);
        let patch = json!({
            "metadata": {"uid": self.snapshot.object.uid},
            "status": {"timers": {"reclaimedAt": latched_at}, "reclaim": told},
        });
        let api = self.scheduled_machines();
        let patch = Patch::Merge(patch);
        match timeout(LATCH, api.patch_status(&self.snapshot.object.name, &params(), &patch)).await {
            Ok(Ok(written)) => self.expectations.note(&self.snapshot.object, Written::Object(&written)),
            Ok(Err(error)) => tracing::warn!(why = words(&error), "reclaim not latched"),
            Err(_late) => tracing::warn!("reclaim not latched in time"),
        }
    }
}

/// The server refused, and so made nothing. A gateway that timed out cannot say.
fn is_no(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code != 504)
}
