//! What the two ports show.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Page, Site};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{self, Registry};

/// `/metrics`.
pub fn metrics_site(registry: Arc<Registry>) -> Site {
    Arc::new(move |path| {
        (path == "/metrics").then(|| match metrics::text(&registry) {
            Ok(body) => Page { status: StatusCode::OK, content_type: metrics::CONTENT_TYPE, body },
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        })
    })
}

/// `/healthz`, `/readyz`, and `/health/status`: what both say, and `about`, an object of the role's own.
pub fn health_site(health: Health, about: impl Fn() -> Value + Send + Sync + 'static) -> Site {
    Arc::new(move |path| match path {
        "/healthz" => Some(verdict(health.stuck().iter().map(ToString::to_string).collect())),
        "/readyz" => Some(verdict(health.missing())),
        "/health/status" => Some(status(&health, about())),
        _ => None,
    })
}

fn verdict(wrong: Vec<String>) -> Page {
    if wrong.is_empty() {
        return Page::text(StatusCode::OK, "ok\n");
    }
    Page::text(StatusCode::SERVICE_UNAVAILABLE, wrong.into_iter().map(|line| line + "\n").collect::<String>())
}

fn status(health: &Health, about: Value) -> Page {
    let (stuck, missing) = (health.stuck(), health.missing());
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "alive": stuck.is_empty(),
        "ready": missing.is_empty(),
        "stuck": stuck.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "missing": missing,
    });
    if let (Value::Object(body), Value::Object(about)) = (&mut body, about) {
        body.extend(about);
    }
    Page { status: StatusCode::OK, content_type: "application/json", body: format!("{body:#}\n") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shown(site: &Site, path: &str) -> (u16, String) {
        let page = site(path).unwrap();
        (page.status.as_u16(), page.body)
    }

    #[test]
    fn what_is_stuck_or_missing_is_named() {
        let health = Health::default();
        let site = health_site(health.clone(), || json!({"caches": {"machines": 3}}));
        assert_eq!(shown(&site, "/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(shown(&site, "/readyz"), (200, "ok\n".to_owned()));
        let _pulse = health.pulse("passes", Duration::ZERO);
        health.needs("caches", || Err("Machines are not listed yet".to_owned()));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(shown(&site, "/healthz"), (503, "passes: no sign of life for 0 s\n".to_owned()));
        assert_eq!(shown(&site, "/readyz"), (503, "caches: Machines are not listed yet\n".to_owned()));
        let (code, body) = shown(&site, "/health/status");
        let status: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &status["alive"], &status["ready"]), (200, &json!(false), &json!(false)));
        assert_eq!(status["caches"]["machines"], 3);
        assert!(site("/health").is_none() && site("/healthz/").is_none() && site("/metrics").is_none());
    }

    #[test]
    fn metrics_have_their_own_port_and_nothing_else_is_there() {
        let mut registry = Registry::default();
        metrics::counter(&mut registry, "things_total", "Things");
        let site = metrics_site(Arc::new(registry));
        let (code, body) = shown(&site, "/metrics");
        assert!(code == 200 && body.contains("things_total 0\n") && body.ends_with("# EOF\n"), "{body}");
        assert!(site("/").is_none() && site("/healthz").is_none());
    }
}
