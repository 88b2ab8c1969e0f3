//! Spans of a request that is over, by the names of OpenTelemetry's semantic conventions for HTTP, and by
//! `forebay.…` for what they have no name for. Decides what is told, and of which requests.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode, Version};

use super::account::Account;
use super::trace::{Noted, Traced, Try, Why};
use super::{Connection, Scratch};
use crate::ambient;
use crate::health::State;
use crate::model::Address;
use crate::model::field::Known;
use crate::model::settings::UpstreamProtocol;
use crate::net::connect::Steps;
use crate::observe::metrics::Finished;
use crate::trace::{Kind, Span, SpanId, TraceId, Value, sensitive};
use crate::wire::parse::split_port;

/// Gives away the spans of a request that was `finished` `now`, if they are kept.
pub(super) fn give(
    account: &mut Account<'_>,
    finished: &Finished,
    (cx, scratch): (&Connection, &Scratch),
    now: Instant,
) {
    let Some(mut traced) = account.trace.take() else { return };
    let Some(noted) = traced.noted.take() else { return };
    let failed = has_failed(account, finished.status);
    // What happens in a tunnel takes as long as the two like.
    let is_tunnel = account.status == Some(StatusCode::SWITCHING_PROTOCOLS);
    let took = if is_tunnel { finished.first_byte.unwrap_or_default() } else { finished.duration };
    let Some(why) = noted.why(&traced.tracing.settings, failed, took) else { return };
    let wall = ambient::wall();
    let told = Telling { account, traced: &traced, noted: &noted, cx, scratch, wall, now };
    let mut spans = vec![told.request(finished.status, failed, why)];
    spans.extend(noted.waits.borrow().iter().map(|(since, until)| told.wait(*since, *until)));
    for (place, tried) in noted.tries().enumerate() {
        spans.push(told.attempt(place, tried));
        told.opening(tried, &mut spans);
        if tried.has_failed() {
            tried.endpoint.shared.shown.failed_in(traced.id);
        }
    }
    traced.tracing.spans.give(cx.worker.shard, spans);
}

/// Whether it is an error on our side of the wire: the client's errors are not, nor that it left.
fn has_failed(account: &Account<'_>, status: u16) -> bool {
    let broke_off = account.error.as_ref().is_some_and(|(kind, _)| *kind != "http_request_error");
    status >= 500 || (broke_off && status < 400)
}

/// What there is to tell of.
#[derive(Clone, Copy)]
struct Telling<'b> {
    account: &'b Account<'b>,
    traced: &'b Traced<'b>,
    noted: &'b Noted<'b>,
    cx: &'b Connection,
    scratch: &'b Scratch,
    /// The time of day `now`.
    wall: SystemTime,
    now: Instant,
}

/// Attributes of a span, those that there are.
#[derive(Default)]
struct Attributes(Vec<(&'static str, Value)>);

impl Telling<'_> {
    /// The span of the request as a whole.
    fn request(&self, status: u16, failed: bool, why: Why) -> Span {
        let (account, request) = (self.account, &self.scratch.request);
        let (method, original) = method(&request.method);
        let mut all = Attributes::default();
        all.text("http.request.method", method.unwrap_or("_OTHER"));
        all.owned("http.request.method_original", original);
        self.target(&mut all);
        all.int("http.response.status_code", account.status.map(|status| status.as_u16().into()));
        all.text("network.protocol.version", version(request.version));
        all.owned("client.address", account.client.map(|ip| ip.to_string()));
        all.owned("network.peer.address", self.cx.peer.ip.map(|ip| ip.to_string()));
        all.owned("user_agent.original", request.fields.get(Known::UserAgent).map(lossy));
        all.int("http.request.body.size", i64::try_from(account.received).ok());
        all.int("http.response.body.size", i64::try_from(account.sent).ok());
        all.name("forebay.listener", Some(&account.listener.name));
        all.name("forebay.route", account.route.map(|route| &route.name));
        all.name("forebay.pool", account.pool.map(|pool| &pool.shared.settings.name));
        all.owned("forebay.degraded", account.degraded.map(str::to_owned));
        all.text(
            "forebay.kept",
            match why {
                Why::Sampled => "sampled",
                Why::Error => "error",
                Why::Slow => "slow",
            },
        );
        let error = account.error.as_ref();
        match error {
            Some((kind, _)) if failed => all.text("error.type", kind),
            Some((kind, _)) => all.text("forebay.error", kind),
            None if failed => all.owned("error.type", Some(status.to_string())),
            None => {}
        }
        let route = account.route.map_or("", |route| route.name.as_str());
        let name = match method.unwrap_or("HTTP") {
            method if route.is_empty() => Cow::Borrowed(method),
            method => Cow::Owned(format!("{method} {route}")),
        };
        let details = || error.map_or(Cow::Borrowed(""), |(_, details)| Cow::Owned(details.clone()));
        let ids = (self.noted.span, self.noted.parent);
        let within = (account.started, self.now);
        Span { failed: failed.then(details), ..self.span(ids, Kind::Server, (name, within), all) }
    }

    /// What was asked for, as it came.
    fn target(&self, all: &mut Attributes) {
        let (scratch, scheme) = (self.scratch, self.cx.peer.scheme);
        let (path, query) = parts(&scratch.target);
        all.text("url.scheme", scheme);
        all.owned("url.path", Some(lossy(path)));
        all.owned("url.query", query.map(|query| sensitive::redacted(&lossy(query))));
        if let Some((host, port)) = scratch.request.authority().map(split_port) {
            all.owned("server.address", Some(lossy(host)));
            all.int("server.port", port.and_then(|port| lossy(port).parse().ok()));
        }
    }

    /// The span of a wait for one's turn or for an endpoint.
    fn wait(&self, since: Instant, until: Instant) -> Span {
        let mut all = Attributes::default();
        all.name("forebay.pool", self.account.pool.map(|pool| &pool.shared.settings.name));
        self.part(self.noted.span, ("queue wait", (since, until)), all)
    }

    /// The span of the try in this place.
    fn attempt(&self, place: usize, tried: &Try<'_>) -> Span {
        let request = &self.scratch.request;
        let endpoint = &tried.endpoint.shared;
        let (method, original) = method(&request.method);
        let mut all = Attributes::default();
        all.text("http.request.method", method.unwrap_or("_OTHER"));
        all.owned("http.request.method_original", original);
        let scheme = if endpoint.dial.tls.is_some() { "https" } else { "http" };
        let (path, query) = parts(request.target());
        let query = query.map(|query| format!("?{}", sensitive::redacted(&lossy(query)))).unwrap_or_default();
        all.owned("url.full", Some(format!("{scheme}://{}{}{query}", endpoint.name, lossy(path))));
        all.address(&endpoint.dial.address);
        let protocol = tried.pool.map(|pool| pool.shared.settings.protocol);
        all.text(
            "network.protocol.version",
            match protocol {
                Some(UpstreamProtocol::Http2) => "2",
                _ => "1.1",
            },
        );
        all.int("http.response.status_code", tried.status.map(|status| status.as_u16().into()));
        all.int("http.request.resend_count", i64::try_from(place).ok().filter(|place| *place > 0));
        all.name("forebay.pool", tried.pool.map(|pool| &pool.shared.settings.name));
        all.owned("forebay.endpoint", Some(endpoint.name.clone()));
        all.flag("forebay.hedge", tried.hedge);
        all.flag("forebay.cancelled", tried.status.is_none() && tried.error.is_none());
        if tried.state != State::Up {
            all.text("forebay.endpoint.state", tried.state.name());
            all.int("forebay.journal.number", tried.entry.and_then(|number| number.try_into().ok()));
        }
        let refused = tried.status.filter(|status| status.as_u16() >= 400);
        match (tried.error, refused) {
            (Some(error), _) => all.text("error.type", error),
            (None, Some(status)) => all.owned("error.type", Some(status.as_str().to_owned())),
            (None, None) => {}
        }
        let failed = (tried.error.is_some() || refused.is_some()).then_some(Cow::Borrowed(""));
        let within = (tried.began, tried.ended.unwrap_or(self.now));
        let ids = (tried.span, Some(self.noted.span));
        let name = Cow::Borrowed(method.unwrap_or("HTTP"));
        Span { failed, ..self.span(ids, Kind::Client, (name, within), all) }
    }

    /// The spans of the connection that was opened for a try, if one was.
    fn opening(&self, tried: &Try<'_>, spans: &mut Vec<Span>) {
        let Some(steps) = tried.steps.as_deref() else { return };
        let Steps { began, connected, secured } = steps;
        let dial = &tried.endpoint.shared.dial;
        let end = tried.ended.unwrap_or(self.now);
        let mut step = |name, since, until: Option<&Instant>| {
            let mut all = Attributes::default();
            all.address(&dial.address);
            let error = until.is_none().then_some(tried.error).flatten();
            if let Some(error) = error {
                all.text("error.type", error);
            }
            let within = (since, until.copied().unwrap_or(end));
            let failed = error.map(|_| Cow::Borrowed(""));
            spans.push(Span { failed, ..self.part(tried.span, (name, within), all) });
        };
        step("connect", *began, connected.get());
        if let (Some(connected), true) = (connected.get(), dial.tls.is_some()) {
            step("TLS handshake", *connected, secured.get());
        }
    }

    /// A span of something that is ours alone.
    fn part(
        &self,
        parent: SpanId,
        (name, within): (&'static str, (Instant, Instant)),
        attributes: Attributes,
    ) -> Span {
        let ids = (SpanId::of(ambient::draw()), Some(parent));
        self.span(ids, Kind::Internal, (Cow::Borrowed(name), within), attributes)
    }

    fn span(
        &self,
        (id, parent): (SpanId, Option<SpanId>),
        kind: Kind,
        (name, (start, end)): (Cow<'static, str>, (Instant, Instant)),
        attributes: Attributes,
    ) -> Span {
        let trace: TraceId = self.traced.id;
        let (start, end) = (self.nanos(start), self.nanos(end));
        let state = self.noted.state.clone();
        let Attributes(attributes) = attributes;
        Span {
            trace,
            id,
            parent,
            state,
            kind,
            name,
            start,
            end,
            failed: None,
            attributes,
            events: Vec::new(),
        }
    }

    /// The time of day at `at`, by a clock that did not jump while the request was under way.
    fn nanos(&self, at: Instant) -> u64 {
        let since = self.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = since.saturating_sub(self.now.saturating_duration_since(at));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Attributes {
    fn text(&mut self, key: &'static str, text: &'static str) {
        self.0.push((key, Value::Text(Cow::Borrowed(text))));
    }

    fn owned(&mut self, key: &'static str, text: Option<String>) {
        self.0.extend(text.map(|text| (key, Value::Text(Cow::Owned(text)))));
    }

    fn name(&mut self, key: &'static str, name: Option<&crate::model::Name>) {
        self.0.extend(name.map(|name| (key, Value::Name(name.clone()))));
    }

    fn int(&mut self, key: &'static str, number: Option<i64>) {
        self.0.extend(number.map(|number| (key, Value::Int(number))));
    }

    fn flag(&mut self, key: &'static str, is_set: bool) {
        self.0.extend(is_set.then_some((key, Value::Bool(true))));
    }

    /// Where an endpoint is.
    fn address(&mut self, address: &Address) {
        match address {
            Address::Inet(at) | Address::Udp(at) => self.socket(at.ip().to_string(), at.port()),
            Address::Unix(path) => self.unix(path),
        }
    }

    fn socket(&mut self, ip: String, port: u16) {
        self.owned("server.address", Some(ip.clone()));
        self.int("server.port", Some(port.into()));
        self.owned("network.peer.address", Some(ip));
        self.int("network.peer.port", Some(port.into()));
    }

    fn unix(&mut self, path: &Path) {
        self.owned("server.address", Some(path.to_string_lossy().into_owned()));
        self.text("network.transport", "unix");
    }
}

/// The method, if it is one of those that everybody knows, or else as it came.
fn method(method: &Method) -> (Option<&'static str>, Option<String>) {
    let known = METHODS.iter().find(|known| **known == method.as_str()).copied();
    let original = if known.is_none() { Some(method.as_str().to_owned()) } else { None };
    (known, original)
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// Path and query of a target.
fn parts(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'?', target) {
        Some(mark) => {
            target.split_at_checked(mark).map_or((target, None), |(path, query)| (path, query.get(1..)))
        }
        None => (target, None),
    }
}

/// Bytes of the network as text of a bounded length.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(bytes)).into_owned()
}

/// Methods that OpenTelemetry's conventions know (those of RFC 9110 and `PATCH`).
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"];
/// Bytes of a text out of a request that are told.
const MOST: usize = 2048;
