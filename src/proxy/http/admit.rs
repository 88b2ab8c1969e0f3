//! What admission needs to know of a request: its priority, its deadline, and the client that waits.

use std::task::{Context, Poll};
use std::time::Instant;

use super::Connection;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use crate::model::RequestHead;
use crate::model::settings::{Priorities, Priority};
use crate::proxy::admit::{Asking, Denied, Waiter};
use crate::upstream::LocalPool;

/// A client that waits with a request.
pub(super) struct Waiting<'a, 'b> {
    /// The client.
    pub(super) client: &'a mut Client,
    /// The account of its request.
    pub(super) account: &'a Account<'b>,
}

/// The request asks for `pool`.
pub(super) fn asking<'a>(cx: &Connection, pool: &'a LocalPool, account: &Account<'_>) -> Asking<'a> {
    Asking { pool, shard: cx.worker.shard, priority: account.priority, deadline: account.deadline }
}

/// Which priority the request has. A header that says something else is as one that says nothing.
pub(super) fn priority(rules: &Priorities, request: &RequestHead) -> Priority {
    let Some(header) = &rules.header else { return rules.default };
    let said = request.fields.get_named(header.as_bytes()).next();
    said.and_then(Priority::named).unwrap_or(rules.default)
}

impl Waiter for Waiting<'_, '_> {
    fn begins(&mut self) {
        self.account.waited.set(true);
    }

    fn poll_gone(&mut self, task: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(task)
    }

    fn has_waited(&mut self, since: Instant, until: Instant) {
        if let Some(trace) = &self.account.trace {
            trace.waited(since, until);
        }
    }
}

impl From<Denied> for ProxyError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Rejected(rejection) => Self::Rejected(rejection),
            Denied::NoEndpoint => Self::NoEndpoint,
            Denied::Gone => Self::ClientGone,
        }
    }
}
