//! The owner starts her program, and her request stands on the Node.

use jiff::Timestamp;
use kube::ResourceExt;

use super::desk::{Desk, LogOnPanic, REASON, REQUESTED, asked_at, name, now, said};

#[tokio::test]
async fn a_program_that_starts_stands_on_the_node_at_once_and_once_only() {
    let mut desk = Desk::new().await;
    let program = desk.program();
    desk.list(&program).await;
    let agent = desk.agent().start();
    let lease = desk.until_rules(&agent, "ok").await;
    assert_eq!(lease.owner_references()[0].name, desk.node);
    eprintln!("the agent sees by {} {}", said(&lease, "detector"), said(&lease, "fallback"));

    let begin = now();
    let pid = desk.start(&program);
    let node = desk.until_asked(&agent, begin).await;
    let _log = LogOnPanic(&agent);
    let annotations = node.annotations();
    assert_eq!(annotations[REQUESTED], "true");
    let reason = format!("process-match: {} (by name, pid {pid}", name(&program));
    assert!(annotations[REASON].starts_with(&reason), "{}", annotations[REASON]);
    assert!(asked_at(&node) <= Timestamp::now());
    assert_eq!((annotations["of"].as_str(), node.labels()["lent"].as_str()), ("somebody", "yes"));

    let requests = desk.requests();
    assert_eq!((requests.len(), requests.accepted().len()), (1, 1), "{requests}");
    let request = &requests.0[0];
    let millis = |at: Timestamp| at.duration_since(begin).as_millis();
    eprintln!(
        "exec to PATCH received {} ms, acknowledged {} ms",
        millis(request.received),
        millis(request.ended)
    );
    let looks = desk.calls().on("nodes").verb("get").until(request.received);
    assert!(!looks.is_empty(), "the Node was read before it was written: {}", desk.calls());

    // More of the same change nothing while the request stands: the agent has looked, and looks at its Node by itself.
    let looked = desk.calls().on("nodes").verb("get").len();
    desk.start(&program);
    let audit = desk.planes.workload().audit();
    let own = |calls: &crate::harness::audit::Calls| {
        calls.by(super::desk::USER).on("nodes").named(&desk.node).verb("get").len() >= looked + 3
    };
    audit.until(desk.mark, "read three times more", super::desk::PATIENCE, own).await;
    assert_eq!(desk.requests().len(), 1, "{}", desk.requests());
    assert_eq!(desk.nodes().get(&desk.node).await.unwrap().annotations(), node.annotations());
}

#[tokio::test]
async fn after_the_answer_what_still_runs_asks_anew_and_so_does_what_starts() {
    let (mut desk, program, agent) = Desk::watched().await;
    let pid = desk.start(&program);
    let first = desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;

    // It goes on running.
    desk.answer().await;
    let second = desk.until_asked(&agent, asked_at(&first)).await;
    assert!(asked_at(&second) > asked_at(&first));
    assert_eq!(desk.requests().accepted().len(), 2, "{}", desk.requests());

    // It is over, and the next one does not wait until the answer is noticed.
    desk.programs.end(pid);
    desk.answer().await;
    let begin = now();
    desk.start(&program);
    let third = desk.until_asked(&agent, begin).await;
    let request = desk.requests().accepted().0.pop().unwrap();
    let millis = request.ended.duration_since(begin).as_millis();
    eprintln!("exec to PATCH acknowledged after an answer: {millis} ms");
    assert!(asked_at(&third) >= begin);
    assert_eq!(desk.requests().accepted().len(), 3, "{}", desk.requests());
}

#[tokio::test]
async fn an_agent_that_starts_anew_asks_nothing_twice_and_moves_no_time() {
    let (mut desk, program, agent) = Desk::watched().await;
    desk.start(&program);
    let before = desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
    let mark = desk.planes.workload().audit().mark();
    let again = agent.again();
    // It sees the program, which still runs, and looks at the Node for it: once for that and once for its Lease.
    desk.until_logged(&again, &["the owner's program runs"]).await;
    let looks = |calls: &crate::harness::audit::Calls| {
        calls.by(super::desk::USER).on("nodes").named(&desk.node).verb("get").accepted().len() >= 3
    };
    desk.planes.workload().audit().until(mark, "read by the new one", super::desk::PATIENCE, looks).await;
    assert_eq!(desk.requests().len(), 1, "{}", desk.requests());
    let after = desk.nodes().get(&desk.node).await.unwrap();
    assert_eq!(after.annotations(), before.annotations());
    let ended = again.terminate(std::time::Duration::from_secs(10)).await;
    assert_eq!(ended.code(), Some(0), "{}", again.log());
}

#[tokio::test]
async fn a_node_made_anew_under_its_name_is_asked_for_anew() {
    let (mut desk, program, agent) = Desk::watched().await;
    desk.start(&program);
    let first = desk.until_asked(&agent, Timestamp::UNIX_EPOCH).await;
    // The token's claim is the name; where the pod goes with its Node, as it does in service, its agent is a new one.
    desk.nodes().delete(&desk.node, &kube::api::DeleteParams::default()).await.unwrap();
    desk.until_logged(&agent, &["there is no Node", &desk.node]).await;
    desk.make_node().await;
    let second = desk.until_asked(&agent, asked_at(&first)).await;
    assert_ne!(first.uid(), second.uid());
    assert_eq!(desk.requests().accepted().len(), 2, "{}", desk.requests());
}
