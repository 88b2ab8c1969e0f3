//! What is noted of a request that may be traced: when it waited, whom it asked, how that went. Nothing is
//! formatted here: whether anybody wants to know is decided when the request is over, and `spans` tells it
//! then.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::account::Account;
use super::attempt::Failure;
use super::{Connection, Scratch};
use crate::ambient;
use crate::health::State;
use crate::model::Fields;
use crate::model::field::Known;
use crate::model::settings::{self, Parents, Propagation};
use crate::net::connect::Steps;
use crate::trace::{self, Incoming, Outgoing, SpanId, TraceId};
use crate::upstream::snapshot::Tracing;
use crate::upstream::{Lease, LocalEndpoint, LocalPool};

/// The trace that a request belongs to.
#[derive(Debug)]
pub(super) struct Traced<'a> {
    /// Which.
    pub(super) id: TraceId,
    /// How requests are traced.
    pub(super) tracing: &'a Tracing,
    /// What is noted, if it may be wanted.
    pub(super) noted: Option<Box<Noted<'a>>>,
}

/// What is noted of a request.
#[derive(Debug)]
pub(super) struct Noted<'a> {
    /// The span of the request.
    pub(super) span: SpanId,
    /// The span of who asks.
    pub(super) parent: Option<SpanId>,
    /// What systems before say of the trace.
    pub(super) state: Option<Arc<str>>,
    /// Whether it was chosen at its beginning.
    pub(super) sampled: bool,
    debug: bool,
    /// When it waited for its turn or for an endpoint.
    pub(super) waits: RefCell<Vec<(Instant, Instant)>>,
    tries: Tries<'a>,
}

/// Tries, in the order in which they began. Most requests have one, which takes no room of its own.
#[derive(Debug, Default)]
struct Tries<'a> {
    first: Option<Try<'a>>,
    more: Vec<Try<'a>>,
}

/// What is noted of a try.
#[derive(Debug)]
pub(super) struct Try<'a> {
    /// Its span, which the endpoint was told.
    pub(super) span: SpanId,
    /// The pool.
    pub(super) pool: Option<&'a LocalPool>,
    /// The endpoint.
    pub(super) endpoint: Rc<LocalEndpoint>,
    /// The state of the endpoint when it began.
    pub(super) state: State,
    /// The number of the journal's newest entry about it then.
    pub(super) entry: Option<u64>,
    /// Whether it began beside another.
    pub(super) hedge: bool,
    /// When it began.
    pub(super) began: Instant,
    /// When it ended, unless it lasted as long as the request.
    pub(super) ended: Option<Instant>,
    /// The status of its response.
    pub(super) status: Option<StatusCode>,
    /// The type of its error.
    pub(super) error: Option<&'static str>,
    /// How the opening of a connection for it went.
    pub(super) steps: Option<Rc<Steps>>,
}

/// Why the spans of a request are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was chosen at its beginning.
    Sampled,
    /// It failed.
    Error,
    /// It took long.
    Slow,
}

impl<'a> Traced<'a> {
    /// The trace of a request that comes with these fields, from a peer that is `trusted` or not. What they
    /// say of a trace that is not believed is taken out.
    #[must_use]
    fn begin(tracing: &'a Tracing, fields: &mut Fields, trusted: bool) -> Self {
        let settings = &tracing.settings;
        let incoming = read(settings, fields, trusted);
        let id =
            incoming.ids.map_or_else(|| TraceId::of(ambient::draw(), ambient::draw()), |(trace, _)| trace);
        let parent = incoming.ids.map(|(_, span)| span);
        let sampled = incoming.sampled.unwrap_or_else(|| trace::is_among(id, settings.sample));
        let debug = incoming.debug;
        let state = state(settings, fields, parent.is_some());
        if !tracing.is_exported || (!sampled && !settings.may_keep()) {
            // Whoever is asked is told whose part it is; nobody will ask for what happened here.
            let span = parent.unwrap_or_else(|| SpanId::of(ambient::draw()));
            trace::write(fields, &settings.propagate, &Outgoing { ids: (id, span), sampled, debug });
            return Self { id, tracing, noted: None };
        }
        let noted = Noted {
            span: SpanId::of(ambient::draw()),
            parent,
            state: state.map(Into::into),
            sampled,
            debug,
            waits: RefCell::default(),
            tries: Tries::default(),
        };
        Self { id, tracing, noted: Some(Box::new(noted)) }
    }

    /// Takes note of a wait for one's turn or for an endpoint.
    pub(super) fn waited(&self, since: Instant, until: Instant) {
        if let Some(noted) = &self.noted {
            noted.waits.borrow_mut().push((since, until));
        }
    }
}

impl<'a> Account<'a> {
    /// Begins to trace the request in `scratch`, if requests are traced.
    pub(super) fn trace(&mut self, cx: &Connection, scratch: &mut Scratch) {
        let Some(tracing) = &self.local.snapshot.tracing else { return };
        let trusted = cx.peer.is_trusted(&self.listener.identity);
        self.trace = Some(Traced::begin(tracing, &mut scratch.request.fields, trusted));
    }

    /// Whether anything is noted for spans.
    #[must_use]
    pub(super) fn is_noted(&self) -> bool {
        self.trace.as_ref().is_some_and(|trace| trace.noted.is_some())
    }

    /// Takes note of a try under `lease`, and has the endpoint told by `fields` whose part it is.
    pub(super) fn note_try(&mut self, lease: &Lease, (began, hedge): (Instant, bool), fields: &mut Fields) {
        let pool = self.pool;
        let Some(Traced { id, tracing, noted: Some(noted) }) = &mut self.trace else { return };
        let span = SpanId::of(ambient::draw());
        let Noted { sampled, debug, .. } = **noted;
        trace::write(fields, &tracing.settings.propagate, &Outgoing { ids: (*id, span), sampled, debug });
        let endpoint = Rc::clone(lease.endpoint());
        let shown = &endpoint.shared.shown;
        let (state, entry) = (shown.get(), shown.entry());
        noted.tries.push(Try {
            span,
            pool,
            endpoint,
            state,
            entry,
            hedge,
            began,
            ended: None,
            status: None,
            error: None,
            steps: None,
        });
    }

    /// Takes note of the status with which the try under `lease` was answered.
    pub(super) fn note_answer(&mut self, lease: &Lease, status: StatusCode) {
        if let Some(tried) = self.noted_try(lease.endpoint()) {
            tried.status = Some(status);
            tried.steps = lease.take_steps();
        }
    }

    /// Takes note of how a try failed. One that was answered is not over: its answer may be passed on.
    pub(super) fn note_failure(&mut self, failure: &Failure) {
        match failure {
            Failure::Unsent(error, ..) | Failure::Unanswered(error, _) => {
                let by_client = error.error_type() == "http_request_error";
                self.note_end(failure.lease(), (!by_client).then(|| error.error_type()));
            }
            Failure::Answered(..) => {}
        }
    }

    /// Takes note that the try under `lease` is over, and of the type of its error, if it is one.
    pub(super) fn note_end(&mut self, lease: &Lease, error: Option<&'static str>) {
        if let Some(tried) = self.noted_try(lease.endpoint()) {
            tried.end(error);
            tried.steps = tried.steps.take().or_else(|| lease.take_steps());
        }
    }

    /// Takes note that the last try failed, unless it was over.
    pub(super) fn note_error(&mut self, error: &'static str) {
        let Some(endpoint) = self.endpoint.as_ref().map(Rc::clone).filter(|_| self.is_noted()) else {
            return;
        };
        if let Some(tried) = self.noted_try(&endpoint) {
            tried.end(Some(error));
        }
    }

    /// The try at `endpoint` that goes on, the newest first: it may be tried more than once.
    fn noted_try(&mut self, endpoint: &Rc<LocalEndpoint>) -> Option<&mut Try<'a>> {
        let noted = self.trace.as_mut()?.noted.as_mut()?;
        let goes_on = |tried: &&mut Try<'_>| tried.ended.is_none() && Rc::ptr_eq(&tried.endpoint, endpoint);
        let Tries { first, more } = &mut noted.tries;
        more.iter_mut().rev().chain(first).find(goes_on)
    }
}

impl Try<'_> {
    /// Whether it failed by the endpoint's fault.
    #[must_use]
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some() || self.status.is_some_and(|status| status.is_server_error())
    }

    fn end(&mut self, error: Option<&'static str>) {
        self.ended = Some(ambient::now());
        self.error = error;
    }
}

impl<'a> Tries<'a> {
    fn push(&mut self, tried: Try<'a>) {
        if self.first.is_none() {
            self.first = Some(tried);
        } else {
            self.more.push(tried);
        }
    }
}

impl<'a> Noted<'a> {
    /// Its tries, in the order in which they began.
    pub(super) fn tries(&self) -> impl Iterator<Item = &Try<'a>> {
        self.tries.first.iter().chain(&self.tries.more)
    }

    /// Whether, and why, the spans of a request are kept that `failed` or not, and took so long.
    #[must_use]
    pub(super) fn why(&self, settings: &settings::Tracing, failed: bool, took: Duration) -> Option<Why> {
        if self.sampled {
            return Some(Why::Sampled);
        }
        if failed && settings.errors {
            return Some(Why::Error);
        }
        settings.slow.filter(|slow| took > *slow).map(|_| Why::Slow)
    }
}

/// What the fields say of a trace, as far as that is believed.
fn read(settings: &settings::Tracing, fields: &Fields, trusted: bool) -> Incoming {
    let is_believed = match settings.parent {
        Parents::None => false,
        Parents::Trusted => trusted,
        Parents::All => true,
    };
    let incoming = if is_believed { trace::read(fields, &settings.propagate) } else { None };
    incoming.unwrap_or_default()
}

/// What systems before say of the trace. It goes with `traceparent`, and not without.
fn state(settings: &settings::Tracing, fields: &mut Fields, continues: bool) -> Option<String> {
    if !settings.propagate.contains(&Propagation::W3c) {
        return None;
    }
    if !continues {
        fields.remove_known(Known::Tracestate);
        return None;
    }
    trace::take_state(fields)
}
