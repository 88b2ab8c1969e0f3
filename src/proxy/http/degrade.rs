//! What a client gets: what the pool of its route answers, or, where that fails, what the pool's
//! ladder of degradation has instead: another pool, the last good response, a fixed one. While the pool
//! is on a lower rung, requests begin there, except for trials.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::{Method, StatusCode};

use super::Scratch;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::onward::Onward;
use crate::ambient;
use crate::cache::{Key, Store, Stored, rules};
use crate::health::Outcome;
use crate::limit::Rejection;
use crate::model::field::Known;
use crate::model::{Fields, Name, ResponseHead};
use crate::route::filter::Reply;
use crate::upstream::fallbacks::Rung;
use crate::upstream::{Fallbacks, LocalEndpoint, LocalPool, Permit};
use crate::wire::Length;

/// What a request gets.
pub(super) enum Answer {
    /// Something of our own.
    Reply(Box<Reply>),
    /// An endpoint's response, of which the head is there.
    Exchange(Box<Exchange>, Length),
}

/// Gets an answer from `pool`, or from what stands in for it.
///
/// # Errors
/// When there is none.
pub(super) async fn answer<'a>(
    onward: &Onward<'a>,
    pool: &'a LocalPool,
    scratch: &mut Scratch,
    client: &mut Client,
    account: &mut Account<'a>,
) -> Result<Answer, ProxyError> {
    let Some(fallbacks) = &pool.shared.settings.fallbacks else {
        let (exchange, length) = onward.to(pool, scratch, client, account).await?;
        return Ok(Answer::Exchange(exchange, length));
    };
    let down = Down { onward, pool, fallbacks };
    let rung = usize::from(pool.shared.guard.rung.load(Ordering::Relaxed));
    if rung == 0 || fallbacks.is_trial(is_repeatable(onward, scratch), ambient::draw()) {
        match down.own(rung, scratch, client, account).await? {
            Ok(answer) => Ok(answer),
            Err(own) => down.descend(1, own, (scratch, client, account)).await,
        }
    } else {
        account.pool = Some(pool);
        down.descend(rung, Own::Untried, (scratch, client, account)).await
    }
}

/// Whether the request can be sent again whatever became of it.
fn is_repeatable(onward: &Onward<'_>, scratch: &Scratch) -> bool {
    onward.body.is_empty() && scratch.request.method.is_idempotent()
}

/// The way down the ladder of one pool.
#[derive(Clone, Copy)]
struct Down<'b, 'a> {
    onward: &'b Onward<'a>,
    pool: &'a LocalPool,
    fallbacks: &'a Fallbacks,
}

/// What became of the request in the pool itself.
enum Own<'a> {
    /// Nothing yet.
    Untried,
    /// An error, and the endpoint that was asked last.
    Failed(ProxyError, Option<Rc<LocalEndpoint>>),
    /// An answer that says that something is broken, for the case that nobody has a better one.
    Broken(Box<Broken<'a>>),
}

/// An exchange that is held back, and what the account had of it.
struct Broken<'a> {
    exchange: Box<Exchange>,
    length: Length,
    head: ResponseHead,
    permit: Option<Permit<'a>>,
    endpoint: Option<Rc<LocalEndpoint>>,
    session: Option<usize>,
    first_byte: Option<Instant>,
}

/// What a request has with it on its way.
type Baggage<'b, 'a> = (&'b mut Scratch, &'b mut Client, &'b mut Account<'a>);

impl<'a> Down<'_, 'a> {
    /// Asks the pool itself, which is on `rung` at present.
    ///
    /// # Errors
    /// When the request failed for a reason that lies outside of the pool.
    async fn own(
        &self,
        rung: usize,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'a>,
    ) -> Result<Result<Answer, Own<'a>>, ProxyError> {
        let own = match self.onward.to(self.pool, scratch, client, account).await {
            Ok((exchange, length)) if !is_broken(scratch.response.status) => {
                // As long as the pool is on its own rung, its endpoints' samples tell of what went well.
                if rung > 0 {
                    self.fallbacks.passed(0);
                }
                return Ok(Ok(Answer::Exchange(exchange, length)));
            }
            Ok((exchange, length)) => Own::Broken(Box::new(Broken {
                exchange,
                length,
                head: std::mem::take(&mut scratch.response),
                permit: account.permit.take(),
                endpoint: account.endpoint.clone(),
                session: account.session,
                first_byte: account.first_byte,
            })),
            Err(error) if !speaks_of_pool(&error) => return Err(error),
            Err(error) => Own::Failed(error, account.endpoint.clone()),
        };
        self.fallbacks.failed(0);
        self.pool.shared.alarm.raise();
        Ok(Err(own))
    }

    /// Takes the first answer there is from rung `from` on, or else the pool's own.
    fn descend<'b>(
        self,
        from: usize,
        own: Own<'a>,
        (scratch, client, account): Baggage<'b, 'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, ProxyError>> + 'b>>
    where
        Self: 'b,
        'a: 'b,
    {
        Box::pin(async move {
            for (number, rung) in self.fallbacks.rungs(from) {
                let answer = match rung {
                    Rung::Pool(name) if self.may_ask(&own, scratch, client) => {
                        self.ask((number, name), scratch, client, account).await?
                    }
                    Rung::Pool(_) => None,
                    Rung::Stale(store) => self.stale(store, scratch).map(Answer::Reply),
                    Rung::Respond(reply) => Some(Answer::Reply(Box::new(reply.clone()))),
                };
                if let Some(answer) = answer {
                    self.settle_for(number, own, scratch, account);
                    return Ok(answer);
                }
            }
            match own {
                Own::Untried => {
                    // Nothing stands in for the pool here: it is the one to ask, whatever its state.
                    match self.own(from, scratch, client, account).await? {
                        Ok(answer) => Ok(answer),
                        Err(own) => self.give_up(own, scratch, account),
                    }
                }
                own => self.give_up(own, scratch, account),
            }
        })
    }

    /// Whether another pool may be asked after what became of the request here: its body is whole, at the
    /// client or kept, and it was not processed or may be twice.
    fn may_ask(&self, own: &Own<'a>, scratch: &Scratch, client: &Client) -> bool {
        let unprocessed = match own {
            Own::Untried => true,
            Own::Broken(_) => false,
            Own::Failed(ProxyError::RequestTimeout(_), _) => return false,
            Own::Failed(error, _) => {
                let said = matches!(error, ProxyError::Refused | ProxyError::LeftOut);
                let unsent = matches!(error, ProxyError::NoEndpoint | ProxyError::Rejected(_));
                said || unsent || error.is_unsent()
            }
        };
        let may_twice = scratch.request.method.is_idempotent() || self.onward.branch.retry.non_idempotent;
        let is_whole = !client.body_begun || client.replay.is_some();
        is_whole && (unprocessed || may_twice)
    }

    /// Asks the pool of this name, which is a rung; what failed there is counted and told.
    ///
    /// # Errors
    /// When the request failed for a reason that lies outside of the pool.
    async fn ask(
        &self,
        (number, name): (usize, &Name),
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'a>,
    ) -> Result<Option<Answer>, ProxyError> {
        let Some(place) = account.local.snapshot.index_of(name) else { return Ok(None) };
        let Some(other) = account.local.pools.get(place) else { return Ok(None) };
        account.under_way.enter(place);
        match answer(self.onward, other, scratch, client, account).await {
            Ok(Answer::Exchange(exchange, _)) if is_broken(scratch.response.status) => {
                let status = scratch.response.status.as_u16();
                exchange.lease().finish(Outcome::of_status(status), ambient::now());
            }
            Ok(answer) => {
                self.fallbacks.passed(number);
                return Ok(Some(answer));
            }
            Err(error) if !speaks_of_pool(&error) => return Err(error),
            Err(error) => account.fail(self.onward.cx, &error),
        }
        self.fallbacks.failed(number);
        account.permit = None;
        Ok(None)
    }

    /// The response that was kept for requests like this one, if it may be used.
    fn stale(&self, store: &Store, scratch: &Scratch) -> Option<Box<Reply>> {
        let request = &scratch.request;
        if !matches!(request.method, Method::GET | Method::HEAD) || !self.onward.body.is_empty() {
            return None;
        }
        let now = ambient::now();
        let key = Key::of(self.onward.cx.peer.scheme, &scratch.host, request);
        let stored = store.find(&key, request, now)?;
        Some(Box::new(reply(&stored, &request.fields, now)))
    }

    /// An answer was found on rung `number`: it is counted, and the pool's own failure is told.
    fn settle_for(&self, number: usize, own: Own<'a>, scratch: &mut Scratch, account: &mut Account<'a>) {
        let name = self.fallbacks.metrics.name(number);
        self.fallbacks.metrics.answered(number);
        // Where the other pool has a ladder too, its rung is the one that answered.
        let rung = *account.degraded.get_or_insert(name);
        let untold = match own {
            Own::Untried => format!("the pool is degraded to {rung}"),
            Own::Failed(error, endpoint) => {
                let answering = std::mem::replace(&mut account.endpoint, endpoint);
                account.fail(self.onward.cx, &error);
                account.endpoint = answering;
                // The reply may take its time, which the request has used up.
                if matches!(error, ProxyError::RequestTimeout(_)) {
                    scratch.watch.start(ambient::now());
                }
                format!("{error}; degraded to {rung}")
            }
            Own::Broken(broken) => {
                let status = broken.head.status.as_u16();
                broken.exchange.lease().finish(Outcome::of_status(status), ambient::now());
                format!("the endpoint answered {status}; degraded to {rung}")
            }
        };
        let error_type = account.error.take().map_or("destination_unavailable", |(error_type, _)| error_type);
        account.error = Some((error_type, untold));
    }

    /// Nothing stands in for what became of the request in the pool itself.
    fn give_up(
        &self,
        own: Own<'a>,
        scratch: &mut Scratch,
        account: &mut Account<'a>,
    ) -> Result<Answer, ProxyError> {
        account.pool = Some(self.pool);
        match own {
            Own::Untried => Err(ProxyError::NoEndpoint),
            Own::Failed(error, endpoint) => {
                account.endpoint = endpoint;
                Err(error)
            }
            Own::Broken(broken) => {
                let Broken { exchange, length, head, permit, endpoint, session, first_byte } = *broken;
                scratch.response = head;
                (account.permit, account.endpoint, account.error) = (permit, endpoint, None);
                (account.session, account.first_byte) = (session, first_byte);
                Ok(Answer::Exchange(exchange, length))
            }
        }
    }
}

/// Whether a response says that whoever should have answered could not: these are an endpoint's words
/// for what is an error where it happens to us.
fn is_broken(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

/// Whether an error says something of the pool, rather than of the client or of the request.
fn speaks_of_pool(error: &ProxyError) -> bool {
    !matches!(
        error,
        ProxyError::Malformed(_)
            | ProxyError::Path
            | ProxyError::Connect
            | ProxyError::HeaderTimeout(_)
            | ProxyError::ClientIdle(_)
            | ProxyError::ClientGone
            | ProxyError::ClientBody(_)
            | ProxyError::ClientStalled(_)
            | ProxyError::ClientSlow(_)
            | ProxyError::TooLarge(_)
            | ProxyError::NoRoute
            | ProxyError::Overdue(..)
            | ProxyError::Rejected(Rejection::Deadline)
    )
}

/// A kept response as it is given to a client, which is told how old it is (RFC 9111 §5.1, RFC 9211).
fn reply(stored: &Stored, request: &Fields, now: Instant) -> Reply {
    let kept = now.saturating_duration_since(stored.received);
    let mut fields = Fields::default();
    stored.write_fields(&mut fields);
    let not_modified = rules::is_not_modified(request, &fields);
    if not_modified {
        // What describes a body that is not there (RFC 9110 §15.4.5).
        let describes = |name: &[u8]| {
            let name = name.to_ascii_lowercase();
            name.starts_with(b"content-") && name != b"content-location"
        };
        fields.retain(|known, name, _| known != Known::Other || !describes(name));
    }
    fields.append(b"age", stored.terms.age(kept).as_secs().to_string().as_bytes());
    let status = format!("forebay; hit; ttl={}", stored.terms.ttl(kept));
    fields.append(b"cache-status", status.as_bytes());
    if not_modified {
        return Reply { status: StatusCode::NOT_MODIFIED, fields, body: bytes::Bytes::new(), details: None };
    }
    // Stated here, because a response to `HEAD` states it too, and has no body to count.
    fields.append_known(Known::ContentLength, stored.body.len().to_string().as_bytes());
    Reply { status: stored.status, fields, body: stored.body.clone(), details: None }
}
