//! A second try beside a first that takes long: the first good response of the two is passed on, and
//! the other try is cancelled. For requests that can be repeated and have no body. Interim responses
//! are left out, as nobody knows whose the final one will be.

use std::cell::OnceCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::Scratch;
use super::account::Account;
use super::attempt::{Attempt, Failure, MAX_INTERIM};
use super::channel::Pump;
use super::client::Client;
use super::deadline;
use super::error::ProxyError;
use super::exchange::{Exchange, Sent};
use super::forward::{Course, Forward};
use crate::ambient;
use crate::health::Outcome;
use crate::limit::hedge::{Race, Refusal};
use crate::model::settings::HedgeAfter;
use crate::model::{RequestHead, ResponseHead};
use crate::upstream::Lease;
use crate::wire::Malformed;

/// A try that runs.
struct Runner<'a> {
    /// The use of the endpoint, until the request was sent.
    lease: Option<Rc<Lease>>,
    began: Instant,
    stage: Stage<'a>,
    head: Box<ResponseHead>,
    interim: usize,
}

enum Stage<'a> {
    Sending(Pin<Box<dyn Future<Output = Result<Sent, ProxyError>> + 'a>>),
    Waiting(Box<Exchange>),
    Over,
}

/// What happened.
enum Event {
    /// The try in this place has a response head, or failed.
    Done(usize, Result<Box<Exchange>, Box<Failure>>),
    /// It is time for something.
    Due,
    /// The client left.
    Gone,
}

impl<'a> Forward<'a> {
    /// After which time a second try is begun; `None` if there is to be none.
    #[inline]
    pub(super) fn hedge_after(&self, course: &Course<'_>, scratch: &Scratch) -> Option<Duration> {
        let hedge = self.route.hedge.as_ref()?;
        let fit = course.tries == 0 && !self.upgrade && self.is_repeatable(&scratch.request.method);
        let observed = self.route.observed.as_ref().filter(|_| fit)?;
        if course.tried.is_empty() {
            observed.earn(self.cx.worker.shard, hedge.extra);
        }
        match hedge.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Quantile(_) => observed.hedge_after(),
        }
    }

    /// Makes a try, and a second one beside it if that has no response head `after` it began. The head
    /// of the better one is left in `scratch`.
    ///
    /// # Errors
    /// When no try that runs is left: how the last one failed.
    pub(super) async fn race(
        &self,
        (attempt, after, course): (Attempt, Duration, &mut Course<'a>),
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'_>,
    ) -> Result<(Box<Exchange>, Outcome), Box<Failure>> {
        let Attempt { lease, fresh, began, .. } = attempt;
        let first = lease.index();
        let mut hedge_at = Some(began + after);
        let requests = (scratch.request.clone(), OnceCell::new());
        let mut runners = [Some(self.runner((lease, fresh), began, &requests.0, account)), None];
        let mut timer = Box::pin(tokio::time::sleep_until(began.into()));
        let mut hedged = false;
        loop {
            timer.as_mut().reset(self.next_due(&runners, hedge_at, account.deadline).into());
            let event = poll_fn(|cx| poll_event(&mut runners, timer.as_mut(), client, cx)).await;
            let (place, done) = match event {
                Event::Done(place, done) => (place, done),
                Event::Gone => match self.cancel(&mut runners, || ProxyError::ClientGone) {
                    Some((place, failure)) => (place, Err(failure)),
                    None => continue,
                },
                Event::Due => {
                    let now = ambient::now();
                    if hedge_at.is_some_and(|at| at <= now) {
                        hedge_at = None;
                        if let Some(second) = self.second(first, now, scratch, account) {
                            hedged = true;
                            let [_, place] = &mut runners;
                            *place = Some(self.later_runner((second, now), &requests, account));
                        }
                    }
                    match self.expire(&mut runners, now, account.deadline) {
                        Some((place, failure)) => (place, Err(failure)),
                        None => continue,
                    }
                }
            };
            let ended = runners.get_mut(place).and_then(Option::take);
            let other_runs = runners.iter().any(Option::is_some);
            let failure = match (done, ended) {
                (Ok(exchange), Some(mut runner)) => {
                    std::mem::swap(&mut scratch.response, &mut runner.head);
                    let outcome = self.answered(&exchange, runner.began, &scratch.response, account);
                    if !other_runs || !self.refuses(&exchange, outcome, scratch) {
                        self.won(place, hedged, &runners, account);
                        account.endpoint = Some(exchange.endpoint().clone());
                        return Ok((exchange, outcome));
                    }
                    Box::new(Failure::Answered(exchange, outcome))
                }
                (Err(failure), _) => failure,
                (Ok(exchange), None) => Box::new(Failure::Unanswered(ProxyError::LeftOut, exchange)),
            };
            if !other_runs {
                if hedged {
                    self.pool.shared.guard.metrics.hedged(self.cx.worker.shard, Race::Failed);
                }
                account.endpoint = Some(failure.lease().endpoint().clone());
                return Err(failure);
            }
            course.tried.push(failure.lease().index());
            self.settle(*failure, account);
        }
    }

    /// Chooses the endpoint of a second try, if there may be one.
    fn second(&self, first: usize, now: Instant, scratch: &Scratch, account: &Account<'_>) -> Option<Lease> {
        let guard = &self.pool.shared.guard;
        let shard = self.cx.worker.shard;
        let lease = if guard.is_saturated() {
            Err(Refusal::Saturated)
        } else {
            self.pick(&[first], now, scratch, account).map_err(|_| Refusal::NoEndpoint)
        };
        let observed = self.route.observed.as_ref()?;
        let lease =
            lease.and_then(|lease| if observed.spend(shard) { Ok(lease) } else { Err(Refusal::Extra) });
        lease.map_err(|refusal| guard.metrics.not_hedged(shard, refusal)).ok()
    }

    /// The second try, which begins `now`. Its endpoint is told that the client waits for less by then,
    /// and which part of the trace it is.
    fn later_runner<'r>(
        &'r self,
        (lease, now): (Lease, Instant),
        (first, later): &'r (RequestHead, OnceCell<RequestHead>),
        account: &mut Account<'_>,
    ) -> Runner<'r> {
        account.tries += 1;
        let request = if account.patience.is_some() || account.is_noted() {
            later.get_or_init(|| {
                let mut request = first.clone();
                deadline::tell(account, self.route, &mut request, now);
                account.note_try(&lease, (now, true), &mut request.fields);
                request
            })
        } else {
            first
        };
        self.runner((lease, None), now, request, account)
    }

    fn runner<'r>(
        &'r self,
        (lease, fresh): (Lease, Option<u64>),
        began: Instant,
        request: &'r RequestHead,
        account: &Account<'_>,
    ) -> Runner<'r> {
        let (until, deadline) = (self.until(began), account.deadline);
        let lease = Rc::new(lease);
        let held = Rc::clone(&lease);
        let sending =
            Box::pin(async move { self.send_in_time((&held, fresh), until, request, deadline).await });
        Runner { lease: Some(lease), began, stage: Stage::Sending(sending), head: Box::default(), interim: 0 }
    }

    /// When something is due next: the second try, or the end of one's time.
    fn next_due(
        &self,
        runners: &[Option<Runner<'_>>; 2],
        hedge_at: Option<Instant>,
        deadline: Option<Instant>,
    ) -> Instant {
        let ends = runners.iter().flatten().filter_map(|runner| Some(self.end_of(runner)?.0));
        let due = ends.chain(hedge_at).chain(deadline).min();
        due.unwrap_or_else(|| ambient::now() + Duration::from_secs(60))
    }

    /// When the time of a try that waits is over, and what that is then.
    fn end_of(&self, runner: &Runner<'_>) -> Option<(Instant, ProxyError)> {
        let Stage::Waiting(exchange) = &runner.stage else { return None };
        let patience = self.patience(exchange.lease());
        let idle = (runner.began + patience, ProxyError::UpstreamIdle(patience));
        let until = self.until(runner.began).filter(|until| until.at < idle.0);
        Some(until.map_or(idle, |until| (until.at, ProxyError::TryTimeout(until.limit))))
    }

    /// The first try whose time is over, with its failure.
    fn expire(
        &self,
        runners: &mut [Option<Runner<'_>>; 2],
        now: Instant,
        deadline: Option<Instant>,
    ) -> Option<(usize, Box<Failure>)> {
        if deadline.is_some_and(|deadline| deadline <= now) {
            return self.cancel(runners, || self.request_timeout());
        }
        runners.iter_mut().enumerate().find_map(|(place, runner)| {
            let runner = runner.as_mut()?;
            let (at, error) = self.end_of(runner)?;
            if at > now {
                return None;
            }
            self.observe_cut(&error);
            Some((place, runner.fail(error)?))
        })
    }

    /// Ends all tries, the first of them by `error`.
    fn cancel(
        &self,
        runners: &mut [Option<Runner<'_>>; 2],
        error: impl Fn() -> ProxyError,
    ) -> Option<(usize, Box<Failure>)> {
        let place = runners.iter().position(Option::is_some)?;
        for (other, runner) in runners.iter_mut().enumerate() {
            if other != place {
                *runner = None;
            }
        }
        let failure = runners.get_mut(place)?.as_mut()?.fail(error())?;
        Some((place, failure))
    }

    /// Takes note of who answered first, and of how long the other has waited in vain.
    fn won(&self, place: usize, hedged: bool, runners: &[Option<Runner<'_>>; 2], account: &mut Account<'_>) {
        for lease in runners.iter().flatten().filter_map(Runner::lease) {
            account.note_end(lease, None);
        }
        let shard = self.cx.worker.shard;
        if hedged {
            let race = if place == 0 { Race::Lost } else { Race::Won };
            self.pool.shared.guard.metrics.hedged(shard, race);
        }
        let [first, _] = runners;
        if let (Some(first), Some(observed)) = (first, &self.route.observed) {
            observed.times.took(shard, ambient::now().saturating_duration_since(first.began));
        }
    }

    /// Ends a try that failed while the other goes on.
    fn settle(&self, failure: Failure, account: &mut Account<'_>) {
        let now = ambient::now();
        account.note_failure(&failure);
        let error = match failure {
            Failure::Answered(exchange, outcome) => {
                account.note_end(exchange.lease(), None);
                return exchange.lease().finish(outcome, now);
            }
            Failure::Unsent(error, lease, _) => {
                lease.finish(error.outcome(false), now);
                account.endpoint = Some(lease.endpoint().clone());
                error
            }
            Failure::Unanswered(error, exchange) => {
                exchange.learn_from(&error);
                // The endpoint had closed a connection that nobody used, which is no failure.
                let stale = matches!(error, ProxyError::NoResponse(_)) && exchange.is_on_reused_connection();
                let outcome = if stale { Outcome::Cancelled } else { error.outcome(false) };
                exchange.lease().finish(outcome, now);
                account.endpoint = Some(exchange.endpoint().clone());
                error
            }
        };
        account.fail(self.cx, &error);
        account.error = None;
    }
}

impl Runner<'_> {
    fn poll(
        &mut self,
        client: &mut Client,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<Exchange>, Box<Failure>>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Sending(mut sending) => match sending.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.stage = Stage::Sending(sending);
                        return Poll::Pending;
                    }
                    Poll::Ready(sent) => {
                        drop(sending);
                        let lease = self.take_lease();
                        match sent {
                            Ok(sent) => {
                                self.stage = Stage::Waiting(Exchange::new(lease, sent, Pump::default()));
                            }
                            Err(error) => {
                                return Poll::Ready(Err(Box::new(Failure::Unsent(error, lease, None))));
                            }
                        }
                    }
                },
                Stage::Waiting(mut exchange) => {
                    let uploaded = exchange.poll_upload(client, cx);
                    let head = match uploaded {
                        Ok(()) => exchange.poll_head(&mut self.head, cx),
                        Err(error) => Poll::Ready(Err(error)),
                    };
                    match head {
                        Poll::Pending => {
                            self.stage = Stage::Waiting(exchange);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(())) if !self.head.status.is_informational() => {
                            return Poll::Ready(Ok(exchange));
                        }
                        Poll::Ready(Ok(())) if self.interim < MAX_INTERIM => {
                            self.interim += 1;
                            self.stage = Stage::Waiting(exchange);
                        }
                        Poll::Ready(Ok(())) => {
                            let error = ProxyError::BadResponse(Malformed::StatusLine);
                            return Poll::Ready(Err(Box::new(Failure::Unanswered(error, exchange))));
                        }
                        Poll::Ready(Err(error)) => {
                            return Poll::Ready(Err(Box::new(Failure::Unanswered(error, exchange))));
                        }
                    }
                }
                Stage::Over => return Poll::Pending,
            }
        }
    }

    /// The use of the endpoint, while it goes on.
    fn lease(&self) -> Option<&Lease> {
        match &self.stage {
            Stage::Sending(_) => self.lease.as_deref(),
            Stage::Waiting(exchange) => Some(exchange.lease()),
            Stage::Over => None,
        }
    }

    /// Ends it.
    fn fail(&mut self, error: ProxyError) -> Option<Box<Failure>> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Waiting(exchange) => Some(Box::new(Failure::Unanswered(error, exchange))),
            Stage::Sending(sending) => {
                drop(sending);
                Some(Box::new(Failure::Unsent(error, self.take_lease(), None)))
            }
            Stage::Over => None,
        }
    }

    /// The use of the endpoint, once nothing is being sent any more.
    fn take_lease(&mut self) -> Lease {
        let lease = self.lease.take().and_then(Rc::into_inner);
        lease.expect("what was being sent under it is over, and it is taken once")
    }
}

fn poll_event(
    runners: &mut [Option<Runner<'_>>; 2],
    timer: Pin<&mut Sleep>,
    client: &mut Client,
    cx: &mut Context<'_>,
) -> Poll<Event> {
    for (place, runner) in runners.iter_mut().enumerate() {
        if let Some(Poll::Ready(done)) = runner.as_mut().map(|runner| runner.poll(client, cx)) {
            return Poll::Ready(Event::Done(place, done));
        }
    }
    if client.poll_gone(cx).is_ready() {
        return Poll::Ready(Event::Gone);
    }
    timer.poll(cx).map(|()| Event::Due)
}
