//! What is counted and measured, as Prometheus scrapes it.
//!
//! Every series is there from the first scrape, and every label is out of a closed set: no name of an object is one. Roles
//! have a struct each, made once and handed on; nothing here is global. `docs/metrics.md` is made of the registry itself.

mod calls;
mod controller;
mod measure;
pub mod page;

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

pub use self::calls::Calls;
pub use self::controller::{ControllerMetrics, Eviction, PassTimer};
pub use self::measure::{DrainEnd, Edge, EjectEnd, Fault, Measure, Path, Stage};

/// Labels of one series: name and value, both spelled in the source.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Counters that differ in their labels.
pub type Counters<const N: usize> = Family<Labels<N>, Counter>;
/// Histograms that differ in their labels.
pub type Histograms<const N: usize> = Family<Labels<N>, Histogram, Buckets>;

/// Upper bounds of a histogram, rising; one without an upper bound comes by itself.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(pub &'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// The whole registry in the text format of `OpenMetrics`, see [`CONTENT_TYPE`].
///
/// # Errors
/// When a collector cannot write down what it has.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

/// What [`text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One counter. `name` ends in `_total`, as it is scraped.
pub fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    // The format appends it.
    registry.register(name.trim_end_matches("_total"), help, counter.clone());
    counter
}

/// Counters by label, all there from the start. `name` ends in `_total`, as it is scraped.
pub fn counters<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = Labels<N>>,
) -> Counters<N> {
    let family = Counters::default();
    registry.register(name.trim_end_matches("_total"), help, family.clone());
    for labels in series {
        drop(family.get_or_create(&labels));
    }
    family
}

/// One histogram.
pub fn histogram(registry: &mut Registry, name: &str, help: &str, buckets: Buckets) -> Histogram {
    let histogram = buckets.new_metric();
    registry.register(name, help, histogram.clone());
    histogram
}

/// Histograms by label, all there from the start.
pub fn histograms<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    buckets: Buckets,
    series: impl IntoIterator<Item = Labels<N>>,
) -> Histograms<N> {
    let family = Histograms::new_with_constructor(buckets);
    registry.register(name, help, family.clone());
    for labels in series {
        drop(family.get_or_create(&labels));
    }
    family
}
