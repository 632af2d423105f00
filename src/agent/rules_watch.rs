//! Follows exactly the ConfigMap of this Node's agent. Outages are ridden out: what was read last goes on holding.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::reflector::store;
use kube::runtime::watcher::Config;
use kube::{Api, Client};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::agent::book::Reading;
use crate::agent::error::Error;
use crate::agent::report::ANSWER;
use crate::api::names::{AGENT_NAMESPACE, RULES_KEY, agent_object};
use crate::watch::{Notice, Outage, follow};

/// Tells the text of the rules at the start and with each change, and when it cannot be read. Never ends.
pub async fn follow_rules(client: Client, node: &str, tell: UnboundedSender<Reading>) {
    let config = Config::default().fields(&format!("metadata.name={}", agent_object(node)));
    let (reader, writer) = store();
    follow(api(client), config, writer, move |notice| {
        let reading = match notice {
            Notice::Changed(map) => Reading::Text(text(map)),
            Notice::Gone(_) => Reading::Text(None),
            Notice::Synced if reader.state().is_empty() => Reading::Text(None),
            Notice::Synced | Notice::Recovered => Reading::Readable,
            Notice::Failing(why) => Reading::Unreadable(why),
        };
        // Who would hear it ends this task as well.
        let _ = tell.send(reading);
    })
    .await;
}

/// The text of the rules as it is now; `None` if there is none.
///
/// # Errors
/// The API server was not reached, or has refused.
pub async fn read_once(client: Client, node: &str) -> Result<Option<String>, Error> {
    let name = agent_object(node);
    let unread = |why| Error::Rules { name: name.clone(), why };
    let Ok(answer) = timeout(ANSWER, api(client).get_opt(&name)).await else {
        return Err(unread(Outage::no_answer()));
    };
    Ok(answer.map_err(|error| unread(Outage::from(&error)))?.and_then(text))
}

fn api(client: Client) -> Api<ConfigMap> {
    Api::namespaced(client, AGENT_NAMESPACE)
}

fn text(map: ConfigMap) -> Option<String> {
    map.data?.remove(RULES_KEY)
}
