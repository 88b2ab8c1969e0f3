//! The admin listener's pages about the configuration: which one is in force, and orders to replace it.
//! Decides who may give orders no more than `writes` says.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::AdminState;
use super::pages::{Asked, Page, Refusal, json_page, not_allowed};
use super::writes;
use crate::control::reload::{Cause, Outcome, Reload};
use crate::observe::civil;

/// The pages that are there, for the list of them.
pub(super) const LIST: &[(&str, &str)] = &[
    ("/config/status", "which configuration is in force, and what became of the last reload"),
    ("/reload", "POST: read the configuration again, and say what became of it"),
];

/// The answer to a request for one of these pages; `None` when it is for another.
pub(super) async fn answer(asked: &Asked<'_>, reload: &Arc<Reload>) -> Option<Page> {
    let path = asked.path.strip_prefix("/v1").unwrap_or(asked.path);
    Some(match path {
        "/config/status" => asked.read(|| json_page(StatusCode::OK, &reload.status().to_json())),
        "/reload" => ordered(asked, reload).await.unwrap_or_else(Refusal::page),
        _ => return None,
    })
}

async fn ordered(asked: &Asked<'_>, reload: &Arc<Reload>) -> Result<Page, Refusal> {
    if asked.method != Method::POST {
        return Ok(not_allowed("POST"));
    }
    writes::permitted(asked.headers, asked.bound)?;
    Ok(told(&reload.reload(Cause::Request).await))
}

/// What became of an attempt, as a page.
fn told(outcome: &Outcome) -> Page {
    let status = match outcome {
        Outcome::Replaced(_) | Outcome::Unchanged { .. } => StatusCode::OK,
        Outcome::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Outcome::Refused(_) => StatusCode::CONFLICT,
    };
    json_page(status, &outcome.to_json())
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
