//! What the admin listener answers: a table of pages, each a function of the state. Pure but for
//! the metrics, which read the kernel's counts of this process.

use std::borrow::Cow;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::{AdminState, Phase, endpoints, reloading};
use crate::control::health::recording;
use crate::model::Address;
use crate::observe::{civil, metrics};

pub(super) type Page = Response<Full<Bytes>>;

/// A request, as far as pages care.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
    pub(super) query: Option<&'a str>,
    pub(super) headers: &'a HeaderMap,
    /// Where the listener is bound that was asked.
    pub(super) bound: &'a Address,
}

impl Asked<'_> {
    /// The page that `make` makes, for those who only read.
    pub(super) fn read(&self, make: impl FnOnce() -> Page) -> Page {
        // The body of an answer to HEAD is left out further down, its length is not.
        if self.method == Method::GET || self.method == Method::HEAD {
            make()
        } else {
            not_allowed("GET, HEAD")
        }
    }
}

/// The answer to a request.
pub(super) fn answer(asked: &Asked<'_>, state: &AdminState) -> Page {
    let path = asked.path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(asked.path);
    if let Some(rest) =
        path.strip_prefix("/endpoints").filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        return endpoints::answer(asked, rest, state);
    }
    match PAGES.iter().find(|(known, ..)| *known == path) {
        Some((_, _, page)) => asked.read(|| page(state)),
        None => Refusal::new(StatusCode::NOT_FOUND, "not found", "/ lists what there is").page(),
    }
}

/// Path, what it is for, and how it is made.
type Row = (&'static str, &'static str, fn(&AdminState) -> Page);

const PAGES: &[Row] = &[
    ("/", "this list", index),
    ("/metrics", "metrics in the Prometheus text format", metrics),
    ("/livez", "200 while the process runs", |_| text(StatusCode::OK, "live\n")),
    ("/readyz", "200 while traffic is welcome, 503 otherwise", ready),
    ("/version", "what runs, and since when", version),
    ("/journal", "what happened to endpoints and how they fared, for `forebay simulate`", journal),
];

fn index(_: &AdminState) -> Page {
    let line = |(path, summary): (&str, &str)| format!("{path:<10}  {summary}\n");
    let pages = PAGES.iter().map(|(path, summary, _)| (*path, *summary));
    let mut list: String = pages.chain(endpoints::LIST.iter().copied()).map(line).collect();
    list.extend(reloading::LIST.iter().copied().map(line));
    list.push_str("\nAll of it is below /v1 as well.\n");
    text(StatusCode::OK, list)
}

fn metrics(state: &AdminState) -> Page {
    page(StatusCode::OK, metrics::CONTENT_TYPE, state.registry.render())
}

fn ready(state: &AdminState) -> Page {
    match state.readiness.phase() {
        Phase::Ready => text(StatusCode::OK, format!("ready\n{}", reloading::warning(state))),
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

fn version(state: &AdminState) -> Page {
    let version = serde_json::json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "os": std::env::consts::OS,
        "started": civil::rfc3339(state.started),
    });
    json_page(StatusCode::OK, &version)
}

fn journal(state: &AdminState) -> Page {
    page(StatusCode::OK, "application/x-ndjson", recording::write(state.health.record()))
}

/// Why something is not answered as asked.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// What is wrong.
    pub(super) error: Cow<'static, str>,
    /// What to do about it.
    pub(super) hint: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(
        status: StatusCode,
        error: impl Into<Cow<'static, str>>,
        hint: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, error: error.into(), hint: hint.into() }
    }

    pub(super) fn page(self) -> Page {
        json_page(self.status, &json!({ "error": self.error, "hint": self.hint }))
    }
}

/// The answer when making one panicked.
pub(super) fn failed() -> Page {
    let hint = "this is a mistake in Forebay; its log says more";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made", hint).page()
}

pub(super) fn not_allowed(allow: &'static str) -> Page {
    let hint = format!("this page takes {allow}");
    let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed", hint);
    let mut page = refusal.page();
    page.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    page
}

pub(super) fn json_page(status: StatusCode, value: &Value) -> Page {
    page(status, "application/json", format!("{value}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
    page(status, "text/plain; charset=utf-8", body)
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
