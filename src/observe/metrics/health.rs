//! What is measured of health: the state of endpoints, what detectors found, how checks went. The
//! control thread writes all of it, when something changes; nothing here is on a request's path.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::endpoint::EndpointLabels;
use super::exposition::{Exposition, Labels, Title, labels};
use super::histogram::{Bounds, Distribution, Histogram};
use super::seats::Seat;
use crate::balance::{FULL, Gauge};
use crate::health::{Standing, State};
use crate::model::Name;
use crate::observe::shard::{Shard, Sharded};

/// The health of one endpoint, as it is shown.
#[derive(Debug)]
pub struct EndpointHealth {
    state: AtomicU8,
    up: AtomicBool,
    /// Whether it is no part of its pool any more.
    gone: AtomicBool,
    disagrees: AtomicBool,
    ejections: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
    gauge: Mutex<Arc<Gauge>>,
    seat: Arc<Seat>,
}

/// What is counted of the health of one endpoint, or of several together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HealthCounts {
    ejections: u64,
    passed: u64,
    failed: u64,
}

/// The health of one pool, as it is shown.
#[derive(Debug)]
pub struct PoolHealthMetrics {
    failed_open: AtomicBool,
    correlated: AtomicBool,
    detectors: Mutex<BTreeMap<&'static str, Findings>>,
    checks: Sharded<Histogram>,
    bounds: Arc<Bounds>,
}

/// What a detector found and what came of it. The two are counted as a pair.
#[derive(Clone, Copy, Debug, Default)]
struct Findings {
    detected: u64,
    enforced: u64,
}

impl EndpointHealth {
    pub(super) fn new(gauge: Arc<Gauge>, seat: Arc<Seat>) -> Self {
        Self {
            state: AtomicU8::new(State::Up as u8),
            up: AtomicBool::new(true),
            gone: AtomicBool::new(false),
            disagrees: AtomicBool::new(false),
            ejections: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            gauge: Mutex::new(gauge),
            seat,
        }
    }

    /// Takes the weight's factor and the estimate from `gauge` from now on.
    pub(super) fn watch(&self, gauge: &Arc<Gauge>) {
        *self.gauge.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(gauge);
        self.gone.store(false, Ordering::Relaxed);
    }

    /// It is no part of its pool any more. What was counted of it is still to be shown.
    pub fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.up.store(false, Ordering::Relaxed);
    }

    /// What is done with it from now on, and whether its checks pass while its requests fail.
    pub fn stands(&self, standing: &Standing, disagrees: bool) {
        self.state.store(standing.state as u8, Ordering::Relaxed);
        self.up.store(standing.available, Ordering::Relaxed);
        self.disagrees.store(disagrees, Ordering::Relaxed);
    }

    /// It was ejected.
    pub fn ejected(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// It was checked.
    pub fn checked(&self, passed: bool) {
        let count = if passed { &self.passed } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was ejected.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// How many checks passed, and how many failed.
    #[must_use]
    pub fn checks(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    pub(super) fn counts(&self) -> HealthCounts {
        let (passed, failed) = self.checks();
        HealthCounts { ejections: self.ejections(), passed, failed }
    }

    /// Whether it has series of its own.
    pub(super) fn is_own(&self) -> bool {
        self.seat.is_own()
    }

    fn state(&self) -> usize {
        usize::from(self.state.load(Ordering::Relaxed))
    }

    fn gauge(&self) -> Arc<Gauge> {
        Arc::clone(&self.gauge.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HealthCounts {
    pub(super) fn add(&mut self, other: Self) {
        self.ejections += other.ejections;
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl PoolHealthMetrics {
    pub(super) fn new(bounds: &Arc<Bounds>) -> Self {
        Self {
            failed_open: AtomicBool::new(false),
            correlated: AtomicBool::new(false),
            detectors: Mutex::default(),
            // The control thread alone writes.
            checks: Sharded::new(0),
            bounds: Arc::clone(bounds),
        }
    }

    /// Shows counts of this detector from now on, from zero unless there are some already.
    pub(super) fn introduce(&self, detector: &'static str) {
        self.detectors.lock().unwrap_or_else(PoisonError::into_inner).entry(detector).or_default();
    }

    /// A detector found so many outliers more, and so many of what it found were acted upon.
    pub fn found(&self, detector: &'static str, detected: u64, enforced: u64) {
        let mut detectors = self.detectors.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = detectors.entry(detector).or_default();
        findings.detected += detected;
        findings.enforced += enforced;
    }

    /// A check of one of the endpoints took this long. For the control thread alone.
    pub fn check_took(&self, took: Duration) {
        if let Some(checks) = self.checks.of(Shard::CONTROL) {
            checks.record(&self.bounds, took);
        }
    }

    fn checks(&self) -> Distribution {
        Distribution::of(&self.bounds, &self.checks, |checks| checks)
    }

    /// Whether too few endpoints are available, so that it is used as a whole or not at all.
    pub fn set_failed_open(&self, failed_open: bool) {
        self.failed_open.store(failed_open, Ordering::Relaxed);
    }

    /// Whether all degrade together.
    pub fn set_correlated(&self, correlated: bool) {
        self.correlated.store(correlated, Ordering::Relaxed);
    }
}

/// Adds what is known of the health of endpoints. Of the `others` that are shown together, only what can
/// be added up.
pub(super) fn expose_endpoints<'a>(
    endpoints: impl Iterator<Item = (&'a EndpointLabels, &'a EndpointHealth)> + Clone,
    others: impl Iterator<Item = (&'a EndpointLabels, HealthCounts)>,
    out: &mut Exposition,
) {
    let states = endpoints.clone().flat_map(|(of, health)| {
        let now = health.state();
        let sample = move |state: &State| {
            (of.labels_with("state", state.name()), f64::from(u8::from(*state as usize == now)))
        };
        State::ALL.iter().map(sample).collect::<Vec<_>>()
    });
    out.gauge(STATE, states);
    let flag = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
    out.gauge(UP, endpoints.clone().map(|(of, health)| (of.labels(), flag(&health.up))));
    out.gauge(DISAGREEMENT, endpoints.clone().map(|(of, health)| (of.labels(), flag(&health.disagrees))));
    let counts: Vec<_> = endpoints.clone().map(|(of, health)| (of, health.counts())).chain(others).collect();
    out.counter(EJECTIONS, counts.iter().map(|(of, counts)| (of.labels(), counts.ejections as f64)));
    let factor = |health: &EndpointHealth| f64::from(health.gauge().factor()) / f64::from(FULL);
    out.gauge(FACTOR, endpoints.clone().map(|(of, health)| (of.labels(), factor(health))));
    let estimates = endpoints.filter_map(|(of, health)| {
        let (estimate, _) = health.gauge().estimate()?;
        Some((of.labels(), estimate.as_secs_f64()))
    });
    out.gauge(ESTIMATE, estimates);
    // An endpoint that is not checked has no results, rather than none that passed.
    let checked = counts.iter().filter(|(_, counts)| (counts.passed, counts.failed) != (0, 0));
    let results = checked.flat_map(|(of, HealthCounts { passed, failed, .. })| {
        [
            (of.labels_with("result", "pass"), *passed as f64),
            (of.labels_with("result", "fail"), *failed as f64),
        ]
    });
    out.counter(CHECKS, results);
}

/// Adds what is known of the health of pools; `states` counts each pool's endpoints, in the order of
/// [`State::ALL`].
pub(super) fn expose_pools<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a PoolHealthMetrics)> + Clone,
    states: &BTreeMap<&Name, [u32; State::ALL.len()]>,
    out: &mut Exposition,
) {
    let of = |pool: &Name| labels([("pool", pool.as_str())]);
    let by_state = states.iter().flat_map(|(pool, counts)| {
        let sample = |(state, count): (&State, &u32)| {
            (labels([("pool", pool.as_str()), ("state", state.name())]), f64::from(*count))
        };
        State::ALL.iter().zip(counts).map(sample).collect::<Vec<_>>()
    });
    out.gauge(ENDPOINTS, by_state);
    let flag = |flag: &AtomicBool| f64::from(u8::from(flag.load(Ordering::Relaxed)));
    out.gauge(FAILED_OPEN, pools.clone().map(|(pool, health)| (of(pool), flag(&health.failed_open))));
    out.gauge(CORRELATED, pools.clone().map(|(pool, health)| (of(pool), flag(&health.correlated))));
    out.counter(DETECTED, pools.clone().flat_map(|(pool, health)| findings(pool, health, |of| of.detected)));
    out.counter(ENFORCED, pools.clone().flat_map(|(pool, health)| findings(pool, health, |of| of.enforced)));
    let durations = pools.map(|(pool, health)| (of(pool), health.checks()));
    out.histogram(CHECK_DURATION, durations.filter(|(_, durations)| durations.count() > 0));
}

/// How many endpoints of each pool are in each state, in the order of [`State::ALL`].
pub(super) fn count_states<'a>(
    pools: impl Iterator<Item = &'a Name>,
    endpoints: impl Iterator<Item = (&'a EndpointLabels, &'a EndpointHealth)>,
) -> BTreeMap<&'a Name, [u32; State::ALL.len()]> {
    let mut counts: BTreeMap<_, [u32; State::ALL.len()]> =
        pools.map(|pool| (pool, Default::default())).collect();
    for (of, health) in endpoints.filter(|(_, health)| !health.gone.load(Ordering::Relaxed)) {
        if let Some(count) = counts.entry(&of.pool).or_default().get_mut(health.state()) {
            *count += 1;
        }
    }
    counts
}

fn findings(pool: &Name, health: &PoolHealthMetrics, count: fn(&Findings) -> u64) -> Vec<(Labels, f64)> {
    let detectors = health.detectors.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |(detector, findings): (&&'static str, &Findings)| {
        (labels([("pool", pool.as_str()), ("detector", detector)]), count(findings) as f64)
    };
    detectors.iter().map(sample).collect()
}

const STATE: Title =
    Title("forebay_endpoint_state", "1 for the state that the endpoint is in, 0 for others.");

const UP: Title = Title("forebay_endpoint_up", "1 while the endpoint may get traffic as a rule.");

const DISAGREEMENT: Title =
    Title("forebay_endpoint_disagreement", "1 while checks of the endpoint pass and its requests fail.");

const EJECTIONS: Title =
    Title("forebay_endpoint_ejections_total", "Ejections of the endpoint as an outlier.");

const FACTOR: Title = Title(
    "forebay_endpoint_weight_factor",
    "Part of its weight that the endpoint gets: less than 1 in slow start or when degraded.",
);

const ESTIMATE: Title = Title(
    "forebay_endpoint_latency_estimate_seconds",
    "Time to the first byte as policies estimate it, by a peak EWMA.",
);

const CHECKS: Title = Title("forebay_endpoint_checks_total", "Active checks of the endpoint, by result.");

const ENDPOINTS: Title = Title("forebay_pool_endpoints", "Endpoints of the pool, by state.");

const FAILED_OPEN: Title = Title(
    "forebay_pool_failed_open",
    "1 while too few endpoints are available, so that all are tried, or none.",
);

const CORRELATED: Title = Title(
    "forebay_pool_correlated_failure",
    "1 while all endpoints degrade together, so that nobody is ejected.",
);

const DETECTED: Title = Title("forebay_outlier_detected_total", "Outliers that the detector found.");

const ENFORCED: Title =
    Title("forebay_outlier_enforced_total", "Outliers that the detector found and that were acted upon.");

const CHECK_DURATION: Title =
    Title("forebay_pool_check_duration_seconds", "How long active checks of the pool's endpoints took.");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::metrics::Registry;

    fn text(registry: &Registry) -> String {
        String::from_utf8(registry.render()).unwrap()
    }

    #[test]
    fn an_endpoint_is_in_one_state() {
        let registry = Registry::new(1);
        let pool = Name::new("app").unwrap();
        let gauge = Arc::new(Gauge::new(1, crate::ambient::now()));
        let handle = registry.endpoint_health(&pool, "127.0.0.1:1", &gauge);
        let _pool = registry.pool_health(&pool, ["failure_rate"].into_iter());
        let ejected = Standing {
            state: State::Ejected,
            available: false,
            excluded: false,
            on_trial: false,
            factor: FULL,
        };
        handle.stands(&ejected, true);
        handle.ejected();
        gauge.set_factor(100);
        let text = text(&registry);
        let of = r#"pool="app",endpoint="127.0.0.1:1""#;
        for line in [
            format!("forebay_endpoint_state{{{of},state=\"ejected\"}} 1"),
            format!("forebay_endpoint_state{{{of},state=\"up\"}} 0"),
            format!("forebay_endpoint_up{{{of}}} 0"),
            format!("forebay_endpoint_disagreement{{{of}}} 1"),
            format!("forebay_endpoint_ejections_total{{{of}}} 1"),
            format!("forebay_endpoint_weight_factor{{{of}}} 0.1"),
            "forebay_pool_endpoints{pool=\"app\",state=\"ejected\"} 1".to_owned(),
            "forebay_pool_endpoints{pool=\"app\",state=\"up\"} 0".to_owned(),
            "forebay_outlier_detected_total{pool=\"app\",detector=\"failure_rate\"} 0".to_owned(),
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "no {line} in:\n{text}");
        }
        assert!(!text.contains("forebay_endpoint_checks_total"), "nobody was checked");
        assert!(!text.contains("latency_estimate"), "nothing was measured");
    }

    #[test]
    fn findings_are_pairs() {
        let registry = Registry::new(1);
        let pool = registry.pool_health(&Name::new("app").unwrap(), ["latency"].into_iter());
        pool.found("latency", 1, 1);
        pool.found("latency", 1, 0);
        pool.check_took(Duration::from_millis(3));
        let text = text(&registry);
        let of = r#"{pool="app",detector="latency"}"#;
        assert!(text.contains(&format!("forebay_outlier_detected_total{of} 2\n")), "{text}");
        assert!(text.contains(&format!("forebay_outlier_enforced_total{of} 1\n")), "{text}");
        assert!(text.contains("forebay_pool_check_duration_seconds_count{pool=\"app\"} 1\n"), "{text}");
    }
}
