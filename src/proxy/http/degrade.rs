//! What a client gets: what the pool of its route answers, or, where that fails, what the pool's
//! ladder of degradation has instead.

use super::Scratch;
use super::account::Account;
use super::client::Client;
use super::error::ProxyError;
use super::exchange::Exchange;
use super::onward::Onward;
use crate::route::filter::Reply;
use crate::upstream::LocalPool;
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
    let (exchange, length) = onward.to(pool, scratch, client, account).await?;
    Ok(Answer::Exchange(exchange, length))
}
