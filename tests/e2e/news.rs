//! What a status told over a stretch, but for the ups and downs of the connection to the workload cluster: on a machine
//! that has other work it may be lost for a moment at any time.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::harness::audit::Calls;
use crate::world::{World, merge};

/// The controller's writes of that object's status since then, without those that changed nothing but `WorkloadReachable`.
/// `before` is the object as it was then.
pub fn news_since(world: &World, before: &DynamicObject, since: Timestamp) -> Calls {
    let calls = world.calls().since(since).named(&before.name_any()).accepted();
    let mut status = before.data["status"].clone();
    let mut told = but_for_the_connection(&status);
    let mut news = Calls::default();
    for write in calls.only(|call| call.resource == "scheduledmachines/status").iter() {
        merge(&mut status, write.body["status"].clone());
        let now = but_for_the_connection(&status);
        if now != told {
            news.0.push(write.clone());
            told = now;
        }
    }
    news
}

fn but_for_the_connection(status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != "WorkloadReachable");
    }
    status
}
