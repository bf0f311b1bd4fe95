//! Shorthands for families with labels, so that a declaration says only name, labels and meaning.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::score::unit;

/// Names and values of `N` labels, in the order of their declaration.
type Labels<const N: usize> = [(&'static str, String); N];

/// Counters with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Counters<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, Counter>,
}

/// Whole numbers that go up and down, with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Gauges<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, Gauge>,
}

/// Fractions that go up and down, with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Fractions<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, Gauge<f64, AtomicU64>>,
}

/// Durations in seconds, in buckets, with `N` labels.
#[derive(Debug, Clone)]
pub(super) struct Seconds<const N: usize> {
    labels: [&'static str; N],
    family: Family<Labels<N>, Histogram, fn() -> Histogram>,
}

impl<const N: usize> Counters<N> {
    /// `name` is written without `_total`: the encoder adds it.
    pub(super) fn register(
        registry: &mut Registry,
        name: &str,
        labels: [&'static str; N],
        help: &str,
    ) -> Self {
        let family = registered(registry, name, help, Family::default());
        Self { labels, family }
    }

    pub(super) fn add(&self, values: [&str; N], n: u64) {
        self.family.get_or_create(&label_set(self.labels, values)).inc_by(n);
    }
}

impl<const N: usize> Gauges<N> {
    pub(super) fn register(
        registry: &mut Registry,
        name: &str,
        labels: [&'static str; N],
        help: &str,
    ) -> Self {
        let family = registered(registry, name, help, Family::default());
        Self { labels, family }
    }

    pub(super) fn set(&self, values: [&str; N], value: u64) {
        self.family.get_or_create(&label_set(self.labels, values)).set(whole(value));
    }

    /// Shows a series no more.
    pub(super) fn remove(&self, values: [&str; N]) {
        self.family.remove(&label_set(self.labels, values));
    }
}

impl<const N: usize> Fractions<N> {
    pub(super) fn register(
        registry: &mut Registry,
        name: &str,
        labels: [&'static str; N],
        help: &str,
    ) -> Self {
        let family = registered(registry, name, help, Family::default());
        Self { labels, family }
    }

    /// Sets a value between 0 and 1.
    pub(super) fn set_unit(&self, values: [&str; N], value: f64) {
        self.family.get_or_create(&label_set(self.labels, values)).set(unit(value));
    }

    pub(super) fn set_seconds(&self, values: [&str; N], value: Duration) {
        self.family.get_or_create(&label_set(self.labels, values)).set(value.as_secs_f64());
    }
}

impl<const N: usize> Seconds<N> {
    pub(super) fn register(
        registry: &mut Registry,
        name: &str,
        labels: [&'static str; N],
        buckets: fn() -> Histogram,
        help: &str,
    ) -> Self {
        let family = registered(registry, name, help, Family::new_with_constructor(buckets));
        Self { labels, family }
    }

    pub(super) fn observe(&self, values: [&str; N], took: Duration) {
        self.family.get_or_create(&label_set(self.labels, values)).observe(took.as_secs_f64());
    }
}

/// Registers `metric` and hands it back.
pub(super) fn registered<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a metric without labels, below `alys_stream_`.
pub(super) fn plain<M>(registry: &mut Registry, suffix: &str, help: &str) -> M
where
    M: Metric + Clone + Default,
{
    registered(registry, &format!("alys_stream_{suffix}"), help, M::default())
}

/// A gauge holds what the exposition can show: more than `i64::MAX` of anything is shown as that.
pub(super) fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn label_set<const N: usize>(labels: [&'static str; N], values: [&str; N]) -> Labels<N> {
    std::array::from_fn(|i| (labels[i], values[i].to_owned()))
}
