//! What is read of a pool, and what it is by default. What is said of faults is in `tests/config`.

use std::path::Path;
use std::time::Duration;

use crate::balance::{FailOpen, HashKey};
use crate::config::plan::PoolPlan;
use crate::config::read_str;
use crate::health::detector::{KINDS, Mode};
use crate::health::pool::{Ejection, SLOW_START};
use crate::model::options::{Data, FromValue, Value};
use crate::model::settings::{SameSite, Sticky};

/// The pool of these lines.
fn pool(lines: &str) -> PoolPlan {
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:8080\"\n[[route]]\npool = \"app\"\n[pool.app]\n{lines}\n"
    );
    let env = |_: &str| Some("7".to_owned());
    let plan = read_str("test.toml", &text, &env, Path::new("")).into_plan();
    plan.unwrap_or_else(|report| panic!("{report}")).pools.remove(0)
}

const ONE: &str = "endpoints = \"127.0.0.1:1\"\n";

/// The detectors that are not off, with their modes.
fn modes(lines: &str) -> Vec<(&'static str, Mode)> {
    let detectors = pool(&format!("{ONE}{lines}")).detectors;
    detectors.into_iter().map(|detector| (detector.kind.name, detector.mode)).collect()
}

#[test]
fn a_pool_has_its_defaults() {
    let pool = pool(ONE);
    assert_eq!((pool.hash_key, pool.balance_factor, pool.sticky), (HashKey::Client, None, None));
    assert_eq!((pool.fail_open, pool.ejection), (FailOpen::default(), Ejection::default()));
    assert_eq!(pool.slow_start, SLOW_START);
    let by_default = KINDS.iter().map(|kind| (kind.name, kind.mode)).filter(|(_, mode)| *mode != Mode::Off);
    assert_eq!(modes(""), by_default.collect::<Vec<_>>(), "detection is on");
}

#[test]
fn detectors_are_set_by_word_number_or_table() {
    for off in ["outlier = \"off\"", "outlier = false"] {
        assert_eq!(modes(off), [], "{off}");
    }
    let debug = |lines: &str| {
        let pool = pool(&format!("{ONE}{lines}"));
        let chosen = pool.detectors.iter().find(|chosen| chosen.kind.name == "consecutive_failures");
        chosen.map(|chosen| (chosen.mode, format!("{:?}", chosen.make)))
    };
    let mode = |lines: &str| debug(lines).map(|(mode, _)| mode);
    assert_eq!(mode("outlier.consecutive_failures = \"off\""), None);
    assert_eq!(mode("outlier.consecutive_failures = false"), None);
    assert_eq!(mode("outlier.consecutive_failures = \"observe\""), Some(Mode::Observe));
    assert_eq!(mode("outlier.consecutive_failures = { mode = \"off\" }"), None);
    let seven = debug("outlier.consecutive_failures = { count = 7 }");
    assert_ne!(seven, debug(""));
    assert_eq!(debug("outlier.consecutive_failures = 7"), seven);
    assert_eq!(debug("outlier.consecutive_failures = \"${SEVEN}\""), seven);
    assert_eq!(debug("outlier.consecutive_failures = 5"), debug("outlier = {}"));
}

#[test]
fn backups_come_after_every_priority() {
    let levels = |endpoints: &str| {
        let pool = pool(&format!("endpoints = [{endpoints}]"));
        pool.endpoints.iter().map(|endpoint| endpoint.level).collect::<Vec<_>>()
    };
    let (plain, backup) = ("\"127.0.0.1:1\"", "{ address = \"127.0.0.1:2\", backup = true }");
    let third = "{ address = \"127.0.0.1:3\", priority = 3 }";
    assert_eq!(levels(plain), [0]);
    assert_eq!(levels(&format!("{backup}, {plain}")), [1, 0]);
    assert_eq!(levels(&format!("{plain}, {backup}, {third}")), [0, 4, 3]);
    assert_eq!(levels(backup), [0]);
}

#[test]
fn sessions_and_emergencies_are_as_written() {
    let pool = pool(&format!(
        "{ONE}fail_open = \"fail\"\nfail_open_below = \"20%\"\nslow_start = \"0s\"\n\
         sticky = {{ cookie = \"c\", max_age = \"2m\", path = \"/p\", secure = true, same_site = \"none\" }}\n\
         outlier = {{ max_ejected = \"10%\", base_ejection = \"1s\", max_ejection = \"1m\", jitter = \"0%\" }}"
    ));
    assert_eq!(pool.fail_open, FailOpen { below: 0.2, try_all: false });
    let sticky = Sticky {
        cookie: "c".to_owned(),
        max_age: Some(Duration::from_secs(120)),
        path: "/p".to_owned(),
        secure: true,
        same_site: SameSite::None,
        ..Sticky::default()
    };
    assert_eq!(pool.sticky, Some(sticky));
    let (base, max) = (Duration::from_secs(1), Duration::from_secs(60));
    assert_eq!(pool.ejection, Ejection { base, max, jitter: 0.0, max_ejected: 0.1 });
    assert_eq!(pool.slow_start, Duration::ZERO);
}

#[test]
fn keys_and_factors_are_read_in_every_form() {
    let string = |text: &str| Value::new(0..0, Data::String(text.to_owned()));
    for (text, key) in [
        ("client", HashKey::Client),
        ("source", HashKey::Source),
        ("path", HashKey::Path),
        ("header:X-User", HashKey::Header("x-user".to_owned())),
        ("cookie:Session", HashKey::Cookie("Session".to_owned())),
        ("query:a:b", HashKey::Query("a:b".to_owned())),
    ] {
        assert_eq!(HashKey::from_value(&string(text)), Ok(key), "{text}");
    }
    let factor = |value: &Value| super::balance::Factor::from_value(value).map(|factor| factor.0);
    assert_eq!(factor(&string("125%")), Ok(1.25));
    assert_eq!(factor(&Value::new(0..0, Data::Float(1.5))), Ok(1.5));
    assert_eq!(factor(&Value::new(0..0, Data::Integer(1))), Ok(1.0));
    assert_eq!(factor(&Value { expanded: true, ..string("2") }), Ok(2.0));
    for bad in ["99%", "-125%", "1e2%", "%", "2", "NaN%", "10001%"] {
        assert!(factor(&string(bad)).is_err(), "{bad}");
    }
    assert!(factor(&Value::new(0..0, Data::Float(f64::NAN))).is_err());
}
