//! What the controller says of itself over HTTP is true.

use serde_json::{Value, json};

use crate::harness::Controller;
use crate::harness::proxy::status_body;
use crate::harness::wait::answered_until;
use crate::world::{PATIENCE, World, is_true};

/// One scrape, by series.
struct Scrape(String);

impl Scrape {
    async fn of(controller: &Controller) -> Self {
        Self(controller.scrape().await.expect("somebody answers"))
    }

    /// Of a series, as it is written there.
    fn value(&self, series: &str) -> f64 {
        let found = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {series} in {}", self.0)).parse().unwrap()
    }

    fn shows(&self, expected: &[(&str, f64)]) -> bool {
        expected.iter().all(|(series, value)| (self.value(series) - value).abs() < f64::EPSILON)
    }
}

/// Scrapes until it shows all of these: the status is seen by others before it is counted.
async fn until_shown(world: &World, expected: &[(&str, f64)]) -> Scrape {
    answered_until(&format!("{expected:?}"), PATIENCE, async || {
        let scrape = Scrape::of(&world.controller).await;
        if scrape.shows(expected) { Ok(scrape) } else { Err(scrape.0) }
    })
    .await
}

#[tokio::test]
async fn metrics_tell_the_life_of_a_machine_as_it_was() {
    let world = World::start("metrics").await;
    let _log = world.log_on_panic();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    world.until(&name, "reachable", |sm| is_true(sm, "WorkloadReachable")).await;
    until_shown(
        &world,
        &[
            ("fivespot_machines_active", 1.0),
            ("fivespot_machines_by_phase{phase=\"Active\"}", 1.0),
            ("fivespot_machines_by_phase{phase=\"Pending\"}", 0.0),
            ("fivespot_workload_clusters{state=\"connected\"}", 1.0),
            ("fivespot_edge_lag_seconds_count{edge=\"open\"}", 1.0),
            ("fivespot_ready_after_edge_seconds_count", 1.0),
        ],
    )
    .await;

    world.edit(&name, json!({"killSwitch": true})).await;
    world.until_settled(&name, "Terminated").await;
    until_shown(
        &world,
        &[
            ("fivespot_kill_switch_activations_total", 1.0),
            ("fivespot_handback_seconds_count{path=\"eject\"}", 1.0),
            ("fivespot_emergency_drain_duration_seconds_count{outcome=\"success\"}", 1.0),
            ("fivespot_edge_lag_seconds_count{edge=\"close\"}", 1.0),
            ("fivespot_machines_active", 0.0),
            ("fivespot_machines_by_phase{phase=\"Terminated\"}", 1.0),
        ],
    )
    .await;

    goes_once_more_and_gently(&world, &name).await;
}

async fn goes_once_more_and_gently(world: &World, name: &str) {
    world.edit(name, json!({"killSwitch": false})).await;
    world.until_settled(name, "Active").await;
    world.edit(name, json!({"schedule": {"enabled": false}})).await;
    world.until_settled(name, "Disabled").await;
    world.until_nothing_left(name).await;
    let scrape = until_shown(
        world,
        &[
            ("fivespot_handback_seconds_count{path=\"graceful\"}", 1.0),
            ("fivespot_handback_seconds_count{path=\"eject\"}", 1.0),
            ("fivespot_edge_lag_seconds_count{edge=\"open\"}", 2.0),
            ("fivespot_edge_lag_seconds_count{edge=\"close\"}", 2.0),
            ("fivespot_kill_switch_activations_total", 1.0),
            ("fivespot_machines_by_phase{phase=\"Disabled\"}", 1.0),
            ("fivespot_machines_overdue{direction=\"out\"}", 0.0),
            ("fivespot_finalizer_cleanup_timeouts_total", 0.0),
        ],
    )
    .await;
    assert!(scrape.value("fivespot_schedule_evaluations_total{result=\"active\"}") > 0.0);
    assert!(scrape.value("fivespot_reconciliations_total{phase=\"Active\",result=\"success\"}") > 0.0);
    assert!(scrape.value("fivespot_edge_lag_seconds_sum{edge=\"open\"}") < 60.0);
    // Calls are counted as the API server saw them; of those that come once in a while, none is on its way now.
    for (verb, resource, code, counted) in
        [("create", "machines", 201, "201"), ("delete", "machines", 200, "200")]
    {
        let series = format!(
            "fivespot_api_requests_total{{verb=\"{verb}\",resource=\"{resource}\",code=\"{counted}\"}}"
        );
        let seen = world.calls().verb(verb).on(resource).only(|call| call.code == code).len();
        assert!(
            (scrape.value(&series) - f64::from(u32::try_from(seen).unwrap())).abs() < 0.5,
            "{series}: {seen}"
        );
        // A DELETE is said once more while a watch stalls.
        assert!(seen == 2 || (verb == "delete" && seen > 2), "{verb} {resource}: {seen}");
    }
}

/// Asks until the answer has that status.
async fn until_answered(world: &World, path: &str, status: u16) -> String {
    answered_until(&format!("{path} {status}"), PATIENCE, async || {
        match world.controller.health(path).await {
            Some((found, body)) if found == status => Ok(body),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn ready_follows_the_api_server_and_alive_does_not() {
    let (world, proxy) = World::start_through("ready").await;
    let _log = world.log_on_panic();
    until_answered(&world, "/readyz", 200).await;
    let status: Value = serde_json::from_str(&until_answered(&world, "/health/status", 200).await).unwrap();
    assert_eq!(status["clusterApi"]["state"], "served", "{status}");
    assert_eq!(status["apiServer"]["trouble"], Value::Null, "{status}");
    proxy.cut();
    let told = until_answered(&world, "/readyz", 503).await;
    assert!(told.starts_with("API server: the API server has not answered for "), "{told}");
    assert_eq!(world.controller.health("/healthz").await.unwrap(), (200, "ok\n".to_owned()));
    proxy.mend();
    until_answered(&world, "/readyz", 200).await;
}

#[tokio::test]
async fn refused_calls_count_as_faults_and_not_as_silence() {
    let (tenant, user, proxy, setup) = World::prepare_through("faults").await;
    let forbidden = status_body(403, "Forbidden", "not today");
    proxy.answer(2, 403, forbidden, |entry| entry.method == "POST" && entry.path.contains("/machines"));
    let world = World::with(tenant, user, setup.start());
    let _log = world.log_on_panic();
    let name = world.tenant.unique("ws");
    world.create(&name, json!({})).await;
    world.until_settled(&name, "Active").await;
    let refused = "fivespot_api_requests_total{verb=\"create\",resource=\"machines\",code=\"403\"}";
    until_shown(&world, &[(refused, 2.0)]).await;
    until_answered(&world, "/readyz", 200).await;
}
