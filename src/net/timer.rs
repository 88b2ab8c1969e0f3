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

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moves_both_ways() {
        let start = tokio::time::Instant::now().into_std();
        let mut timer = Timer::default();
        let after = |timer: &mut Timer, ms| timer.set(start + Duration::from_millis(ms));
        after(&mut timer, 100);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_expired(cx))).await.is_pending());
        after(&mut timer, 300);
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed_paused(), 300);
        after(&mut timer, 900);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_expired(cx))).await.is_pending());
        after(&mut timer, 400);
        poll_fn(|cx| timer.poll_expired(cx)).await;
        assert_eq!(start.elapsed_paused(), 400);
        timer.clear();
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_expired(cx))).await.is_pending());
    }

    trait ElapsedPaused {
        fn elapsed_paused(&self) -> u128;
    }

    impl ElapsedPaused for Instant {
        fn elapsed_paused(&self) -> u128 {
            tokio::time::Instant::now().into_std().duration_since(*self).as_millis()
        }
    }
}
