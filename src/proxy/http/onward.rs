//! A request on its way to one pool: let through, taken to an endpoint, and its response made ready
//! to be passed on. The same for the pool of the route and for one that stands in for it.

use super::account::Account;
use super::admit::{self, Waiting, asking};
use super::client::Client;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::forward::Forward;
use super::{Connection, Scratch};
use crate::ambient;
use crate::health::Outcome;
use crate::model::field::Known;
use crate::model::settings::{ClientTimeouts, UpstreamProtocol};
use crate::upstream::snapshot::Branch;
use crate::upstream::{LocalPool, Route};
use crate::wire::Length;

/// A request that its route has let pass, whatever pool it goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onward<'a> {
    /// The client's connection.
    pub(super) cx: &'a Connection,
    /// The route.
    pub(super) route: &'a Route,
    /// The branch of it.
    pub(super) branch: &'a Branch,
    /// The length of the request body.
    pub(super) body: Length,
    /// The most bytes of request body.
    pub(super) max_body: Option<u64>,
    /// Whether another protocol is asked for.
    pub(super) upgrade: bool,
    /// Time limits towards the client.
    pub(super) client: &'a ClientTimeouts,
}

impl<'a> Onward<'a> {
    /// Gets a response from `pool`, whose head is left in `scratch`.
    ///
    /// # Errors
    /// When a limit turns the request away, or no endpoint answers.
    pub(super) async fn to(
        &self,
        pool: &'a LocalPool,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'a>,
    ) -> Result<(Box<Exchange>, Length), ProxyError> {
        account.pool = Some(pool);
        account.priority = admit::priority(&self.route.priorities, &scratch.request);
        let admitted = asking(self.cx, pool, account).admit(&mut Waiting { client, account }).await?;
        account.permit = Some(admitted.permit);
        let answer = self.ask(pool, scratch, client, account).await;
        if let Some(trial) = admitted.trial {
            let outcome = match &answer {
                Ok(_) => Outcome::of_status(scratch.response.status.as_u16()),
                Err(error) => error.outcome(false),
            };
            trial.end(outcome, ambient::now());
            pool.shared.alarm.raise();
        }
        answer
    }

    /// Gets a response from an endpoint of `pool`, which let the request through.
    async fn ask(
        &self,
        pool: &'a LocalPool,
        scratch: &mut Scratch,
        client: &mut Client,
        account: &mut Account<'a>,
    ) -> Result<(Box<Exchange>, Length), ProxyError> {
        let sessions = pool.shared.sessions.as_ref();
        account.session = sessions.and_then(|sessions| sessions.endpoint_of(&scratch.request.fields));
        let protocol = pool.shared.settings.protocol;
        let upgrade = self.upgrade && self.body.is_empty() && protocol == UpstreamProtocol::Http1;
        if !upgrade {
            scratch.request.fields.remove_known(Known::Upgrade);
        }
        let forward = Forward {
            cx: self.cx,
            pool,
            retry: &self.branch.retry,
            body: self.body,
            max_body: self.max_body,
            upgrade,
            route: self.route,
            client: self.client,
            patience: account.patience,
        };
        let mut exchange = forward.run(scratch, client, account).await?;
        let Scratch { request, response, .. } = scratch;
        match exchange.begin_response(&request.method, response) {
            Ok(length) => Ok((exchange, length)),
            Err(fault) => {
                let error = ProxyError::BadResponse(fault);
                exchange.lease().finish(error.outcome(false), ambient::now());
                Err(error)
            }
        }
    }
}
