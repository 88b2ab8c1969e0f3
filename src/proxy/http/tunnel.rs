//! After `101 Switching Protocols`: bytes both ways, each direction ended when its sender ends it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::channel::{Channel, Pump, PumpError};
use super::client::Client;
use super::exchange::Exchange;
use super::watch::Watch;

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    pump: Pump,
    drained: bool,
    ended: bool,
}

/// Moves bytes until both directions have ended, one has failed, or none has moved for `idle`.
/// Gives the bytes received from the client and sent to it.
pub(super) async fn run(
    client: &mut Client,
    exchange: &mut Exchange,
    watch: &mut Watch,
    idle: Duration,
) -> (u64, u64) {
    let mut up = Direction::default();
    let mut down = Direction::default();
    exchange.begin_tunnel(client);
    poll_fn(|cx| {
        let failed = up.poll(&mut client.channel, &mut exchange.channel, cx).is_err()
            || down.poll(&mut exchange.channel, &mut client.channel, cx).is_err();
        if failed || (up.ended && down.ended) {
            return Poll::Ready(());
        }
        watch.poll(exchange.progress() + client.progress(), idle, cx).map(|_| ())
    })
    .await;
    (up.pump.moved, down.pump.moved)
}

impl Direction {
    fn poll(&mut self, from: &mut Channel, to: &mut Channel, cx: &mut Context<'_>) -> Result<(), PumpError> {
        if let Poll::Ready(Err(error)) = self.poll_to_end(from, to, cx) {
            return Err(error);
        }
        Ok(())
    }

    fn poll_to_end(
        &mut self,
        from: &mut Channel,
        to: &mut Channel,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        if !self.drained {
            ready!(self.pump.poll(from, to, cx))?;
            self.drained = true;
        }
        if let (false, Channel::Http1(conn)) = (self.ended, to) {
            ready!(conn.poll_shutdown(cx)).map_err(PumpError::Write)?;
        }
        self.ended = true;
        Poll::Ready(Ok(()))
    }
}
