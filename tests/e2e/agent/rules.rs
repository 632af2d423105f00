//! The rules are what the ConfigMap says, at once, and for as long as they can be read.

use jiff::Timestamp;

use super::desk::{Desk, LogOnPanic, REASON, asked_at, name, now};
use kube::ResourceExt;

#[tokio::test]
async fn rules_are_read_anew_with_each_change_and_outlive_their_own_faults() {
    let mut desk = Desk::new().await;
    let (first, second) = (desk.program(), desk.program());
    let agent = desk.agent().start();
    desk.until_rules(&agent, "there is no ConfigMap").await;
    let pid = desk.start(&first);

    // What runs already counts when the rules come.
    desk.list(&first).await;
    let asked = desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
    assert!(asked.annotations()[REASON].contains(name(&first)), "{:?}", asked.annotations());
    desk.until_rules(&agent, "ok").await;
    desk.programs.end(pid);
    desk.answer().await;

    desk.list(&second).await;
    let begin = now();
    let pid = desk.start(&second);
    let asked = desk.until_asked(&agent, begin).await;
    assert!(asked.annotations()[REASON].contains(name(&second)), "{:?}", asked.annotations());
    desk.programs.end(pid);
    desk.answer().await;
    // Of no interest any more, from here to the end.
    desk.start(&first);

    // A fault: it is told with its line, and the rules before hold.
    desk.put_rules("match_commands = [\nmatch_comands = 3").await;
    desk.until_rules(&agent, "those before hold; line ").await;
    let begin = now();
    let pid = desk.start(&second);
    let asked = desk.until_asked(&agent, begin).await;
    assert!(asked.annotations()[REASON].contains(name(&second)), "{:?}", asked.annotations());
    assert_eq!(desk.requests().accepted().len(), 3, "{}", desk.requests());
    let faults = agent.log().lines().filter(|line| line.contains("are at fault")).count();
    assert_eq!(faults, 1, "told once: {}", agent.log());
    desk.programs.end(pid);
    desk.answer().await;
    desk.list(&second).await;
    desk.until_rules(&agent, "ok").await;

    // Without a ConfigMap nothing is looked for.
    desk.drop_rules().await;
    desk.until_rules(&agent, "there is no ConfigMap").await;
    let (before, begin) = (desk.requests().len(), now());
    desk.start(&second);
    let lease = desk.leases().get(&desk.object()).await.unwrap().spec.unwrap().renew_time;
    let _log = LogOnPanic(&agent);
    let renewed =
        |of: &k8s_openapi::api::coordination::v1::Lease| of.spec.as_ref().unwrap().renew_time != lease;
    crate::harness::eventually(&desk.leases(), &desk.object(), "renewed", super::desk::PATIENCE, renewed)
        .await;
    assert_eq!(desk.requests().len(), before, "{}", desk.requests());
    desk.list(&second).await;
    assert!(asked_at(&desk.until_asked(&agent, begin).await) >= begin);
}

#[tokio::test]
async fn one_look_uses_the_rules_of_the_cluster_and_writes_nothing() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    let look = async |desk: &Desk| {
        let agent = desk.agent().arg("--oneshot").start();
        crate::harness::wait::asked_until("ended", super::desk::PATIENCE, async || agent.ended().is_some())
            .await;
        let log = agent.log();
        let line = log.lines().find(|line| line.contains("isHealthy")).unwrap_or_else(|| panic!("{log}"));
        (agent.ended().unwrap().code(), serde_json::from_str::<serde_json::Value>(line).unwrap())
    };
    let (code, nothing) = look(&desk).await;
    assert_eq!((code, nothing["matches"].as_array().unwrap().len()), (Some(0), 0), "{nothing}");
    desk.list(&program).await;
    let pid = desk.start(&program);
    let (code, found) = look(&desk).await;
    assert_eq!((code, &found["matches"][0]["pid"]), (Some(0), &serde_json::json!(pid)), "{found}");
    desk.put_rules("match_comands = []").await;
    let (code, faulty) = look(&desk).await;
    assert_eq!((code, &faulty["isHealthy"]), (Some(1), &serde_json::json!(false)), "{faulty}");
    assert!(faulty["error"].as_str().unwrap().contains("match_comands"), "{faulty}");
    assert!(desk.calls().writes().is_empty(), "{}", desk.calls());
}
