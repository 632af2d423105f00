//! What keeps the agent from asking, and that it asks as soon as it can.

use jiff::Timestamp;

use super::desk::{Desk, LogOnPanic, PATIENCE, now};
use crate::harness::Tunnel;

#[tokio::test]
async fn an_api_server_that_cannot_be_reached_is_asked_again_and_again() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    let tunnel = Tunnel::start(desk.planes.workload().port()).await;
    let agent = desk.agent_through(&tunnel.server()).start();
    desk.until_rules(&agent, "ok").await;
    tunnel.go_dark();
    let begin = now();
    let pid = desk.start(&program);
    desk.until_logged(&agent, &["no answer within"]).await;
    // She has what she wanted of it and has closed it: her request holds.
    desk.programs.end(pid);
    let before = desk.requests();
    assert!(before.is_empty(), "{before}");
    let mended = now();
    tunnel.mend();
    let node = desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
    let _log = LogOnPanic(&agent);
    let requests = desk.requests();
    assert_eq!(requests.accepted().len(), 1, "{requests}");
    let millis = requests.0[0].ended.duration_since(mended).as_millis();
    eprintln!("line mended to PATCH acknowledged: {millis} ms");
    let at = super::desk::asked_at(&node);
    assert!(
        at < mended && at.duration_since(begin).as_secs() < 30,
        "when she was seen, not when it was heard"
    );
    let told = agent.log().lines().filter(|line| line.contains("nothing is written")).count();
    assert!(told <= 4, "each cause is told once and not each attempt: {}", agent.log());
}

#[tokio::test]
async fn another_hosts_id_is_refused_with_both_values_and_nothing_is_written() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    std::fs::write(desk.machine_id_path(), "somebody-elses\n").unwrap();
    let agent = desk.agent().start();
    desk.until_logged(&agent, &["rules in force"]).await;
    desk.start(&program);
    desk.until_logged(&agent, &["the owner's program runs"]).await;
    desk.until_logged(&agent, &["somebody-elses", &desk.machine_id(), "this host is not Node"]).await;
    // It goes on looking, by both its ways, and writes by neither.
    let looks = |calls: &crate::harness::audit::Calls| {
        calls.by(super::desk::USER).on("nodes").named(&desk.node).verb("get").len() >= 6
    };
    desk.planes.workload().audit().until(desk.mark, "read six times", PATIENCE, looks).await;
    assert!(desk.calls().writes().is_empty(), "{}", desk.calls());
    // The file is read each time: put right, it needs no restart.
    std::fs::write(desk.machine_id_path(), format!("{}\n", desk.machine_id())).unwrap();
    desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
    desk.until_rules(&agent, "ok").await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    // Nobody in particular, in the agent's place: it is told what it would need, and takes no part in anything.
    let nobody = desk.planes.workload().issue_kubeconfig("nobody-in-particular", &[]);
    let agent = desk.agent_with(&nobody).start();
    desk.until_logged(&agent, &["cannot list resource", "configmaps", &desk.object()]).await;
    desk.until_logged(&agent, &["cannot get resource", "nodes", &desk.node]).await;
    drop(agent);
    // With a Node that is not there any more.
    desk.nodes().delete(&desk.node, &kube::api::DeleteParams::default()).await.unwrap();
    let agent = desk.agent().start();
    desk.until_logged(&agent, &["there is no Node", &desk.node, "NODE_NAME"]).await;
    desk.start(&program);
    desk.until_logged(&agent, &["the owner's program runs"]).await;
    assert!(desk.calls().writes().is_empty(), "{}", desk.calls());
}

#[tokio::test]
async fn who_asks_for_it_is_believed_without_an_id_and_warned() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    std::fs::remove_file(desk.machine_id_path()).unwrap();
    let agent = desk.agent().arg("--skip-host-id-check").start();
    desk.until_logged(&agent, &["WARN", "host-identity check is OFF"]).await;
    desk.until_rules(&agent, "ok").await;
    desk.start(&program);
    desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
}
