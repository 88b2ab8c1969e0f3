//! `http`: one request and an answer with a status, and if so wished a body, that are expected. The
//! same question and the same verdict over HTTP/1.1 and HTTP/2.

mod answer;

use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header, response};
use regex::bytes::Regex;

use super::status::Statuses;
use super::{Call, Check, Judgement, Kind, Probe, SEARCHED, USER_AGENT, shown};
use crate::model::field::Known;
use crate::model::options::{Fault, FromValue, Given, Options, Value};
use crate::model::settings::UpstreamProtocol;

pub(super) const KIND: Kind = Kind {
    name: "http",
    summary: "a request is answered with the status, and the body, that are expected",
    keys: &["method", "path", "host", "headers", "status", "body", "protocol"],
    read,
};

fn read(options: &Options<'_>, pool: UpstreamProtocol) -> Option<Check> {
    let protocol = options.get_or("protocol", pool);
    let question = Question::read(options)?;
    Some(match protocol {
        UpstreamProtocol::Http1 => Check::Bytes(Arc::new(Http1(question))),
        UpstreamProtocol::Http2 => Check::Call(Arc::new(Http2(question))),
    })
}

/// What is asked, and what is expected.
#[derive(Debug)]
struct Question {
    method: Method,
    path: PathAndQuery,
    host: Option<Authority>,
    /// Ours and those that were given, in the order in which they are sent.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Never empty.
    statuses: Vec<Statuses>,
    body: Option<Body>,
}

/// What a body must hold, within its first 64 KiB.
#[derive(Debug)]
enum Body {
    Text(Box<str>),
    Pattern(Regex),
}

#[derive(Debug)]
struct Http1(Question);

#[derive(Debug)]
struct Http2(Question);

impl Probe for Http1 {
    fn hello(&self, authority: &str) -> Option<Bytes> {
        let Question { method, path, host, headers, .. } = &self.0;
        let host = host.as_ref().map_or(authority, Authority::as_str);
        let mut hello = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                hello.extend_from_slice(part);
            }
        }
        // One request and no more: the endpoint need not keep the connection.
        hello.extend_from_slice(b"Connection: close\r\n\r\n");
        Some(hello.into())
    }

    fn judge(&self, received: &[u8], closed: bool) -> Judgement {
        answer::judge(&self.0, received, closed)
    }

    fn alpn(&self) -> Option<&'static [u8]> {
        Some(b"http/1.1")
    }
}

impl Call for Http2 {
    fn request(&self, authority: &str, https: bool) -> (Request<()>, Bytes) {
        let Question { method, path, host, headers, .. } = &self.0;
        let own = || authority.parse().unwrap_or(Authority::from_static("localhost"));
        let mut request = Request::new(());
        request.method_mut().clone_from(method);
        *request.uri_mut() = uri(host.clone().unwrap_or_else(own), path.clone(), https);
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        (request, Bytes::new())
    }

    fn judge(&self, head: &response::Parts, body: &[u8], end: Option<&HeaderMap>) -> Judgement {
        self.0.judge(head.status.as_u16(), body, end.is_some())
    }
}

impl Question {
    /// Judges an answer with this much of its body, `whole` when that is all of it.
    fn judge(&self, status: u16, body: &[u8], whole: bool) -> Judgement {
        if !self.statuses.iter().any(|statuses| statuses.has(status)) {
            let expected: Vec<_> = self.statuses.iter().map(Statuses::to_string).collect();
            return Judgement::Fail(format!("status {status}, expected {}", expected.join(", ")));
        }
        let searched = body.get(..SEARCHED).unwrap_or(body);
        let whole = whole || body.len() >= SEARCHED;
        let (found, wanted) = match &self.body {
            None => return Judgement::Pass,
            Some(Body::Text(text)) => {
                (memchr::memmem::find(searched, text.as_bytes()).is_some(), shown(text.as_bytes()))
            }
            // An end of the body that is not yet its end must not be taken for it.
            Some(Body::Pattern(pattern)) => (whole && pattern.is_match(searched), format!("/{pattern}/")),
        };
        match (found, whole) {
            (true, _) => Judgement::Pass,
            (false, false) => Judgement::More,
            (false, true) if body.len() > SEARCHED => {
                Judgement::Fail(format!("the first 64 KiB of the body lack {wanted}"))
            }
            (false, true) => Judgement::Fail(format!("body lacks {wanted}")),
        }
    }

    fn read(options: &Options<'_>) -> Option<Self> {
        let method = options.get_or("method", Method::GET);
        let path = match options.given("path") {
            Some(given) => given.read::<Path>().map(|path| path.0),
            None => Some(PathAndQuery::from_static("/")),
        };
        let host = options.get::<Host>("host").map(|host| host.0);
        let statuses = match options.given("status") {
            Some(given) => statuses(&given),
            None => vec![Statuses::WELL],
        };
        let body = options.given("body").and_then(|given| body(&given));
        if method == Method::CONNECT {
            options.problem("method", "CONNECT asks for a tunnel, not for an answer", None);
        }
        if method == Method::HEAD && body.is_some() {
            let hint = Some("write `method = \"GET\"`".to_owned());
            options.problem("body", "an answer to HEAD has no body", hint);
        }
        let headers = headers(options, &method);
        Some(Self { method, path: path?, host, headers, statuses, body })
    }
}

fn statuses(given: &Given<'_>) -> Vec<Statuses> {
    if given.items().is_empty() {
        given.fault("no status would do", Some("leave `status` out for 200-399".to_owned()));
    }
    given.list()
}

/// `"text"` or `{ regex = "…" }`.
fn body(given: &Given<'_>) -> Option<Body> {
    if !given.is_table() {
        return given.read::<String>().map(|text| Body::Text(text.into()));
    }
    let options = given.table()?;
    let pattern = options.require::<Pattern>("regex");
    options.finish();
    pattern.map(|pattern| Body::Pattern(pattern.0))
}

fn headers(options: &Options<'_>, method: &Method) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (key, given) in options.table("headers").iter().flat_map(Options::entries) {
        let Ok(name) = HeaderName::from_bytes(key.name.as_bytes()) else {
            given.fault(format!("{:?} cannot be the name of a header field", key.name), None);
            continue;
        };
        match Known::of(key.name.as_bytes()) {
            Known::Host => {
                given.fault("the host has a key of its own", Some("write `host = \"example.com\"`".into()));
            }
            Known::ContentLength | Known::TransferEncoding | Known::Expect | Known::Trailer => {
                given.fault("a check sends no body", Some("leave it out".into()));
            }
            known if known.is_hop_by_hop() => {
                given.fault("it concerns the connection, and is written by itself", None);
            }
            _ => headers.extend(given.read().map(|value| (name, value))),
        }
    }
    if !headers.iter().any(|(name, _)| name == header::USER_AGENT) {
        headers.insert(0, (header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
    }
    // RFC 9110 §8.6: where a body is to be expected, it is said that there is none.
    if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        headers.push((header::CONTENT_LENGTH, HeaderValue::from_static("0")));
    }
    headers
}

/// The target of a request over HTTP/2.
pub(super) fn uri(authority: Authority, path: PathAndQuery, https: bool) -> Uri {
    let scheme = if https { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    uri.expect("a target with all of its parts is whole")
}

struct Path(PathAndQuery);

impl FromValue for Path {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a path such as \"/healthz\"")?;
        if !text.starts_with('/') {
            return Err(Fault::new(format_args!("{text:?} is not a path"))
                .hint(format!("write {:?}", format!("/{text}"))));
        }
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        let path = text.parse().ok().filter(|_| plain).map(Self);
        path.ok_or_else(|| {
            Fault::new(format_args!("{text:?} cannot be sent as a path"))
                .hint("write other characters as in \"%20\"")
        })
    }
}

struct Host(Authority);

impl FromValue for Host {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a host such as \"example.com\"")?;
        let host = text.parse::<Authority>().ok().filter(|host| !host.as_str().contains('@')).map(Self);
        host.ok_or_else(|| Fault::new(format_args!("{text:?} is not a host, with or without a port")))
    }
}

struct Pattern(Regex);

impl FromValue for Pattern {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("a regular expression")?;
        Regex::new(text).map(Self).map_err(|error| {
            let error = error.to_string();
            // The lines before the last draw the expression.
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Fault::new(format_args!("{text:?} is not a regular expression: {reason}"))
        })
    }
}
