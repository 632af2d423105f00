//! What a status told over a stretch, but for the ups and downs of the connection to the workload cluster: on a machine
//! that has other work it may be lost for a moment at any time.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::harness::audit::Calls;
use crate::world::{World, merge};

/// The controller's writes of that object since then, refused ones too, without those that changed `WorkloadReachable` and
/// nothing else. A write that changed nothing counts: nobody needed it. `before` is the object as it was then.
pub fn news_since(world: &World, before: &DynamicObject, since: Timestamp) -> Calls {
    let writes = world.calls().since(since).named(&before.name_any()).writes();
    let mut status = before.data["status"].clone();
    let mut news = Calls::default();
    for write in writes.only(|call| call.resource.starts_with("scheduledmachines")).iter() {
        let was = status.clone();
        if write.resource == "scheduledmachines/status" && (200..300).contains(&write.code) {
            merge(&mut status, write.body["status"].clone());
        }
        if status == was || but_for_the_connection(&status) != but_for_the_connection(&was) {
            news.0.push(write.clone());
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
