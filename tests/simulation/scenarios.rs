//! Faults, and what they may cost.

use std::time::Duration;

use forebay::balance::Choice;
use forebay::health::check::Rhythm;
use forebay::health::detector::{Chosen, KINDS};
use forebay::health::pool::{Ejection, HealthSettings};
use forebay::model::options::{Options, Sink};

use crate::endpoint::Mood;
use crate::pool::{Plan, run};
use crate::report::{Fault, HEAD, Report, report};

/// Every detector, as it is by default.
pub(crate) fn detectors() -> Vec<Chosen> {
    let sink = Sink::default();
    let chosen = |kind: &'static forebay::health::detector::Kind| {
        let options = Options::root(&[], &sink);
        let make = (kind.read)(&options);
        options.finish();
        Chosen { kind, mode: kind.mode, make }
    };
    KINDS.iter().map(chosen).collect()
}

#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    endpoints: usize,
    /// Requests per second.
    rate: f64,
    /// How many endpoints the fault befalls.
    faulty: usize,
    /// In seconds.
    from: u64,
    to: u64,
    lasts: u64,
    checked: bool,
    mood: fn(usize, Duration) -> Mood,
    bounds: Bounds,
}

/// What a fault may cost at most, with either policy and any seed.
#[derive(Clone, Copy)]
struct Bounds {
    /// Failures that clients see; of requests that come after the fault, none.
    failed: usize,
    /// Seconds until all whom it befalls are ejected, where the policy goes on sending them requests.
    ejected: Option<f64>,
    /// Ejections of others, or with all others.
    false_ejections: usize,
    /// The 99th percentile in the second half of the fault, as a multiple of what it was before.
    p99: u32,
    /// Whether it is noticed that all degrade together.
    correlated: bool,
}

/// For how long the fault of most scenarios lasts.
const FROM: Duration = Duration::from_secs(10);
const TO: Duration = Duration::from_secs(40);

fn first(endpoint: usize, now: Duration, mood: Mood) -> Mood {
    if endpoint == 0 && now >= FROM && now < TO { mood } else { Mood::Well }
}

fn all(now: Duration, mood: Mood) -> Mood {
    if now >= FROM && now < TO { mood } else { Mood::Well }
}

const USUAL: Scenario = Scenario {
    name: "",
    endpoints: 4,
    rate: 200.0,
    faulty: 1,
    from: 10,
    to: 40,
    lasts: 100,
    checked: false,
    mood: |_, _| Mood::Well,
    bounds: Bounds { failed: 0, ejected: None, false_ejections: 0, p99: 2, correlated: false },
};

const SEEDS: u64 = 3;

/// Plays a scenario with several seeds: the worst of each policy.
fn play(scenario: &Scenario) -> Vec<(Choice, Report)> {
    let policies = ["round_robin", "peak_ewma"].into_iter().filter_map(Choice::named);
    let worst = |policy| {
        let reports: Vec<_> = (0..SEEDS).map(|seed| once(scenario, policy, seed)).collect();
        (policy, Report::worst(&reports))
    };
    policies.map(worst).collect()
}

fn once(scenario: &Scenario, policy: Choice, seed: u64) -> Report {
    let health = HealthSettings {
        checks: scenario.checked.then(Rhythm::default),
        detectors: detectors(),
        ejection: Ejection::default(),
        slow_start: Duration::from_secs(10),
    };
    let lasts = Duration::from_secs(scenario.lasts);
    let Scenario { endpoints, rate, mood, .. } = *scenario;
    let story = run(Plan { endpoints, rate, lasts, policy, health, mood, seed });
    let (from, to) = (Duration::from_secs(scenario.from), Duration::from_secs(scenario.to));
    let report = report(&story, Fault { from, to, endpoints: scenario.faulty }, endpoints, lasts);
    if std::env::var_os("FOREBAY_STORY").is_some() {
        println!("{}, {policy:?}, seed {seed}: {report:?}", scenario.name);
        for (at, change) in &story.changes {
            println!("{:8.3} {:?} {:?} {:?}", at.as_secs_f64(), change.endpoint, change.state, change.what);
        }
    }
    report
}

fn check(scenario: &Scenario) {
    let bounds = scenario.bounds;
    for (policy, worst) in play(scenario) {
        let name = scenario.name;
        assert!(worst.failed <= bounds.failed, "{name}, {policy:?}: {worst:?}");
        assert_eq!(worst.failed_after, 0, "{name}, {policy:?}: {worst:?}");
        assert!(worst.false_ejections <= bounds.false_ejections, "{name}, {policy:?}: {worst:?}");
        assert_eq!(worst.correlated, bounds.correlated, "{name}, {policy:?}: {worst:?}");
        assert!(worst.p99 <= worst.p99_before * bounds.p99, "{name}, {policy:?}: {worst:?}");
        if let Some(seconds) = bounds.ejected.filter(|_| policy.name() == "round_robin") {
            let within = Duration::from_secs_f64(seconds);
            assert!(
                worst.ejected_after.is_some_and(|after| after <= within),
                "{name}, {policy:?}: {worst:?}"
            );
            assert!(worst.fairness > 0.9, "{name}, {policy:?}: {worst:?}");
        }
    }
}

#[test]
#[ignore = "prints the table that the documentation quotes"]
fn table() {
    println!("{HEAD}");
    for scenario in SCENARIOS {
        for (policy, worst) in play(scenario) {
            println!("{}", worst.row(scenario.name, policy.name()));
        }
    }
}

macro_rules! scenarios {
    ($($name:ident = $scenario:expr;)+) => {$(
        #[test]
        fn $name() {
            check(&$scenario);
        }
    )+
        const SCENARIOS: &[Scenario] = &[$($scenario),+];
    };
}

scenarios! {
    dead = Scenario {
        name: "refuses connections",
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        bounds: Bounds { ejected: Some(0.5), ..USUAL.bounds },
        ..USUAL
    };
    hung = Scenario {
        name: "hangs",
        mood: |endpoint, now| first(endpoint, now, Mood::Hangs),
        bounds: Bounds { failed: 110, ejected: Some(2.0), ..USUAL.bounds },
        ..USUAL
    };
    slow = Scenario {
        name: "20 times slower",
        mood: |endpoint, now| first(endpoint, now, Mood::Slow(20)),
        bounds: Bounds { ejected: Some(8.0), ..USUAL.bounds },
        ..USUAL
    };
    half_fail = Scenario {
        name: "fails half",
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.5)),
        bounds: Bounds { failed: 15, ejected: Some(1.0), ..USUAL.bounds },
        ..USUAL
    };
    third_truncated = Scenario {
        name: "cuts off 30 %",
        mood: |endpoint, now| first(endpoint, now, Mood::Truncates(0.3)),
        bounds: Bounds { failed: 30, ejected: Some(2.0), ..USUAL.bounds },
        ..USUAL
    };
    behind_a_passing_check = Scenario {
        name: "fails 30 %, its check passes",
        checked: true,
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.3)),
        bounds: Bounds { failed: 30, ejected: Some(2.0), ..USUAL.bounds },
        ..USUAL
    };
    dead_and_checked = Scenario {
        name: "refuses connections, is checked",
        checked: true,
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        bounds: Bounds { ejected: Some(0.5), ..USUAL.bounds },
        ..USUAL
    };
    flapping = Scenario {
        name: "flaps: refuses 3 s of 6",
        mood: |endpoint, now| {
            let down = now.as_secs() / 3 % 2 == 1;
            first(endpoint, now, if down { Mood::Refuses } else { Mood::Well })
        },
        bounds: Bounds { ejected: Some(0.5), ..USUAL.bounds },
        ..USUAL
    };
    cold_start = Scenario {
        name: "all are 10 times slower in their first 3 to 5 s",
        faulty: 0, to: 20, lasts: 30,
        mood: |endpoint, now| {
            let cold = 3 + endpoint as u64 % 3;
            if now.as_secs() < cold { Mood::Slow(10) } else { Mood::Well }
        },
        ..USUAL
    };
    restart = Scenario {
        name: "refuses connections for 5 s, then 10 times slower for 5 s",
        to: 20,
        mood: |endpoint, now| match now.as_secs() {
            10..15 if endpoint == 0 => Mood::Refuses,
            15..20 if endpoint == 0 => Mood::Slow(10),
            _ => Mood::Well,
        },
        // A thousand requests only: those that take ten times as long by chance are up to 1 % of them.
        bounds: Bounds { ejected: Some(0.5), p99: 3, ..USUAL.bounds },
        ..USUAL
    };
    all_slow = Scenario {
        name: "all 20 times slower",
        faulty: 0,
        mood: |_, now| all(now, Mood::Slow(20)),
        bounds: Bounds { p99: 25, ..USUAL.bounds },
        ..USUAL
    };
    all_fail_half = Scenario {
        name: "all fail half",
        faulty: 0, lasts: 60,
        mood: |_, now| all(now, Mood::Fails(0.5)),
        bounds: Bounds { failed: 3_150, false_ejections: 2, correlated: true, ..USUAL.bounds },
        ..USUAL
    };
    one_of_two_dead = Scenario {
        name: "one of two refuses connections",
        endpoints: 2,
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        bounds: Bounds { ejected: Some(0.5), ..USUAL.bounds },
        ..USUAL
    };
    one_of_two_fails = Scenario {
        name: "one of two fails 30 %",
        endpoints: 2,
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.3)),
        bounds: Bounds { failed: 30, ejected: Some(2.0), ..USUAL.bounds },
        ..USUAL
    };
    one_of_twenty_a_little_worse = Scenario {
        name: "one of twenty fails 1 %, the others 0.1 %",
        endpoints: 20, rate: 500.0, faulty: 0, from: 10, to: 60, lasts: 60,
        mood: |endpoint, _| Mood::Fails(if endpoint == 0 { 0.01 } else { 0.001 }),
        bounds: Bounds { failed: 80, p99: 100, ..USUAL.bounds },
        ..USUAL
    };
    a_third_of_twelve_fail = Scenario {
        name: "four of twelve fail 30 %",
        endpoints: 12, rate: 300.0, faulty: 4,
        mood: |endpoint, now| if endpoint < 4 { all(now, Mood::Fails(0.3)) } else { Mood::Well },
        bounds: Bounds { failed: 80, ejected: Some(2.5), ..USUAL.bounds },
        ..USUAL
    };
    outage = Scenario {
        name: "all refuse connections for 6 s",
        faulty: 0, to: 16, lasts: 50,
        mood: |_, now| if now >= FROM && now.as_secs() < 16 { Mood::Refuses } else { Mood::Well },
        bounds: Bounds { failed: 1_300, false_ejections: 2, correlated: true, ..USUAL.bounds },
        ..USUAL
    };
    comes_back_broken = Scenario {
        name: "fails all, for 100 s",
        to: 110, lasts: 180,
        mood: |endpoint, now| {
            let broken = endpoint == 0 && now >= FROM && now.as_secs() < 110;
            if broken { Mood::Fails(1.0) } else { Mood::Well }
        },
        bounds: Bounds { failed: 10, ejected: Some(0.5), ..USUAL.bounds },
        ..USUAL
    };
}
