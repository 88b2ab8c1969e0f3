//! Keeping good responses while they pass, for pools on whose ladder a stale response stands. Others
//! cost one look. What may be kept is decided by `cache`.

use super::account::Account;
use super::client::Client;
use super::{Connection, Scratch};
use crate::ambient;
use crate::cache::{Begun, Key, Pending, Terms};
use crate::model::ResponseHead;
use crate::wire::Length;

/// Begins to keep the response whose head is in `scratch` as an endpoint gave it, before filters; what is
/// returned takes its body. `None` when it is not to be kept.
///
/// A body that ends with its connection is not kept: it cannot be told whether it is whole.
#[must_use]
pub(super) fn keep(
    cx: &Connection,
    scratch: &Scratch,
    client: &Client,
    account: &Account<'_>,
    length: Length,
) -> Option<Box<Pending>> {
    let store = account.pool?.shared.settings.fallbacks.as_ref()?.store()?;
    let Scratch { request, response, host, .. } = scratch;
    if !request.method.is_safe() && is_done(response) {
        store.forget(&Key::of(cx.peer.scheme, host, request));
    }
    let has_body = client.body_begun || !client.channel.is_read_done();
    if account.degraded.is_some() || has_body || length == Length::UntilClose {
        return None;
    }
    let terms = Terms::of(request, response).ok()?;
    let begun = Begun {
        key: Key::of(cx.peer.scheme, host, request),
        status: response.status,
        fields: &response.fields,
        terms,
        length: length.exact(),
    };
    Pending::begin(store, begun, ambient::now()).map(Box::new)
}

/// Whether an unsafe request was carried out, so that what was kept may be wrong (RFC 9111 §4.4).
fn is_done(response: &ResponseHead) -> bool {
    response.status.is_success() || response.status.is_redirection()
}
