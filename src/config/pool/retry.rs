//! `retry` of `[pool.NAME]` and of `[[route]]`: what is tried again, how often and how soon.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::options::{Data, Fault, Given, Options};
use crate::model::settings::{Retry, RetryOn, RouteRetry};
use crate::model::units::{ByteSize, Share};

/// Reads `[pool.NAME.retry]`.
pub(in crate::config) fn retry(options: Options<'_>) -> Retry {
    let default = Retry::default();
    let given = overriding(&options);
    let retry = Retry {
        backoff: options.within("backoff", PAUSE, default.backoff),
        max_backoff: options.within("max_backoff", PAUSE, default.max_backoff),
        budget: options.get::<Share>("budget").map_or(default.budget, Share::fraction),
        min_budget: options.within("min_budget", MIN_BUDGET, default.min_budget),
        ..given.over(&default)
    };
    if !retry.on.grpc.is_empty() && !retry.non_idempotent {
        let hint = "calls of gRPC are POST requests: add `non_idempotent = true` if they may be repeated";
        options.problem("on", "no call of gRPC is tried again because of its status", Some(hint.into()));
    }
    if retry.backoff > retry.max_backoff {
        let key = if options.given("backoff").is_some() { "backoff" } else { "max_backoff" };
        let hint = "the first pause is at most `backoff`, and none is longer than `max_backoff`";
        options.problem(key, "`backoff` is longer than `max_backoff`", Some(hint.into()));
    }
    options.finish();
    retry
}

/// Reads `[route.retry]`.
pub(in crate::config) fn of_route(options: Options<'_>) -> RouteRetry {
    let retry = overriding(&options);
    options.finish();
    retry
}

/// What pools and routes both may say.
fn overriding(options: &Options<'_>) -> RouteRetry {
    RouteRetry {
        tries: options.given("tries").and_then(|given| given.within(TRIES)),
        on: options.given("on").map(|given| on(&given)),
        non_idempotent: options.get("non_idempotent"),
        body: options.given("body").and_then(|given| given.within(BODY)).map(|ByteSize(size)| size as usize),
    }
}

/// A list of words, statuses and codes of gRPC.
fn on(given: &Given<'_>) -> RetryOn {
    let mut on = RetryOn {
        connect: false,
        refused: false,
        reset: false,
        gateway_error: false,
        try_timeout: false,
        statuses: Vec::new(),
        grpc: Vec::new(),
    };
    for item in given.items() {
        if let Err(fault) = add(&item, &mut on) {
            item.fault(fault.text, fault.hint);
        }
    }
    on
}

fn add(given: &Given<'_>, on: &mut RetryOn) -> Result<(), Fault> {
    let number;
    let text = match &given.value().data {
        Data::Broken => return Ok(()),
        Data::Integer(status) => {
            number = status.to_string();
            &number
        }
        _ => given.value().text("what is to be tried again")?,
    };
    match text {
        "connect" => on.connect = true,
        "refused" => on.refused = true,
        "reset" => on.reset = true,
        "gateway_error" => on.gateway_error = true,
        "try_timeout" => on.try_timeout = true,
        _ => match text.strip_prefix("grpc:") {
            Some(code) => on.grpc.push(grpc(code)?),
            None => on.statuses.push(status(text)?),
        },
    }
    Ok(())
}

fn status(text: &str) -> Result<u16, Fault> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Fault::unknown("failure", text, &WORDS)
            .hint("known: `connect`, `refused`, `reset`, `gateway_error`, `try_timeout`, statuses such as \"429\", and codes such as \"grpc:unavailable\""));
    }
    let status = text.parse().ok().filter(|status| (400..=599).contains(status));
    status.ok_or_else(|| Fault::new(format_args!("{text:?} is not a status from 400 to 599")))
}

fn grpc(code: &str) -> Result<u32, Fault> {
    let known = (1..).zip(GRPC).find(|(_, name)| *name == code);
    known.map(|(number, _)| number).ok_or_else(|| Fault::unknown("code of gRPC", code, &GRPC))
}

const WORDS: [&str; 5] = ["connect", "refused", "reset", "gateway_error", "try_timeout"];
/// Codes from 1 (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
const GRPC: [&str; 16] = [
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];
const TRIES: RangeInclusive<u32> = 0..=10;
const MIN_BUDGET: RangeInclusive<u32> = 0..=1_000_000;
const BODY: RangeInclusive<ByteSize> = ByteSize(0)..=ByteSize(16 << 20);
const PAUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
