//! The use of one endpoint by one request, from the choice to the last byte: what policies and
//! detectors learn of it, they learn here.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::LocalEndpoint;
use super::places::Seat;
use crate::ambient;
use crate::balance::estimate;
use crate::health::{Outcome, Trial};
use crate::limit::Rejection;
use crate::net::connect::Steps;

/// Counts as one request in flight for as long as it lives. Dropped without [`Self::finish`], it says
/// nothing about the endpoint.
#[derive(Debug)]
pub struct Lease {
    endpoint: Rc<LocalEndpoint>,
    index: usize,
    /// When the request began to wait for its response.
    began: Cell<Instant>,
    /// What the response says so far; nothing while it is waited for.
    answer: Cell<Option<Outcome>>,
    on_trial: Cell<bool>,
    /// When it was let through by a half-open breaker, for as long as that wants to know.
    tried: Cell<Option<Instant>>,
    finished: Cell<bool>,
    /// The right to open a connection, where there was none to use again.
    seat: RefCell<Option<Seat>>,
    /// How the opening of the last connection went that was opened for it, if one was.
    steps: RefCell<Option<Rc<Steps>>>,
}

impl Lease {
    /// The use of the endpoint at `index`, if it has a place.
    pub(super) fn new(
        endpoint: Rc<LocalEndpoint>,
        index: usize,
        on_trial: bool,
        now: Instant,
    ) -> Result<Self, Rejection> {
        // Before the request is counted, so that giving up takes nothing back that others have seen.
        let seat =
            if endpoint.needs_seat() { Some(endpoint.shared.places.seat(endpoint.shard)?) } else { None };
        match endpoint.shared.places.in_flight() {
            None => endpoint.shared.gauge.begin(now),
            Some(limit) if endpoint.shared.gauge.begin_below(limit, now) => {}
            Some(_) => return Err(Rejection::EndpointsFull),
        }
        let tried = endpoint.shared.breaker.take_trial().then_some(now);
        Ok(Self {
            endpoint,
            index,
            began: Cell::new(now),
            answer: Cell::new(None),
            on_trial: Cell::new(on_trial),
            tried: Cell::new(tried),
            finished: Cell::new(false),
            seat: RefCell::new(seat),
            steps: RefCell::default(),
        })
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Rc<LocalEndpoint> {
        &self.endpoint
    }

    /// The endpoint's index in its pool.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether an endpoint that was ejected is judged by this request.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.on_trial.get()
    }

    /// The right to open a connection to the endpoint.
    ///
    /// # Errors
    /// When it has as many as it may, and this worker has none to close for it.
    pub fn seat(&self) -> Result<Seat, Rejection> {
        self.seat.take().map_or_else(|| self.endpoint.seat(), Ok)
    }

    /// Gives up the right to open a connection, which is not needed after all.
    pub fn needs_no_seat(&self) {
        self.seat.take();
    }

    /// A connection begins to be opened for the request. How far that is, is noted in what is given.
    #[must_use]
    pub fn connects(&self) -> Rc<Steps> {
        let steps = Rc::new(Steps::begin(ambient::now()));
        self.steps.replace(Some(Rc::clone(&steps)));
        steps
    }

    /// How far the last connection is that was opened for the request since this was last asked.
    #[must_use]
    pub fn take_steps(&self) -> Option<Rc<Steps>> {
        self.steps.take()
    }

    /// A connection had to be opened for the request, which is sent only now. What that took says
    /// little of what the next request will take.
    pub fn connected(&self, now: Instant) {
        let gauge = &self.endpoint.shared.gauge;
        gauge.wait(now);
        gauge.waited(self.began.replace(now));
    }

    /// The head of the response came, which by itself would mean `outcome`.
    pub fn answered(&self, outcome: Outcome, now: Instant) {
        if self.answer.replace(Some(outcome)).is_some() {
            return;
        }
        self.tell_breaker(outcome, now);
        let shared = &self.endpoint.shared;
        shared.gauge.waited(self.began.get());
        if outcome == Outcome::Success {
            let took = now.saturating_duration_since(self.began.get());
            estimate::observe(&shared.gauge, took, now);
            shared.tally.answered(self.endpoint.shard, took);
        }
    }

    /// The last byte of the response came. What its trailers say counts, if they say something.
    pub fn complete(&self, trailers: Option<Outcome>, now: Instant) {
        self.finish(trailers.or(self.answer.get()).unwrap_or(Outcome::Cancelled), now);
    }

    /// The exchange ended. What is told first counts.
    pub fn finish(&self, outcome: Outcome, now: Instant) {
        if self.finished.replace(true) {
            return;
        }
        self.tell_breaker(outcome, now);
        let shared = &self.endpoint.shared;
        match outcome {
            Outcome::Success => {
                shared.tally.succeeded(self.endpoint.shard);
                estimate::succeed(&shared.gauge);
            }
            Outcome::Cancelled => {}
            Outcome::Failure(failure) => {
                shared.tally.failed(self.endpoint.shard, failure);
                estimate::penalise(&shared.gauge, now);
                shared.alarm.raise();
            }
        }
        if self.on_trial.replace(false) {
            shared.tally.end_trial(match outcome {
                Outcome::Success => Some(Trial::Passed),
                Outcome::Failure(_) => Some(Trial::Failed),
                Outcome::Cancelled => None,
            });
            shared.alarm.raise();
        }
    }

    /// A half-open breaker learns as soon as there is something to learn.
    fn tell_breaker(&self, outcome: Outcome, now: Instant) {
        if let Some(began) = self.tried.take() {
            let shared = &self.endpoint.shared;
            shared.breaker.end_trial(outcome, now.saturating_duration_since(began));
            shared.alarm.raise();
        }
    }

    /// Takes note that the client left before there was an answer. That is no failure; but if it had
    /// waited for longer than the endpoint takes, the endpoint takes longer now.
    fn abandon(&self, now: Instant) {
        let shared = &self.endpoint.shared;
        let waited = now.saturating_duration_since(self.began.get());
        if shared.gauge.estimate().is_some_and(|(estimate, _)| waited > estimate) {
            estimate::observe(&shared.gauge, waited, now);
            shared.tally.answered(self.endpoint.shard, waited);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let shared = &self.endpoint.shared;
        if self.answer.get().is_none() {
            shared.gauge.waited(self.began.get());
            if !self.finished.get() {
                self.abandon(ambient::now());
            }
        }
        shared.gauge.end();
        if shared.places.left(self.endpoint.shard) {
            self.endpoint.http1.close_oldest();
        }
        if self.tried.get().is_some() {
            shared.breaker.end_trial(Outcome::Cancelled, Duration::ZERO);
        }
        if self.on_trial.get() {
            shared.tally.end_trial(None);
        }
    }
}
