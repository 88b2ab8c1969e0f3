//! The admin listener's pages about the configuration: which one is in force, which ones were, and orders
//! to replace it. Decides nothing; `reload` does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::pages::{Refusal, json_page};
use super::router::{
    Answer,
    Handler::{Blocking, Waiting},
    Row,
};
use super::{AdminState, Asked};
use crate::ambient;
use crate::config::diff::diff;
use crate::control::reload::{Application, Cause, Outcome, Preview, Refused, Reload, Status};
use crate::model::{json, units};
use crate::observe::civil;

/// The rows about the configuration.
pub(super) const ROWS: &[Row] = &[
    Row::get(
        "/v1/config/status",
        "which configuration is in force, and what became of the last reload",
        Blocking(status),
    ),
    Row::write(
        Method::POST,
        "/v1/reload",
        "read the configuration again, and say what became of it",
        Waiting(|_, state| Box::pin(reload(state))),
    ),
    Row::get(
        "/v1/config/history",
        "the configurations that were in force, the oldest first",
        Blocking(history),
    ),
    Row::get("/v1/config/diff", "what one of them changed of another: ?from=3&to=4", Blocking(difference)),
    Row::get("/v1/config/{number}", "one of them, secrets masked", Blocking(one)),
    Row::write(
        Method::POST,
        "/v1/config/rollback",
        "have the configuration before in force again, or another: ?to=3",
        Waiting(|asked, state| Box::pin(rollback(asked, state))),
    ),
    Row::write(Method::POST, "/v1/plan", "what a configuration would change", Blocking(plan)),
    Row::write(
        Method::POST,
        "/v1/apply",
        "have a configuration in force that is sent",
        Waiting(|asked, state| Box::pin(apply(asked, state))),
    ),
];

fn status(_: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &known(state)?.status().to_json()))
}

async fn reload(state: Arc<AdminState>) -> Answer {
    told(&known(&state)?.reload(Cause::Request).await)
}

fn history(_: &Asked, state: &AdminState) -> Answer {
    let reload = known(state)?;
    let generations: Vec<_> = reload.history().all().iter().map(|own| own.to_json()).collect();
    let shown = json!({ "in_force": reload.status().generation, "generations": generations });
    Ok(json_page(StatusCode::OK, &shown))
}

fn one(asked: &Asked, state: &AdminState) -> Answer {
    let reload = known(state)?;
    let number = number(asked.part("number"))?;
    let generation = reload.history().get(number).ok_or_else(|| forgotten(number))?;
    let mut shown = generation.to_json();
    if let Value::Object(fields) = &mut shown {
        let written = reload.read_generation(number).map(|plan| plan.origin.shown());
        fields.insert("config".to_owned(), written.unwrap_or_default());
    }
    Ok(json_page(StatusCode::OK, &shown))
}

fn difference(asked: &Asked, state: &AdminState) -> Answer {
    let reload = known(state)?;
    let [from, to] = asked.query(["from", "to"])?;
    let to = to.map_or_else(|| Ok(reload.status().generation), |text| number(&text))?;
    let from = match from {
        Some(text) => number(&text)?,
        None => reload.history().before(to).ok_or_else(|| first(to))?.number,
    };
    let plan = |number: u64| reload.read_generation(number).ok_or_else(|| forgotten(number));
    let diff = diff(&*plan(from)?, &*plan(to)?, ambient::now());
    let (text, coloured) = (diff.to_string(), diff.coloured());
    let shown = json!({ "from": from, "to": to, "diff": diff.to_json(), "text": text, "coloured": coloured });
    Ok(json_page(StatusCode::OK, &shown))
}

async fn rollback(asked: Arc<Asked>, state: Arc<AdminState>) -> Answer {
    let [to] = asked.query(["to"])?;
    let to = to.map(|text| number(&text)).transpose()?;
    told(&known(&state)?.go_back(to).await)
}

fn plan(asked: &Asked, state: &AdminState) -> Answer {
    let (path, text, _) = sent(asked)?;
    let preview = known(state)?.preview(&path, &text);
    let status = match preview {
        Preview::Valid { .. } => StatusCode::OK,
        Preview::Bad(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Ok(json_page(status, &preview.to_json()))
}

async fn apply(asked: Arc<Asked>, state: Arc<AdminState>) -> Answer {
    let (path, text, body) = sent(&asked)?;
    let bad = |error: String| Refusal::new(StatusCode::BAD_REQUEST, error, "as in \"60s\"");
    let trial = match json::text(&body, "auto_rollback") {
        Some(text) => {
            let lasts = units::duration(text).map_err(|error| bad(error.to_string()))?;
            if lasts.is_zero() || lasts > LONGEST_TRIAL {
                return Err(bad(format!("{text:?} is not a time for a trial: more than 0s, at most 1h")));
            }
            Some(lasts)
        }
        None => None,
    };
    let if_generation = json::number(&body, "if_generation");
    told(&known(&state)?.apply(Application { path, text, if_generation, trial }).await)
}

/// The path in whose place a configuration was sent, its text, and all of the body.
fn sent(asked: &Asked) -> Result<(PathBuf, String, Value), Refusal> {
    let body = asked.json()?;
    let missing = |field: &str| {
        let hint = "as in {\"config\": \"...\", \"base\": \"/etc/forebay\", \"name\": \"forebay.toml\"}";
        Refusal::new(StatusCode::BAD_REQUEST, format!("there is no {field}"), hint)
    };
    let text = json::text(&body, "config").ok_or_else(|| missing("`config`"))?.to_owned();
    let base = json::text(&body, "base").map(PathBuf::from);
    let base = base.filter(|base| base.is_absolute()).ok_or_else(|| missing("`base` that is absolute"))?;
    let name = json::text(&body, "name").unwrap_or("forebay.toml");
    Ok((base.join(name), text, body))
}

fn number(text: &str) -> Result<u64, Refusal> {
    let bad = |_| {
        let error = format!("{text:?} is not the number of a configuration");
        Refusal::new(StatusCode::NOT_FOUND, error, "/v1/config/history lists them")
    };
    text.parse().map_err(bad)
}

fn forgotten(number: u64) -> Refusal {
    let error = format!("generation {number} is not known");
    Refusal::new(
        StatusCode::NOT_FOUND,
        error,
        "`forebay config history` and /v1/config/history list those that are",
    )
}

fn first(number: u64) -> Refusal {
    let error = format!("nothing is known of what came before generation {number}");
    Refusal::new(StatusCode::NOT_FOUND, error, "`forebay config diff 3 4` and ?from=3&to=4 compare any two")
}

/// What became of an attempt, as a page.
fn told(outcome: &Outcome) -> Answer {
    let status = match outcome {
        Outcome::Replaced(_) | Outcome::Unchanged { .. } => StatusCode::OK,
        Outcome::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Refused(refused) => return Err(refusal(refused)),
    };
    Ok(json_page(status, &outcome.to_json()))
}

fn refusal(Refused { error, hint }: &Refused) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, error.clone(), hint.clone())
}

fn known(state: &AdminState) -> Result<&Arc<Reload>, Refusal> {
    state.reload.as_ref().ok_or_else(|| refusal(&Refused::no_file()))
}

/// What who asks how the process is has to know as well: that the last reload failed, if it did.
pub(super) fn warning(status: &Status) -> Option<String> {
    let last = status.last.as_ref().filter(|_| status.is_stale())?;
    let (at, since) = (civil::rfc3339(last.at), civil::rfc3339(status.loaded_at));
    let number = status.generation;
    Some(format!(
        "the last reload failed, at {at}: generation {number} of {since} goes on; `forebay reload` says why"
    ))
}

/// The longest time for which a configuration may be on trial.
const LONGEST_TRIAL: Duration = Duration::from_secs(60 * 60);
