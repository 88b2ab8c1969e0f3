//! Rate limits as filters: who shares a bucket, and what clients are told. What a bucket and a table of
//! them decide is tested where they are.

use super::*;
use crate::route::filter::tests::{Case, faults, parsed};
use crate::route::filter::{FilterCx, Filters};

/// A limit at work.
struct Limit {
    filters: Filters,
    counts: Arc<RateCounts>,
    began: Instant,
}

/// What became of a request: the status if it was refused, and the fields that clients get.
type Told = (Option<u16>, Vec<String>);

impl Limit {
    fn new(options: &str) -> Self {
        let (filters, counts) = (parsed(&format!("rate_limit = {options}")), Arc::default());
        let began = crate::ambient::now();
        filters[0].rate_limit().unwrap().begin(began, 7, Arc::clone(&counts));
        Self { filters, counts, began }
    }

    fn ask(&self, case: &Case<'_>, after: Duration) -> Told {
        let mut cx = FilterCx { now: self.began + after, ..case.cx() };
        let verdict = self.filters[0].on_request(&mut case.head(), &mut cx);
        let text = String::from_utf8_lossy;
        let shown = |fields: &Fields| {
            fields
                .iter()
                .map(|(_, name, value)| format!("{}: {}", text(name), text(value)))
                .collect::<Vec<_>>()
        };
        let mut told = shown(&cx.added);
        match verdict {
            Verdict::Continue => (None, told),
            Verdict::Respond(reply) => {
                told.extend(shown(&reply.fields));
                (Some(reply.status.as_u16()), told)
            }
        }
    }

    fn allows(&self, case: &Case<'_>) -> bool {
        self.ask(case, Duration::ZERO).0.is_none()
    }
}

fn from(client: &str) -> Case<'static> {
    Case { client: Some(client.parse().unwrap()), ..Case::default() }
}

#[test]
fn clients_are_told_what_is_left_and_when_to_come_again() {
    let limit = Limit::new(r#"{ rate = "30/m", burst = 2, name = "gentle" }"#);
    let ask = |millis| limit.ask(&Case::default(), Duration::from_millis(millis));
    let policy = r#"ratelimit-policy: "gentle";q=30;w=60"#.to_owned();
    let with = |left: &str| vec![policy.clone(), format!(r#"ratelimit: "gentle";{left}"#)];
    assert_eq!(ask(0), (None, with("r=1;t=2")));
    assert_eq!(ask(0), (None, with("r=0;t=4")));
    let mut refused = with("r=0;t=4");
    refused.extend(["content-type: text/plain; charset=utf-8", "retry-after: 2"].map(str::to_owned));
    assert_eq!(ask(500), (Some(429), refused));
    assert_eq!(ask(2000), (None, with("r=0;t=4")));
    assert_eq!(ask(60_000), (None, with("r=1;t=2")));
    assert_eq!((limit.counts.limited(Mode::Enforce), limit.counts.limited(Mode::Observe)), (1, 0));
}

#[test]
fn clients_are_told_apart_by_address_or_network() {
    let unix = Case { client: None, ..Case::default() };
    for (first, second, shared) in [
        (from("192.0.2.1"), from("192.0.2.1"), true),
        (from("192.0.2.1"), from("192.0.2.2"), false),
        (from("192.0.2.1"), from("::ffff:192.0.2.1"), true),
        (from("2001:db8::1"), from("2001:db8::ffff:1"), true),
        (from("2001:db8::1"), from("2001:db8:0:1::1"), false),
        (from("0.0.0.0"), from("::"), false),
        (from("0.0.0.0"), unix.clone(), false),
        (unix.clone(), unix, true),
    ] {
        let limit = Limit::new(r#"{ rate = "1/h" }"#);
        assert!(limit.allows(&first), "{first:?}");
        assert_eq!(limit.allows(&second), !shared, "{first:?} and {second:?}");
    }
}

#[test]
fn a_field_or_the_route_may_be_what_counts() {
    let key = |value| Case { fields: value, ..Case::default() };
    let limit = Limit::new(r#"{ rate = "1/h", by = "header:X-Key" }"#);
    assert!(limit.allows(&key(&[("x-key", "a")])));
    assert!(limit.allows(&key(&[("X-Key", "b")])));
    assert!(!limit.allows(&key(&[("X-Key", "a"), ("x-key", "c")])), "the first counts");
    assert!(limit.allows(&key(&[("x-other", "a")])));
    assert!(!limit.allows(&key(&[])), "those without share one");

    let limit = Limit::new(r#"{ rate = "1/h", by = "route" }"#);
    assert!(limit.allows(&from("192.0.2.1")));
    assert!(!limit.allows(&from("192.0.2.2")));
}

#[test]
fn to_observe_is_to_count_and_nothing_else() {
    let limit = Limit::new(r#"{ rate = "1/h", mode = "observe" }"#);
    for _ in 0..3 {
        assert_eq!(limit.ask(&Case::default(), Duration::ZERO), (None, vec![]));
    }
    assert_eq!((limit.counts.limited(Mode::Enforce), limit.counts.limited(Mode::Observe)), (0, 2));
}

#[test]
fn what_is_forgotten_is_counted() {
    let limit = Limit::new(r#"{ rate = "1/h", max_keys = 8 }"#);
    for host in 0..20_u8 {
        assert!(limit.allows(&from(&format!("192.0.2.{host}"))));
    }
    assert_eq!(limit.counts.forgotten(), 12);
}

#[test]
fn names_and_bursts_have_defaults() {
    for (options, policy) in [
        (r#"{ rate = "10/s" }"#, r#""client";q=10;w=1"#),
        (r#"{ rate = "10/m", by = "route" }"#, r#""route";q=10;w=60"#),
        (r#"{ rate = "10/h", by = "header:X-Key" }"#, r#""x-key";q=10;w=3600"#),
    ] {
        let (_, told) = Limit::new(options).ask(&Case::default(), Duration::ZERO);
        assert_eq!(told[0], format!("ratelimit-policy: {policy}"));
    }
    let limit = Limit::new(r#"{ rate = "90/m" }"#);
    let passed = (0..5).filter(|_| limit.allows(&Case::default())).count();
    assert_eq!(passed, 2, "1.5 a second, rounded up");
}

#[test]
fn what_is_no_limit_is_named() {
    for (options, fault) in [
        ("{}", "rate_limit.rate: `rate` is missing"),
        (r#"{ rate = "1/s", by = "address" }"#, r#"rate_limit.by: requests are not limited by "address""#),
        (r#"{ rate = "1/s", by = "header:" }"#, r#"rate_limit.by: "" is not the name of a header field"#),
        (r#"{ rate = "1/s", by = "header:HOST" }"#, "rate_limit.by: `Host` is not among the fields"),
        (
            r#"{ rate = "1/s", by = "header:x!" }"#,
            "rate_limit: the limit needs a `name`, for that of the field is none",
        ),
        (r#"{ rate = "1/s", mode = "off" }"#, "rate_limit.mode: there is no mode `off`"),
    ] {
        assert_eq!(faults(&format!("rate_limit = {options}")), [fault]);
    }
}
