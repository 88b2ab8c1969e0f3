//! The admin listener's page about clients' connections: who is there, what they do, and for how long.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use super::pages::{Refusal, json_page};
use super::router::{Answer, Handler::Waiting, Row};
use super::{AdminState, Asked};
use crate::observe::connections::{Connection, Passed, Request};

/// The rows about connections.
pub(super) const ROWS: &[Row] = &[Row::get(
    "/v1/connections",
    "clients' connections that are open [?limit=1000]",
    Waiting(|asked, state| Box::pin(list(asked, state))),
)];

async fn list(asked: Arc<Asked>, state: Arc<AdminState>) -> Answer {
    let [limit] = asked.query(["limit"])?;
    let most = match limit.as_deref().map(str::parse::<usize>) {
        None => USUALLY,
        Some(Ok(limit)) if limit <= MOST => limit,
        Some(_) => {
            let hint = format!("as in `?limit=100`, at most {MOST}");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "`limit` is no such number", hint));
        }
    };
    let listing = state.running.connections().list(most).await;
    let connections: Vec<_> = listing.connections.iter().map(shown).collect();
    let listing =
        json!({ "open": listing.open, "silent_workers": listing.silent, "connections": connections });
    Ok(json_page(StatusCode::OK, &listing))
}

fn shown(connection: &Connection) -> Value {
    json!({
        "worker": connection.worker,
        "listener": connection.listener.as_str(),
        "peer": connection.peer.map(|peer| peer.to_string()),
        "protocol": connection.protocol.name(),
        "tls_version": connection.tls_version,
        "sni": connection.sni,
        "age_seconds": connection.age.as_secs_f64(),
        "requests": connection.requests,
        "under_way": connection.under_way,
        "ending": connection.ending,
        "latest": connection.latest.as_ref().map(latest),
        "passed_on": connection.passed.as_ref().map(passed_on),
    })
}

fn latest(request: &Request) -> Value {
    json!({
        "generation": request.generation,
        "age_seconds": request.age.as_secs_f64(),
        "route": request.route.as_ref().map(|route| route.as_str()),
        "pool": request.pool.as_ref().map(|pool| pool.as_str()),
        "endpoint": request.endpoint,
        "tunnel": request.tunnel,
    })
}

fn passed_on(passed: &Passed) -> Value {
    json!({
        "pool": passed.pool.as_str(),
        "endpoint": passed.endpoint,
        "received_bytes": passed.received,
        "sent_bytes": passed.sent,
    })
}

/// How many are listed for who does not say.
const USUALLY: usize = 1000;
/// The most that are listed.
const MOST: usize = 100_000;
