//! What the admin listener answers: a table of pages, each a function of the state. Pure but for
//! the metrics, which read the kernel's counts of this process.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;

use super::{AdminState, Phase};
use crate::observe::{civil, metrics};

type Page = Response<Full<Bytes>>;

/// The answer to a request.
pub(super) fn answer(method: &Method, path: &str, state: &AdminState) -> Page {
    let Some((_, _, page)) = PAGES.iter().find(|(known, ..)| *known == path) else {
        return text(StatusCode::NOT_FOUND, "not found; / lists what there is\n");
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    // The body of an answer to HEAD is left out further down, its length is not.
    page(state)
}

/// Path, what it is for, and how it is made.
type Row = (&'static str, &'static str, fn(&AdminState) -> Page);

const PAGES: &[Row] = &[
    ("/", "this list", index),
    ("/metrics", "metrics in the Prometheus text format", metrics),
    ("/livez", "200 while the process runs", |_| text(StatusCode::OK, "live\n")),
    ("/readyz", "200 while traffic is welcome, 503 otherwise", ready),
    ("/version", "what runs, and since when", version),
];

fn index(_: &AdminState) -> Page {
    let line = |(path, summary, _): &Row| format!("{path:<10}{summary}\n");
    text(StatusCode::OK, PAGES.iter().map(line).collect::<String>())
}

fn metrics(state: &AdminState) -> Page {
    page(StatusCode::OK, metrics::CONTENT_TYPE, state.registry.render())
}

fn ready(state: &AdminState) -> Page {
    match state.readiness.phase() {
        Phase::Ready => text(StatusCode::OK, "ready\n"),
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
    page(StatusCode::OK, "application/json", format!("{version}\n"))
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
