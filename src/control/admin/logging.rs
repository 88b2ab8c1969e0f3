//! The admin listener's pages about the process's own log: which level is in force, and another one for a
//! while. A change ends by itself, so that nobody forgets it.

use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::watch;
use tokio::time;

use super::pages::{Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::ambient;
use crate::model::{json, units};
use crate::observe::{civil, log};

/// The rows about the log.
pub(super) const ROWS: &[Row] = &[
    Row::get("/v1/log-level", "the log level in force", Blocking(shown)),
    Row::write(
        Method::PUT,
        "/v1/log-level",
        "another one for a while, ten minutes unless it is said",
        Blocking(set),
    ),
];

/// When the usual level is to come back.
#[derive(Debug)]
pub(super) struct Return(watch::Sender<Option<SystemTime>>);

impl Default for Return {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Return {
    /// Has the usual level come back when it is time, for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut due = self.0.subscribe();
        loop {
            let at = *due.borrow_and_update();
            let Some(at) = at else {
                if due.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let left = at.duration_since(ambient::wall()).unwrap_or_default();
            tokio::select! {
                () = time::sleep(left) => {
                    // Unless it was set again meanwhile.
                    let over = self.0.send_if_modified(|due| due.take_if(|due| *due == at).is_some());
                    if over && log::reset() {
                        tracing::info!("the usual log level is back");
                    }
                }
                _ = due.changed() => {}
            }
        }
    }
}

fn shown(_: &Asked, state: &AdminState) -> Answer {
    let Some(level) = log::level() else { return Err(no_log()) };
    let until = *state.log.0.borrow();
    let until = until.map(civil::rfc3339);
    let shown = json!({ "level": level.current, "usual": level.usual, "until": until });
    Ok(json_page(StatusCode::OK, &shown))
}

fn set(asked: &Asked, state: &AdminState) -> Answer {
    let bad = |error: String, hint: &'static str| Refusal::new(StatusCode::BAD_REQUEST, error, hint);
    let body = asked.json()?;
    let hint = "as in `{\"level\": \"forebay=debug\", \"for\": \"10m\"}`";
    let Some(level) = json::text(&body, "level") else {
        return Err(bad("there is no `level`".to_owned(), hint));
    };
    let lasts = match body.get("for") {
        None => USUALLY,
        Some(written) => {
            let written = written.as_str().unwrap_or_default();
            units::duration(written).map_err(|error| bad(error.to_string(), hint))?
        }
    };
    if lasts.is_zero() || lasts > LONGEST {
        return Err(bad("that is no time for a level to last".to_owned(), "more than 0s and at most 24h"));
    }
    match log::set(level) {
        Ok(true) => {}
        Ok(false) => return Err(no_log()),
        Err(error) => return Err(bad(error.to_string(), hint)),
    }
    tracing::info!(level, ?lasts, "the log level was changed for a while");
    let usual = log::level().is_some_and(|level| level.current == level.usual);
    state.log.0.send_replace((!usual).then(|| ambient::wall() + lasts));
    shown(asked, state)
}

fn no_log() -> Refusal {
    let hint = "it is part of another program, which has its own log";
    Refusal::new(StatusCode::CONFLICT, "this process has set up no log", hint)
}

/// How long a level lasts for who does not say.
const USUALLY: Duration = Duration::from_secs(600);
/// The longest that it may.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
