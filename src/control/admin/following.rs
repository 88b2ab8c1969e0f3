//! The admin listener's page of requests as they end: access log lines that go on for as long as somebody
//! reads them, whatever is configured of access logs.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use http::StatusCode;
use hyper::body::Bytes;
use tokio::time;

use super::lasting::HEARTBEAT;
use super::pages::Refusal;
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::model::units;
use crate::observe::access_log::Wanted;

/// The row of what can be followed.
pub(super) const ROWS: &[Row] = &[Row::get(
    "/v1/log/access",
    "requests as they end, a line of JSON each \
     [?status=5xx&listener=&route=&pool=&endpoint=&client=&slower_than=250ms]",
    Blocking(follow),
)];

fn follow(asked: &Asked, state: &AdminState) -> Answer {
    let wanted = wanted(asked)?;
    let tap = Arc::clone(&state.running.published().load().tap);
    state.lasting.page("application/x-ndjson", move |telling| async move {
        let following = match tap.follow(wanted, telling.clone()) {
            Ok(following) => following,
            Err(error) => return tracing::error!(%error, "an access log could not be followed"),
        };
        // At once, so that whoever follows knows from when on.
        while telling.send(Bytes::from_static(b"\n")).await.is_ok() {
            time::sleep(HEARTBEAT).await;
        }
        drop(following);
    })
}

fn wanted(asked: &Asked) -> Result<Wanted, Refusal> {
    let [status, listener, route, pool, endpoint, client, slower_than] =
        asked.query(["status", "listener", "route", "pool", "endpoint", "client", "slower_than"])?;
    Ok(Wanted {
        status: read(status)?,
        listener,
        route,
        pool,
        endpoint,
        client: read(client)?,
        slower_than: slower_than.map(|text| units::duration(&text).map_err(bad)).transpose()?,
    })
}

fn read<T: FromStr<Err: Display>>(text: Option<String>) -> Result<Option<T>, Refusal> {
    text.map(|text| text.parse().map_err(bad)).transpose()
}

fn bad(error: impl Display) -> Refusal {
    let hint = "as in `?status=5xx&slower_than=250ms`";
    Refusal::new(StatusCode::BAD_REQUEST, error.to_string(), hint)
}
