//! The dashboard: a page for browsers that shows what the other rows tell, and what it consists of. It has
//! no data in it, so that everybody may have it who can connect; what it then asks for is guarded as for
//! everybody else.

use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::guard::{self, Orders};
use super::pages::{self, Page, Refusal, json_page};
use super::router::{Access, Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};

/// The rows of the dashboard.
pub(super) const ROWS: &[Row] = &[
    Row::get("/dashboard/{file}", "what the dashboard consists of", Blocking(file)).access(Access::Open),
    Row::get("/v1/access", "what who asks may do", Blocking(access)),
];

/// Whether a request is for the page and not for what programs read.
pub(super) fn is_wanted(head: &Parts) -> bool {
    let html = |accepted: &HeaderValue| accepted.to_str().is_ok_and(|types| types.contains("text/html"));
    let shown = matches!(head.method, Method::GET | Method::HEAD) && head.uri.path() == "/";
    shown && head.headers.get_all(ACCEPT).iter().any(html)
}

/// The page.
pub(super) fn page() -> Page {
    let mut page =
        pages::page(StatusCode::OK, "text/html; charset=utf-8", include_str!("dashboard/index.html"));
    let fields = page.headers_mut();
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(VARY, HeaderValue::from_static("Accept"));
    page
}

fn file(asked: &Asked, _: &AdminState) -> Answer {
    let name = asked.part("file");
    let Some((_, kind, text)) = FILES.iter().find(|(own, _, _)| *own == name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "the dashboard has no such file",
            "/ is the dashboard",
        ));
    };
    let mut page = pages::page(StatusCode::OK, kind, *text);
    page.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(page)
}

fn access(asked: &Asked, state: &AdminState) -> Answer {
    let (orders, why) = match guard::orders(&asked.fields, &asked.caller, &state.plan()) {
        Orders::Taken => ("taken", None),
        Orders::WithToken => ("with_token", None),
        Orders::Refused(why) => ("refused", Some(why)),
    };
    Ok(json_page(StatusCode::OK, &json!({ "orders": orders, "why": why })))
}

/// Nothing from elsewhere, nothing that stands in the page itself, and no page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file by name, with its media type.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("dashboard/icon.svg")),
    ("app.js", SCRIPT, include_str!("dashboard/app.js")),
    ("elements.js", SCRIPT, include_str!("dashboard/elements.js")),
    ("link.js", SCRIPT, include_str!("dashboard/link.js")),
    ("plot.js", SCRIPT, include_str!("dashboard/plot.js")),
    ("pools.js", SCRIPT, include_str!("dashboard/pools.js")),
    ("routes.js", SCRIPT, include_str!("dashboard/routes.js")),
    ("timeline.js", SCRIPT, include_str!("dashboard/timeline.js")),
    ("words.js", SCRIPT, include_str!("dashboard/words.js")),
];
