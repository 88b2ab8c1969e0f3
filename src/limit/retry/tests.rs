//! The decision, by a table and by properties.

use super::*;
use crate::model::mix::mix;
use crate::model::settings::RetryOn;

/// Decides with nothing else going on.
fn decided(rules: &Retry, change: impl FnOnce(&mut Case<'_>)) -> Decision {
    let recent = Recent::new(crate::ambient::now());
    let mut case = reset(&recent);
    change(&mut case);
    decide(rules, &case)
}

/// The first try of a request that may be repeated ended without a response.
fn reset(recent: &Recent) -> Case<'_> {
    Case {
        failed: Failed::Reset,
        unsent: false,
        idempotent: true,
        body_kept: true,
        tries: 0,
        unconnected: 0,
        retry_after: None,
        left: None,
        load: Load { retrying: 0, in_flight: 1, recent },
        draw: u64::MAX,
    }
}

fn again(cause: Cause, ms: u64) -> Decision {
    Decision::Again { cause, after: Duration::from_millis(ms) }
}

fn everything() -> Retry {
    let on = RetryOn { gateway_error: true, statuses: vec![429, 500], grpc: vec![14], ..RetryOn::default() };
    Retry { on, ..Retry::default() }
}

#[test]
fn by_default_only_what_got_no_answer_is_tried_again() {
    let rules = Retry::default();
    for (failed, decision) in [
        (Failed::Connect, again(Cause::Connect, 25)),
        (Failed::Refused, again(Cause::Refused, 25)),
        (Failed::Reset, again(Cause::Reset, 25)),
        (Failed::TryTimeout, again(Cause::TryTimeout, 25)),
        (Failed::Status(503), Decision::No(Reason::NotListed)),
        (Failed::Grpc(200, 14), Decision::No(Reason::NotListed)),
        (Failed::Otherwise, Decision::No(Reason::NotListed)),
    ] {
        let unconnected = 2;
        assert_eq!(decided(&rules, |case| *case = Case { failed, unconnected, ..*case }), decision);
    }
}

#[test]
fn answers_are_tried_again_by_option() {
    for (failed, decision) in [
        (Failed::Status(503), again(Cause::GatewayError, 25)),
        (Failed::Status(429), again(Cause::Status, 25)),
        (Failed::Status(501), Decision::No(Reason::NotListed)),
        (Failed::Grpc(200, 14), again(Cause::Grpc, 25)),
        (Failed::Grpc(200, 13), Decision::No(Reason::NotListed)),
        (Failed::Grpc(503, 13), again(Cause::GatewayError, 25)),
    ] {
        assert_eq!(decided(&everything(), |case| case.failed = failed), decision, "{failed:?}");
    }
    let listed = Retry { on: RetryOn { statuses: vec![503], ..RetryOn::default() }, ..Retry::default() };
    let decision = decided(&listed, |case| case.failed = Failed::Status(503));
    assert_eq!(decision, again(Cause::GatewayError, 25));
}

#[test]
fn what_may_have_been_processed_is_only_repeated_if_that_does_no_harm() {
    let rules = everything();
    let post =
        |failed, unsent| decided(&rules, |case| *case = Case { failed, unsent, idempotent: false, ..*case });
    assert_eq!(post(Failed::Connect, true), again(Cause::Connect, 0));
    assert_eq!(post(Failed::Refused, false), again(Cause::Refused, 25));
    assert_eq!(post(Failed::TryTimeout, true), again(Cause::TryTimeout, 25));
    for failed in [Failed::Reset, Failed::TryTimeout, Failed::Status(503), Failed::Grpc(200, 14)] {
        assert_eq!(post(failed, false), Decision::No(Reason::NotIdempotent), "{failed:?}");
    }
    let rules = Retry { non_idempotent: true, ..rules };
    assert_eq!(decided(&rules, |case| case.idempotent = false), again(Cause::Reset, 25));
}

#[test]
fn every_bound_has_its_reason() {
    let rules = everything();
    let seconds = Duration::from_secs;
    let no = |change: fn(&mut Case<'_>)| decided(&rules, change);
    assert_eq!(no(|case| case.body_kept = false), Decision::No(Reason::BodyTooLarge));
    assert_eq!(no(|case| case.tries = 2), Decision::No(Reason::TriesSpent));
    assert_eq!(no(|case| case.load.retrying = 3), Decision::No(Reason::Budget));
    let unconnected = |unconnected| {
        decided(&rules, |case| {
            (case.failed, case.unconnected, case.load.retrying) = (Failed::Connect, unconnected, 3);
        })
    };
    assert_eq!(unconnected(1), again(Cause::Connect, 0), "it has burdened nobody yet");
    assert_eq!(unconnected(2), Decision::No(Reason::Budget));
    assert_eq!(no(|case| case.left = Some(Duration::from_millis(25))), Decision::No(Reason::Deadline));
    assert_eq!(no(|case| case.left = Some(Duration::ZERO)), Decision::No(Reason::Deadline));
    let answered = |retry_after, left| {
        let retry_after = Some(retry_after);
        decided(&rules, |case| *case = Case { failed: Failed::Status(503), retry_after, left, ..*case })
    };
    assert_eq!(answered(seconds(6), None), Decision::No(Reason::RetryAfter));
    assert_eq!(answered(seconds(2), Some(seconds(2))), Decision::No(Reason::RetryAfter));
    assert_eq!(answered(seconds(2), Some(seconds(3))), again(Cause::GatewayError, 2000));
    assert_eq!(answered(Duration::ZERO, None), again(Cause::GatewayError, 25));
    let off = Retry { tries: 0, ..everything() };
    assert_eq!(decided(&off, |_| {}), Decision::No(Reason::NotListed));
}

#[test]
fn what_reached_nobody_does_not_use_up_the_budget_of_the_last_seconds() {
    let now = crate::ambient::now();
    let mut recent = Recent::new(now);
    (0..1000).for_each(|_| recent.retry(now));
    for (unsent, decision) in [(true, again(Cause::Reset, 25)), (false, Decision::No(Reason::Budget))] {
        assert_eq!(decide(&Retry::default(), &Case { unsent, ..reset(&recent) }), decision);
    }
}

#[test]
fn the_first_failure_to_connect_costs_no_time() {
    let rules = Retry::default();
    let connect = |tries, unconnected| {
        decided(&rules, |case| *case = Case { failed: Failed::Connect, tries, unconnected, ..*case })
    };
    assert_eq!(connect(0, 1), again(Cause::Connect, 0));
    assert_eq!(connect(1, 2), again(Cause::Connect, 50));
}

#[test]
fn no_draw_of_circumstances_breaks_a_bound() {
    let recent = Recent::new(crate::ambient::now());
    for seed in 0..20_000_u64 {
        let bits = |place: u64| mix(seed ^ mix(place));
        let failed = match bits(0) % 7 {
            0 => Failed::Connect,
            1 => Failed::Refused,
            2 => Failed::Reset,
            3 => Failed::TryTimeout,
            4 => Failed::Status(u16::try_from(400 + bits(1) % 200).unwrap()),
            5 => Failed::Grpc(200, u32::try_from(bits(1) % 17).unwrap()),
            _ => Failed::Otherwise,
        };
        let rules = Retry {
            tries: u32::try_from(bits(2) % 4).unwrap(),
            non_idempotent: bits(3).is_multiple_of(2),
            ..everything()
        };
        let case = Case {
            failed,
            unsent: failed == Failed::Connect,
            idempotent: bits(4).is_multiple_of(2),
            body_kept: !bits(5).is_multiple_of(4),
            tries: u32::try_from(bits(6) % 4).unwrap(),
            unconnected: 1,
            retry_after: bits(7).is_multiple_of(2).then(|| Duration::from_millis(bits(8) % 10_000)),
            left: bits(9).is_multiple_of(2).then(|| Duration::from_millis(bits(10) % 10_000)),
            load: Load { retrying: u32::try_from(bits(11) % 6).unwrap(), in_flight: 10, recent: &recent },
            draw: bits(12),
        };
        let Decision::Again { after, .. } = decide(&rules, &case) else { continue };
        let unprocessed = matches!(failed, Failed::Connect | Failed::Refused);
        assert!(unprocessed || case.idempotent || rules.non_idempotent, "seed {seed}: {case:?}");
        assert!(case.body_kept && case.tries < rules.tries, "seed {seed}: {case:?}");
        assert!(case.load.retrying < 3 || failed == Failed::Connect, "seed {seed}: {case:?}");
        assert!(after <= LONGEST_RETRY_AFTER && after >= case.retry_after.unwrap_or_default(), "seed {seed}");
        assert!(case.left.is_none_or(|left| after < left), "seed {seed}: {case:?}");
    }
}

#[test]
fn names_are_in_the_order_of_the_variants() {
    assert!((0..).zip(Cause::ALL).all(|(index, cause)| cause as usize == index));
    assert!((0..).zip(Reason::ALL).all(|(index, reason)| reason as usize == index));
}
