//! What became of a request, for metrics and the access log. Filled in on the way, settled once.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use http::StatusCode;

use super::deadline::Patience;
use super::error::{CLIENT_CLOSED, DENIED, ProxyError};
use super::trace::Traced;
use super::{Connection, Scratch, spans};
use crate::ambient;
use crate::model::Fields;
use crate::model::field::Known;
use crate::model::settings::{Outline, Priority};
use crate::observe::access_log::{Cause, Record};
use crate::observe::metrics::{ClientTimeout, Finished};
use crate::proxy::live::UnderWay;
use crate::route::filter::Reply;
use crate::upstream::snapshot::Branch;
use crate::upstream::{Listener, Local, LocalEndpoint, LocalPool, Permit, Route};

/// The account of one request.
#[derive(Debug)]
pub(super) struct Account<'a> {
    /// The snapshot under which it runs, whatever is published meanwhile.
    pub(super) local: &'a Local,
    /// The listener that took it.
    pub(super) listener: &'a Listener,
    /// The route that it took.
    pub(super) route: Option<&'a Route>,
    /// The branch of it.
    pub(super) branch: Option<&'a Branch>,
    /// The pool that is asked: that of the branch, or one that stands in for it.
    pub(super) pool: Option<&'a LocalPool>,
    /// Counts the request as under way in the pool.
    pub(super) permit: Option<Permit<'a>>,
    /// The endpoint that answered or failed last.
    pub(super) endpoint: Option<Rc<LocalEndpoint>>,
    /// How often an endpoint was asked.
    pub(super) tries: u32,
    /// The endpoint that the client's session stays with, by its index in the pool.
    pub(super) session: Option<usize>,
    /// The cookie that binds the session to the endpoint that answered, when it is not bound to it.
    pub(super) set_cookie: Option<&'a str>,
    /// Fields that the route's filters add to the response, whoever gives it.
    pub(super) added: Fields,
    /// The client, as believed.
    pub(super) client: Option<IpAddr>,
    /// Who authenticated, if the request is logged.
    pub(super) user: Option<Vec<u8>>,
    /// When the request head was there.
    pub(super) started: Instant,
    /// The rung of a ladder of degradation that answers, if it is not the pool itself.
    pub(super) degraded: Option<&'a str>,
    /// Whether others come first where not all can.
    pub(super) priority: Priority,
    /// Whether it had to wait for its turn or for an endpoint since it `started`.
    pub(super) waited: Cell<bool>,
    /// When the request must be over.
    pub(super) deadline: Option<Instant>,
    /// How long the client said that it waits.
    pub(super) patience: Option<Patience>,
    /// When the response head was.
    pub(super) first_byte: Option<Instant>,
    /// The status sent to the client.
    pub(super) status: Option<StatusCode>,
    /// The error, if Forebay made the response or gave up.
    pub(super) error: Option<(&'static str, String)>,
    /// The same for who counts; of no meaning without an error.
    cause: Cause,
    /// Bytes of request body received.
    pub(super) received: u64,
    /// Bytes of response body sent.
    pub(super) sent: u64,
    /// Shows it to whoever asks.
    pub(super) under_way: UnderWay<'a>,
    /// Whether somebody may want to read of it.
    pub(super) is_logged: bool,
    /// The trace that it belongs to, if requests are traced.
    pub(super) trace: Option<Traced<'a>>,
    settled: bool,
}

impl<'a> Account<'a> {
    /// The account of a request that came to `listener` now.
    #[must_use]
    pub(super) fn open(cx: &'a Connection, local: &'a Rc<Local>, listener: &'a Listener) -> Self {
        let started = ambient::now();
        Self {
            local,
            listener,
            route: None,
            branch: None,
            pool: None,
            permit: None,
            endpoint: None,
            tries: 0,
            session: None,
            set_cookie: None,
            added: Fields::default(),
            client: None,
            user: None,
            started,
            degraded: None,
            priority: Priority::default(),
            waited: Cell::new(false),
            deadline: None,
            patience: None,
            first_byte: None,
            status: None,
            error: None,
            cause: Cause::default(),
            received: 0,
            sent: 0,
            under_way: cx.live.begin(local, started),
            is_logged: listener.access_log.is_some() || local.snapshot.tap.is_followed(),
            trace: None,
            settled: false,
        }
    }

    /// Has the client told that the endpoint at `index` answered, if its sessions are to stay with
    /// their endpoints and this one did not come from there.
    pub(super) fn bind_session(&mut self, index: usize) {
        let sessions = self.pool.and_then(|pool| pool.shared.sessions.as_ref());
        if self.session != Some(index) {
            self.set_cookie = sessions.and_then(|sessions| sessions.set_cookie(index));
        }
    }

    /// Takes note of who is asked now, whatever became of those before.
    pub(super) fn ask(&mut self, endpoint: &Rc<LocalEndpoint>) {
        self.endpoint = Some(Rc::clone(endpoint));
        self.tries += 1;
        self.under_way.ask(endpoint);
        self.error = None;
    }

    /// Takes note of an error, also against the endpoint if it is to blame.
    pub(super) fn fail(&mut self, cx: &Connection, error: &ProxyError) {
        if let (Some(kind), Some(endpoint)) = (error.failure(), &self.endpoint) {
            endpoint.shared.metrics.failed(cx.worker.shard, kind);
            self.note_error(error.error_type());
        }
        let timeout = match error {
            ProxyError::HeaderTimeout(_) => Some(ClientTimeout::Header),
            ProxyError::ClientIdle(_) | ProxyError::ClientStalled(_) => Some(ClientTimeout::Idle),
            ProxyError::ClientSlow(_) => Some(ClientTimeout::Rate),
            ProxyError::RequestTimeout(_) | ProxyError::Overdue(..) => Some(ClientTimeout::Request),
            _ => None,
        };
        if let Some(timeout) = timeout {
            self.listener.metrics.timed_out(cx.worker.shard, timeout);
        }
        self.error = Some((error.error_type(), error.to_string()));
        self.cause = error.cause();
    }

    /// Takes note of what a filter answered, if that is a refusal, for those who may want to read of it.
    pub(super) fn note_refusal(&mut self, reply: &Reply) {
        let is_read = self.is_logged || self.is_noted();
        let Some(details) = reply.details.as_ref().filter(|_| is_read) else { return };
        self.error = Some((DENIED, details.clone().into_owned()));
        let limit = match reply.status {
            StatusCode::TOO_MANY_REQUESTS => Some("rate_limit"),
            StatusCode::PAYLOAD_TOO_LARGE => Some("max_body"),
            _ => None,
        };
        self.cause = Cause { limit, ..Cause::default() };
    }

    /// Whether the request was counted.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Counts the request and logs it. Called before the last byte goes out, so that whoever has
    /// the whole answer finds it counted.
    pub(super) fn settle(&mut self, cx: &Connection, scratch: &Scratch) {
        self.settled = true;
        self.permit = None;
        let now = ambient::now();
        let shard = cx.worker.shard;
        let status = self.status.map_or(CLIENT_CLOSED, |status| status.as_u16());
        let finished = Finished {
            status,
            first_byte: self.first_byte.map(|at| at.saturating_duration_since(self.started)),
            duration: now.saturating_duration_since(self.started),
        };
        match (self.branch, self.route) {
            (Some(branch), _) => branch.metrics.finish(shard, &finished),
            (None, Some(route)) => route.answered.finish(shard, &finished),
            (None, None) => self.listener.metrics.refused(shard, status),
        }
        if self.is_logged {
            self.log(&finished, cx, scratch);
        }
        if self.trace.is_some() {
            spans::give(self, &finished, (cx, scratch), now);
        }
    }

    /// Logs the request where it is wanted. That is decided before anything is made of it.
    fn log(&self, finished: &Finished, cx: &Connection, scratch: &Scratch) {
        let shard = cx.worker.shard;
        let Finished { status, duration, .. } = *finished;
        let outline = Outline { status, duration, failed: self.error.is_some() };
        let log = self.listener.access_log.as_ref();
        let kept = log.filter(|log| log.keeps(&outline, ambient::draw));
        if log.is_some() && kept.is_none() {
            self.listener.metrics.left_out_of_log(shard);
        }
        let tap = &self.local.snapshot.tap;
        if kept.is_none() && !tap.is_followed() {
            return;
        }
        let record = self.record(finished, cx, scratch);
        if let Some(log) = kept {
            log.write(shard, &record);
        }
        if tap.is_followed() {
            tap.tell(shard, &record);
        }
    }

    fn record<'r>(&'r self, finished: &Finished, cx: &'r Connection, scratch: &'r Scratch) -> Record<'r> {
        let request = &scratch.request;
        let now = ambient::wall();
        let tls = cx.live.tls();
        Record {
            time: now.checked_sub(finished.duration).unwrap_or(now),
            client: self.client,
            user: self.user.as_deref(),
            method: request.method.as_str(),
            target: &scratch.target,
            version: request.version,
            host: request.authority(),
            referer: request.fields.get(Known::Referer),
            user_agent: request.fields.get(Known::UserAgent),
            request_id: request.fields.get(Known::XRequestId),
            trace_id: self.trace.as_ref().map(|trace| trace.id),
            status: finished.status,
            sent: self.sent,
            received: self.received,
            duration: finished.duration,
            first_byte: finished.first_byte,
            listener: self.listener.name.as_str(),
            route: self.route.map(|route| route.name.as_str()),
            pool: self.pool.map(|pool| pool.shared.settings.name.as_str()),
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.shared.name.as_str()),
            error: self.error.as_ref().map(|(error_type, _)| *error_type),
            details: self.error.as_ref().map(|(_, details)| details.as_str()),
            tries: self.tries,
            rung: self.degraded,
            cause: if self.error.is_some() { self.cause } else { Cause::default() },
            tls_version: tls.and_then(|tls| tls.version),
            sni: cx.live.sni(),
            passed: None,
        }
    }
}
