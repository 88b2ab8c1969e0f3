//! When a request must be over: by the route's limit, or because its client waits no longer. What is
//! left is told to each endpoint that is asked.

use std::time::{Duration, Instant};

use super::account::Account;
use super::error::ProxyError;
use crate::limit::deadline;
use crate::model::RequestHead;
use crate::model::field::Known;
use crate::upstream::Route;

/// How the client said how long it waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long it said.
    given: Duration,
    grpc: bool,
}

/// Sets when the request must be over. A client can only shorten what the route allows.
pub(super) fn set(account: &mut Account<'_>, route: &Route, request: &RequestHead) {
    let allowed = route.timeouts.request;
    account.patience = patience(route, request);
    let given = account.patience.map(|patience| patience.given);
    let least = match (allowed, given) {
        (Some(allowed), Some(given)) => Some(allowed.min(given)),
        (one, other) => one.or(other),
    };
    // What cannot be added is beyond all time.
    account.deadline = least.and_then(|limit| account.started.checked_add(limit));
}

fn patience(route: &Route, request: &RequestHead) -> Option<Patience> {
    let fields = &request.fields;
    let by_grpc = fields.get(Known::GrpcTimeout).and_then(deadline::read_grpc);
    let header = route.deadline_header.as_ref();
    let by_header = header.and_then(|name| deadline::read_plain(fields.get_named(name.as_bytes()).next()?));
    match (by_grpc, by_header) {
        (Some(given), by_header) if by_header.is_none_or(|other| given <= other) => {
            Some(Patience { given, grpc: true })
        }
        (_, given) => Some(Patience { given: given?, grpc: false }),
    }
}

/// Tells the endpoint that is asked next how long the client still waits.
pub(super) fn tell(account: &Account<'_>, route: &Route, request: &mut RequestHead, now: Instant) {
    let (Some(_), Some(deadline)) = (account.patience, account.deadline) else { return };
    let left = deadline.saturating_duration_since(now);
    if request.fields.has(Known::GrpcTimeout) {
        request.fields.set_known(Known::GrpcTimeout, deadline::write_grpc(left).as_bytes());
    }
    let Some(name) = route.deadline_header.as_ref().map(String::as_bytes) else { return };
    let written = request.fields.get_named(name).next().map(|like| deadline::write_plain(left, like));
    if let Some(written) = written {
        request.fields.set(name, written.as_bytes());
    }
}

/// The error of a request that is not over by its deadline.
#[must_use]
pub(super) fn overdue(limit: Option<Duration>, patience: Option<Patience>) -> ProxyError {
    match patience {
        Some(Patience { given, grpc }) if limit.is_none_or(|limit| given <= limit) => {
            ProxyError::Overdue(given, if grpc { "grpc-timeout" } else { "deadline_header of the route" })
        }
        _ => ProxyError::RequestTimeout(limit.unwrap_or_default()),
    }
}
