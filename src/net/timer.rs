//! A deadline that is moved on every request and hardly ever reached. Moving it later costs a
//! store: the runtime's timer is left where it is and set again only when it fires early.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// A movable deadline.
#[derive(Debug, Default)]
pub struct Timer {
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Moves the deadline.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// Takes the deadline away.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// Whether there is no deadline.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.at.is_none()
    }

    /// Ready once the deadline has passed.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let at = tokio::time::Instant::from_std(at);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= at {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::{advance, sleep};

    use super::*;

    /// The runtime's present, which stands still until it is moved.
    fn present() -> Instant {
        sleep(Duration::ZERO).deadline().into_std()
    }

    async fn is_expired(timer: &mut Timer) -> bool {
        poll_fn(|cx| Poll::Ready(timer.poll_expired(cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let start = present();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timer = Timer::default();
        for (deadline, from) in [(100, 0), (300, 0), (900, 300), (400, 300)] {
            timer.set(at(deadline));
            assert!(!is_expired(&mut timer).await, "{deadline} is not yet at {from}");
            if deadline == 300 || deadline == 400 {
                poll_fn(|cx| timer.poll_expired(cx)).await;
                assert_eq!(present(), at(deadline));
            }
        }
        timer.clear();
        advance(Duration::from_secs(3600)).await;
        assert!(!is_expired(&mut timer).await && timer.is_clear());
    }
}
