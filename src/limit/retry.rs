//! Whether a request that failed is tried again, and when: one decision of what failed, what may be
//! repeated and what the rules, the budget and the deadline leave. Does not know how requests are
//! sent, nor to whom.

use std::time::Duration;

use super::backoff;
use super::budget::{Budget, Recent};
use crate::model::settings::Retry;

/// How a try failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// There was no connection: nothing was sent.
    Connect,
    /// The endpoint declined the request unprocessed.
    Refused,
    /// The connection ended before the first byte of a response.
    Reset,
    /// The time for one try was over.
    TryTimeout,
    /// The endpoint answered with this status.
    Status(u16),
    /// It answered with this status and, in the head, with this code of gRPC.
    Grpc(u16, u32),
    /// In a way that nobody tries again.
    Otherwise,
}

/// Why a request was tried again: the label `cause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// No connection.
    Connect,
    /// Declined unprocessed.
    Refused,
    /// The connection ended before a response.
    Reset,
    /// One try took too long.
    TryTimeout,
    /// 502, 503 or 504.
    GatewayError,
    /// Another status that is tried again.
    Status,
    /// A code of gRPC.
    Grpc,
    /// The endpoint was on trial after its ejection and failed again.
    Trial,
}

/// Why a request was not tried again: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Such a failure is not to be tried again, or nothing is.
    NotListed,
    /// It may have been processed, and the method is not idempotent.
    NotIdempotent,
    /// More of the request body was sent than is kept.
    BodyTooLarge,
    /// It was tried as often as it may be.
    TriesSpent,
    /// The pool has as many retries as it can bear.
    Budget,
    /// There is no time left.
    Deadline,
    /// The endpoint asks to be left alone for longer than a request can wait.
    RetryAfter,
    /// No endpoint may be used any more.
    NoEndpoint,
}

/// A failure and what is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// How it failed.
    pub failed: Failed,
    /// Whether not a byte of the request left us.
    pub unsent: bool,
    /// Whether its method is idempotent (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// Whether all that was read of its body can be sent again.
    pub body_kept: bool,
    /// Further tries made so far.
    pub tries: u32,
    /// Failures to connect so far, this one included.
    pub unconnected: u32,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    /// How long the request may still take; as long as it likes when unset.
    pub left: Option<Duration>,
    /// What the pool does.
    pub load: Load<'a>,
    /// A uniformly distributed random number.
    pub draw: u64,
}

/// What goes on in a pool.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Retries under way, on all workers.
    pub retrying: u32,
    /// Requests under way, on all workers.
    pub in_flight: u32,
    /// What there was lately, on this worker.
    pub recent: &'a Recent,
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is tried again.
    Again {
        /// Because of this.
        cause: Cause,
        /// So long from now.
        after: Duration,
    },
    /// It is not.
    No(Reason),
}

/// Decides.
#[must_use]
pub fn decide(rules: &Retry, case: &Case<'_>) -> Decision {
    match refusal_or_pause(rules, case) {
        Ok((cause, after)) => Decision::Again { cause, after },
        Err(reason) => Decision::No(reason),
    }
}

/// Whether the rules name this failure at all, as what.
#[must_use]
pub fn cause(rules: &Retry, failed: Failed) -> Option<Cause> {
    let on = &rules.on;
    let listed = |status: u16| on.statuses.contains(&status);
    match failed {
        Failed::Connect => on.connect.then_some(Cause::Connect),
        Failed::Refused => on.refused.then_some(Cause::Refused),
        Failed::Reset => on.reset.then_some(Cause::Reset),
        // Whoever bounds one try does so for the sake of the next.
        Failed::TryTimeout => Some(Cause::TryTimeout),
        Failed::Status(status @ 502..=504) if on.gateway_error || listed(status) => Some(Cause::GatewayError),
        Failed::Status(status) => listed(status).then_some(Cause::Status),
        Failed::Grpc(_, code) if on.grpc.contains(&code) => Some(Cause::Grpc),
        Failed::Grpc(status, _) => cause(rules, Failed::Status(status)),
        Failed::Otherwise => None,
    }
}

fn refusal_or_pause(rules: &Retry, case: &Case<'_>) -> Result<(Cause, Duration), Reason> {
    let cause = cause(rules, case.failed).filter(|_| rules.tries > 0).ok_or(Reason::NotListed)?;
    let unprocessed = case.unsent || matches!(case.failed, Failed::Connect | Failed::Refused);
    if !(unprocessed || case.idempotent || rules.non_idempotent) {
        return Err(Reason::NotIdempotent);
    }
    if !case.body_kept {
        return Err(Reason::BodyTooLarge);
    }
    if case.tries >= rules.tries {
        return Err(Reason::TriesSpent);
    }
    let asked = case.retry_after.unwrap_or_default();
    if asked > LONGEST_RETRY_AFTER {
        return Err(Reason::RetryAfter);
    }
    // Whoever finds nobody there has not added to anybody's load, and the next try is the first that
    // does: neither a pause nor the budget is for it. Those that meet a dead endpoint are many at once.
    let at_once = cause == Cause::Connect && case.unconnected <= 1;
    let pause = backoff::pause(rules.backoff, rules.max_backoff, case.tries, case.draw);
    let after = if at_once { asked } else { asked.max(pause) };
    if case.left.is_some_and(|left| after >= left) {
        return Err(if asked > Duration::ZERO { Reason::RetryAfter } else { Reason::Deadline });
    }
    let budget = Budget { share: rules.budget, min: rules.min_budget };
    let Load { retrying, in_flight, recent } = case.load;
    // Where nothing was sent, nobody is asked more often than once.
    let bearable =
        (at_once || budget.allows(retrying, in_flight)) && (case.unsent || budget.allows_after(recent));
    if bearable { Ok((cause, after)) } else { Err(Reason::Budget) }
}

impl Cause {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::Connect,
        Self::Refused,
        Self::Reset,
        Self::TryTimeout,
        Self::GatewayError,
        Self::Status,
        Self::Grpc,
        Self::Trial,
    ];

    /// The value of the label `cause`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TryTimeout => "try_timeout",
            Self::GatewayError => "gateway_error",
            Self::Status => "status",
            Self::Grpc => "grpc",
            Self::Trial => "trial",
        }
    }
}

impl Reason {
    /// All of them, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::NotListed,
        Self::NotIdempotent,
        Self::BodyTooLarge,
        Self::TriesSpent,
        Self::Budget,
        Self::Deadline,
        Self::RetryAfter,
        Self::NoEndpoint,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotListed => "not_listed",
            Self::NotIdempotent => "not_idempotent",
            Self::BodyTooLarge => "body_too_large",
            Self::TriesSpent => "tries_spent",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::RetryAfter => "retry_after",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

/// How long a request waits at most because an endpoint asks for it by `Retry-After`.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
