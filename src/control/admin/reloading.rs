//! The admin listener's pages about the configuration: which one is in force, which ones were, and orders
//! to replace it. Decides nothing; `reload` does.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::pages::{Refusal, json_page};
use super::router::{
    Answer,
    Handler::{Blocking, Waiting},
    Row,
};
use super::{AdminState, Asked};
use crate::control::reload::{Cause, Outcome, Refused, Reload};
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
];

fn status(_: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &known(state)?.status().to_json()))
}

async fn reload(state: Arc<AdminState>) -> Answer {
    told(&known(&state)?.reload(Cause::Request).await)
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

/// What who asks for readiness is to know as well: a line when the last reload failed.
pub(super) fn warning(state: &AdminState) -> String {
    let Some(status) = state.reload.as_ref().map(|reload| reload.status()).filter(|status| status.is_stale())
    else {
        return String::new();
    };
    let at = status.last.map(|last| civil::rfc3339(last.at)).unwrap_or_default();
    let since = civil::rfc3339(status.loaded_at);
    format!(
        "the last reload failed, at {at}: generation {} of {since} goes on; `forebay reload` says why\n",
        status.generation
    )
}
