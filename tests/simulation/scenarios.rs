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
pub fn detectors() -> Vec<Chosen> {
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
    bounds: fn(&Report),
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
    bounds: |_| {},
};

const SEEDS: u64 = 3;

fn play(scenario: &Scenario) {
    let mut rows = Vec::new();
    for policy in ["round_robin", "peak_ewma"].into_iter().filter_map(Choice::named) {
        let mut reports = Vec::new();
        for seed in 0..SEEDS {
            let health = HealthSettings {
                checks: scenario.checked.then(Rhythm::default),
                detectors: detectors(),
                ejection: Ejection::default(),
                slow_start: Duration::from_secs(10),
            };
            let lasts = Duration::from_secs(scenario.lasts);
            let plan = Plan {
                endpoints: scenario.endpoints,
                rate: scenario.rate,
                lasts,
                policy,
                health,
                mood: scenario.mood,
                seed,
            };
            let story = run(plan);
            if std::env::var_os("FOREBAY_STORY").is_some() {
                for (at, change) in &story.changes {
                    println!(
                        "{:8.3} {:?} {:?} {:?}",
                        at.as_secs_f64(),
                        change.endpoint,
                        change.state,
                        change.what
                    );
                }
            }
            let fault = Fault {
                from: Duration::from_secs(scenario.from),
                to: Duration::from_secs(scenario.to),
                endpoints: scenario.faulty,
            };
            reports.push(report(&story, fault, scenario.endpoints, lasts));
        }
        let worst = Report::worst(&reports);
        rows.push(worst.row(scenario.name, policy.name()));
        println!("{}\n{}", HEAD, rows.last().expect("one was pushed"));
        println!("{worst:?}");
        (scenario.bounds)(&worst);
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(seconds))
}

macro_rules! scenarios {
    ($($name:ident = $scenario:expr;)+) => {$(
        #[test]
        fn $name() {
            play(&$scenario);
        }
    )+};
}

scenarios! {
    dead = Scenario {
        name: "refuses connections",
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        ..USUAL
    };
    hung = Scenario {
        name: "hangs",
        mood: |endpoint, now| first(endpoint, now, Mood::Hangs),
        ..USUAL
    };
    slow = Scenario {
        name: "20 times slower",
        mood: |endpoint, now| first(endpoint, now, Mood::Slow(20)),
        ..USUAL
    };
    half_fail = Scenario {
        name: "fails half",
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.5)),
        ..USUAL
    };
    third_truncated = Scenario {
        name: "cuts off 30 %",
        mood: |endpoint, now| first(endpoint, now, Mood::Truncates(0.3)),
        ..USUAL
    };
    behind_a_passing_check = Scenario {
        name: "fails 30 %, its check passes",
        checked: true,
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.3)),
        ..USUAL
    };
    dead_and_checked = Scenario {
        name: "refuses connections, is checked",
        checked: true,
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        ..USUAL
    };
    flapping = Scenario {
        name: "flaps: refuses 3 s of 6",
        mood: |endpoint, now| {
            let down = now.as_secs() / 3 % 2 == 1;
            first(endpoint, now, if down { Mood::Refuses } else { Mood::Well })
        },
        ..USUAL
    };
    cold_start = Scenario {
        name: "all cold: 10 times slower at first",
        faulty: 0, from: 0, to: 5, lasts: 30,
        mood: |endpoint, now| {
            let cold = 3 + endpoint as u64 % 3;
            if now.as_secs() < cold { Mood::Slow(10) } else { Mood::Well }
        },
        ..USUAL
    };
    all_slow = Scenario {
        name: "all 20 times slower",
        faulty: 0,
        mood: |_, now| all(now, Mood::Slow(20)),
        ..USUAL
    };
    all_fail_half = Scenario {
        name: "all fail half",
        faulty: 0, lasts: 60,
        mood: |_, now| all(now, Mood::Fails(0.5)),
        ..USUAL
    };
    one_of_two_dead = Scenario {
        name: "one of two refuses connections",
        endpoints: 2,
        mood: |endpoint, now| first(endpoint, now, Mood::Refuses),
        ..USUAL
    };
    one_of_two_fails = Scenario {
        name: "one of two fails 30 %",
        endpoints: 2,
        mood: |endpoint, now| first(endpoint, now, Mood::Fails(0.3)),
        ..USUAL
    };
    one_of_twenty_a_little_worse = Scenario {
        name: "one of twenty fails 1 %, the others 0.1 %",
        endpoints: 20, rate: 500.0, faulty: 0, lasts: 60,
        mood: |endpoint, _| Mood::Fails(if endpoint == 0 { 0.01 } else { 0.001 }),
        ..USUAL
    };
    a_third_of_twelve_fail = Scenario {
        name: "four of twelve fail 30 %",
        endpoints: 12, rate: 300.0, faulty: 4,
        mood: |endpoint, now| if endpoint < 4 { all(now, Mood::Fails(0.3)) } else { Mood::Well },
        ..USUAL
    };
    outage = Scenario {
        name: "all refuse connections for 6 s",
        faulty: 0, to: 16, lasts: 50,
        mood: |_, now| if now >= FROM && now.as_secs() < 16 { Mood::Refuses } else { Mood::Well },
        ..USUAL
    };
    comes_back_broken = Scenario {
        name: "fails all, for 100 s",
        to: 110, lasts: 180,
        mood: |endpoint, now| {
            let broken = endpoint == 0 && now >= FROM && now.as_secs() < 110;
            if broken { Mood::Fails(1.0) } else { Mood::Well }
        },
        ..USUAL
    };
}
