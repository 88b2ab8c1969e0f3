//! Pages that go on for as long as somebody reads them: what is told goes out as it comes. Knows not what
//! that is, nor who may hear it.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time;

use super::pages::{self, Page, Refusal};

/// What an answer's body is.
#[derive(Debug)]
pub(super) enum PageBody {
    /// All of it is known.
    Whole(Full<Bytes>),
    /// It goes on.
    Lasting(Lasting),
}

/// How many pages may go on at once, and until when.
#[derive(Debug)]
pub(super) struct LastingPages {
    slots: Arc<Semaphore>,
    over: watch::Sender<bool>,
}

/// Where a page's pieces are told. A piece that does not fit waits until the reader has made room.
pub(super) type Telling = mpsc::Sender<Bytes>;

/// How a connection gets on: 0 while its answers are whole, then the pieces that were taken of one that
/// lasts.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<AtomicU64>);

/// A body that goes on.
pub(super) struct Lasting {
    telling: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    told: mpsc::Receiver<Bytes>,
    pace: Pace,
    _slot: OwnedSemaphorePermit,
}

impl Default for LastingPages {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_LASTING)), over: watch::channel(false).0 }
    }
}

impl LastingPages {
    /// A page of this media type that goes on until `tell` completes or the admin listener ends. `tell` has to
    /// say something every [`HEARTBEAT`]: a page of which nothing is taken for longer than an answer may take
    /// is cut off.
    ///
    /// # Errors
    /// When there are too many already.
    pub(super) fn page<F>(&self, kind: &'static str, tell: impl FnOnce(Telling) -> F) -> Result<Page, Refusal>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let hint = format!("{MAX_LASTING} can follow at once; end one of them");
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many follow already", hint));
        };
        let (sender, told) = mpsc::channel(PIECES);
        let (told_all, mut over) = (tell(sender), self.over.subscribe());
        let telling: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            tokio::select! {
                () = told_all => {}
                _ = over.wait_for(|over| *over) => {}
            }
        });
        let body =
            PageBody::Lasting(Lasting { telling: Some(telling), told, pace: Pace::default(), _slot: slot });
        let (head, _) = pages::page(StatusCode::OK, kind, "").into_parts();
        Ok(Response::from_parts(head, body))
    }

    /// Ends those that there are.
    pub(super) fn end(&self) {
        self.over.send_replace(true);
    }
}

impl Pace {
    /// Completes once `limit` has passed for a whole answer, or without a piece taken of one that lasts.
    pub(super) async fn overdue(&self, limit: Duration) {
        let mut before = 0;
        loop {
            time::sleep(limit).await;
            let now = self.0.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    }
}

impl PageBody {
    /// Has `pace` tell how the body gets on, if it lasts.
    pub(super) fn keep_pace(&mut self, pace: &Pace) {
        if let Self::Lasting(lasting) = self {
            pace.0.fetch_add(1, Ordering::Relaxed);
            lasting.pace = pace.clone();
        }
    }
}

impl Lasting {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // Once it is over it holds the other end no longer: what was told last comes, and then the end.
        if self.telling.as_mut().is_some_and(|telling| telling.as_mut().poll(cx).is_ready()) {
            self.telling = None;
        }
        let piece = self.told.poll_recv(cx);
        if let Poll::Ready(Some(_)) = piece {
            self.pace.0.fetch_add(1, Ordering::Relaxed);
        }
        piece
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Lasting(lasting) => {
                lasting.poll_piece(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Lasting(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Lasting(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lasting")
    }
}

/// How often a page that goes on has to say something, if only that there is nothing.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Pages that may go on at once: less than the connections there may be, so that some are left for the rest.
const MAX_LASTING: usize = 16;

/// Pieces of a page that may wait for its reader.
const PIECES: usize = 16;

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_told_goes_out_as_it_comes_and_to_the_last_piece() {
        let pages = LastingPages::default();
        let page = pages.page("text/plain", |telling| async move {
            for piece in ["one\n", "two\n"] {
                let _ = telling.send(Bytes::from(piece)).await;
                time::sleep(HEARTBEAT).await;
            }
            let _ = telling.send(Bytes::from("three\n")).await;
        });
        let whole = page.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(whole, "one\ntwo\nthree\n");
    }

    #[tokio::test(start_paused = true)]
    async fn pages_end_with_the_listener_and_give_their_place_back() {
        let pages = LastingPages::default();
        let open = || pages.page("text/plain", |telling| async move { telling.closed().await });
        let mut all: Vec<Page> = (0..MAX_LASTING).map(|_| open().unwrap()).collect();
        assert_eq!(open().unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        all.pop();
        let last = open().unwrap();
        pages.end();
        assert_eq!(last.into_body().collect().await.unwrap().to_bytes(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_overdue_and_one_that_does_is_not() {
        let (limit, pages) = (2 * HEARTBEAT, LastingPages::default());
        let pace = Pace::default();
        let beat = |telling: Telling| async move {
            while telling.send(Bytes::from("\n")).await.is_ok() {
                time::sleep(HEARTBEAT).await;
            }
        };
        let mut body = pages.page("text/plain", beat).unwrap().into_body();
        body.keep_pace(&pace);
        let reading = async {
            for _ in 0..20 {
                let _ = body.frame().await;
            }
        };
        tokio::select! {
            () = pace.overdue(limit) => panic!("it is read"),
            () = reading => {}
        }
        time::timeout(2 * limit, pace.overdue(limit)).await.expect("nobody reads it any more");
    }
}
