//! What the admin listener says of the process, and what answers look like: pages, JSON, refusals.
//! Pure but for the metrics, which read the kernel's counts of this process.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::lasting::PageBody;
use super::router::{self, Access, Answer, Handler::Blocking, Row};
use super::{AdminState, Asked, Phase, dashboard, reloading};
use crate::control::health::recording;
use crate::observe::{civil, metrics};

pub(super) type Page = Response<PageBody>;

/// The rows that are not about endpoints.
pub(super) const ROWS: &[Row] = &[
    Row::get("/", "this list; in a browser, the dashboard", Blocking(index))
        .also("/v1")
        .browsers(dashboard::page),
    Row::get("/metrics", "metrics in the Prometheus text format", Blocking(metrics)).also("/v1/metrics"),
    Row::get("/livez", "200 while the process runs", Blocking(live)).also("/v1/livez").access(Access::Open),
    Row::get("/readyz", "200 while traffic is welcome, 503 otherwise", Blocking(ready))
        .also("/v1/readyz")
        .access(Access::Open),
    Row::get("/v1/version", "what runs, and since when", Blocking(version)).also("/version"),
    Row::get(
        "/v1/recording",
        "what happened to endpoints and how they fared, for `forebay simulate`",
        Blocking(recording),
    )
    .also("/journal"),
];

fn index(_: &Asked, _: &AdminState) -> Answer {
    Ok(text(StatusCode::OK, router::list()))
}

fn metrics(_: &Asked, state: &AdminState) -> Answer {
    let page_of_all = state.scrapes.page(|| state.running.registry().render());
    Ok(page(StatusCode::OK, metrics::CONTENT_TYPE, page_of_all))
}

fn live(_: &Asked, _: &AdminState) -> Answer {
    Ok(text(StatusCode::OK, "live\n"))
}

fn ready(_: &Asked, state: &AdminState) -> Answer {
    Ok(match state.readiness.phase() {
        Phase::Ready => {
            let warning = state.reload.as_ref().and_then(|reload| reloading::warning(&reload.status()));
            text(StatusCode::OK, format!("ready\n{}", warning.map_or_else(String::new, |line| line + "\n")))
        }
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    })
}

fn version(_: &Asked, state: &AdminState) -> Answer {
    let version = serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "os": std::env::consts::OS,
        "started": civil::rfc3339(state.started),
    });
    Ok(json_page(StatusCode::OK, &version))
}

fn recording(_: &Asked, state: &AdminState) -> Answer {
    Ok(page(StatusCode::OK, "application/x-ndjson", recording::write(state.running.health().record())))
}

/// Why something is not answered as asked.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What is wrong.
    pub(super) error: Cow<'static, str>,
    /// What to do about it.
    pub(super) hint: Cow<'static, str>,
    /// A field that goes with the status.
    field: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), hint: hint.into(), field: None }
    }

    /// With a field that goes with the status.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.field = HeaderValue::from_str(value).ok().map(|value| Box::new((name, value)));
        self
    }

    pub(super) fn page(self) -> Page {
        let mut page = json_page(self.status, &json!({ "error": self.error, "hint": self.hint }));
        page.headers_mut().extend(self.field.map(|field| *field));
        page
    }
}

/// The answer when making one panicked.
pub(super) fn failed() -> Refusal {
    let hint = "this is a mistake in Forebay; its log says more";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made", hint)
}

pub(super) fn json_page(status: StatusCode, value: &Value) -> Page {
    page(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    page(status, "text/plain; charset=utf-8", body)
}

pub(super) fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(PageBody::Whole(Full::new(body.into())));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
