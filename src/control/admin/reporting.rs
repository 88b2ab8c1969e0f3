//! The admin listener's account of the last minutes, for people and for programs. What it says is
//! `report`'s matter.

use http::StatusCode;

use super::history::last;
use super::pages::{self, Refusal, json_page};
use super::process::warnings;
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::control::report::{Objective, Report, Wanted, gather};

/// The rows of the report.
pub(super) const ROWS: &[Row] = &[
    Row::get(
        "/v1/report",
        "an account of the last minutes in Markdown [?last=10m&slo=99.9%25]",
        Blocking(markdown),
    ),
    Row::get("/v1/report.json", "the same as an object [?last=10m&slo=99.9%25]", Blocking(object)),
];

fn markdown(asked: &Asked, state: &AdminState) -> Answer {
    let report = report(asked, state)?;
    Ok(pages::page(StatusCode::OK, "text/markdown; charset=utf-8", report.markdown()))
}

fn object(asked: &Asked, state: &AdminState) -> Answer {
    Ok(json_page(StatusCode::OK, &report(asked, state)?.to_json()))
}

fn report(asked: &Asked, state: &AdminState) -> Result<Report, Refusal> {
    let [time, slo] = asked.query(["last", "slo"])?;
    let objective = match slo {
        Some(text) => text.parse::<Objective>().map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, error, "as in `?slo=99.9%25`, or `?slo=99.9`")
        })?,
        None => Objective::default(),
    };
    let last = last([time])?;
    let reload = state.reload.as_deref();
    let status = reload.map(|reload| reload.status());
    let warnings = warnings(&state.running.health().readings(), status.as_ref(), state);
    let wanted = Wanted { last, objective, started: state.started, warnings };
    Ok(gather(&state.running, reload, wanted))
}
