//! The demo's origins: three small HTTP servers of different temper on a thread of their own. They
//! know nothing of the proxy before them; each signs its answers, so that a client can tell whom
//! it talked to.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{self, LocalSet};
use tokio::time;

use crate::ambient;

/// How an origin behaves.
#[derive(Debug)]
pub(super) struct Temper {
    /// What it signs with.
    pub(super) name: &'static str,
    /// The least time that it takes to answer.
    delay: Duration,
    /// What comes on top of that, at most.
    jitter: Duration,
    /// When it is not itself; never when unset.
    spells: Option<Spells>,
}

/// Times at which an origin fails: again and again, from a moment in each period on.
#[derive(Debug)]
struct Spells {
    period: Duration,
    from: Duration,
    to: Duration,
    /// Of a hundred requests, how many it answers with 503 meanwhile.
    refuses: u64,
    /// Of a hundred requests, how many it leaves half answered meanwhile.
    breaks: u64,
}

/// Everyone who plays, in the order of [`Origins::addresses`].
pub(super) const CAST: [Temper; 3] = [
    Temper { name: "good", delay: Duration::ZERO, jitter: Duration::ZERO, spells: None },
    Temper {
        name: "slow",
        delay: Duration::from_millis(60),
        jitter: Duration::from_millis(40),
        spells: None,
    },
    Temper {
        name: "flaky",
        delay: Duration::from_millis(2),
        jitter: Duration::from_millis(6),
        spells: Some(Spells {
            period: Duration::from_secs(30),
            from: Duration::from_secs(4),
            to: Duration::from_secs(14),
            refuses: 50,
            breaks: 30,
        }),
    },
];

/// The header field in which an origin signs.
pub(super) const SIGNATURE: &str = "x-origin";

/// The origins at work.
#[derive(Debug)]
pub(super) struct Origins {
    /// Where they are.
    pub(super) addresses: [SocketAddr; CAST.len()],
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Origins {
    /// Binds them to free ports of 127.0.0.1 and has them served.
    pub(super) fn start() -> io::Result<Self> {
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); CAST.len()];
        let mut listeners = Vec::new();
        for (temper, address) in CAST.iter().zip(&mut addresses) {
            let listener = TcpListener::bind(*address)?;
            listener.set_nonblocking(true)?;
            *address = listener.local_addr()?;
            listeners.push((temper, listener));
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let play = move || {
            let stage = LocalSet::new();
            for (temper, listener) in listeners {
                stage.spawn_local(serve(temper, listener));
            }
            // An error means that the sender is gone, which is a stop as well.
            let _ = stage.block_on(&runtime, stopped);
        };
        let thread = thread::Builder::new().name("demo-origins".to_owned()).spawn(play)?;
        Ok(Self { addresses, stop, thread })
    }

    /// Ends them, whatever they are doing.
    pub(super) fn stop(self) {
        drop(self.stop);
        // A panic of theirs has been printed; the demo's summary stands without them.
        let _ = self.thread.join();
    }
}

async fn serve(temper: &'static Temper, listener: TcpListener) {
    let began = ambient::now();
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // What an origin breaks off, it breaks off with a reset.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                let answer = service_fn(move |request| answer(temper, began, request));
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                task::spawn_local(async {
                    // It ends with an error whenever the origin breaks off: that is its part.
                    let _ = connection.await;
                });
            }
            // Out of descriptors, most likely: waiting is all that helps.
            Err(_) => time::sleep(BREATHER).await,
        }
    }
}

async fn answer(
    temper: &'static Temper,
    began: Instant,
    _request: Request<Incoming>,
) -> Result<Response<Line>, Infallible> {
    let jitter = u64::try_from(temper.jitter.as_micros()).unwrap_or(u64::MAX);
    let wait = temper.delay + Duration::from_micros(ambient::draw() % jitter.max(1));
    if !wait.is_zero() {
        time::sleep(wait).await;
    }
    let (status, line) = temper.line(began.elapsed(), ambient::draw() % 100);
    let mut response = Response::new(line);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(SIGNATURE, header::HeaderValue::from_static(temper.name));
    fields.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    Ok(response)
}

impl Temper {
    /// What it says `elapsed` after its start, by a `lot` of 0 to 99.
    fn line(&self, elapsed: Duration, lot: u64) -> (StatusCode, Line) {
        let well = (StatusCode::OK, Line::whole(format!("hello from {}\n", self.name).into()));
        let Some(spells) = &self.spells else { return well };
        let within = Duration::from_millis(
            u64::try_from(elapsed.as_millis() % spells.period.as_millis()).unwrap_or_default(),
        );
        if !(spells.from..spells.to).contains(&within) {
            well
        } else if lot < spells.refuses {
            (StatusCode::SERVICE_UNAVAILABLE, Line::whole("not now\n".into()))
        } else if lot < spells.refuses + spells.breaks {
            (StatusCode::OK, Line::half("half an ans"))
        } else {
            well
        }
    }
}

/// A body of one line, or of half a line and a broken connection.
struct Line {
    text: Option<Bytes>,
    length: u64,
    rest: Rest,
}

/// What follows the text of a [`Line`].
enum Rest {
    End,
    Pause,
    Break,
}

impl Line {
    fn whole(text: Bytes) -> Self {
        Self { length: text.len() as u64, text: Some(text), rest: Rest::End }
    }

    fn half(text: &'static str) -> Self {
        Self { length: text.len() as u64 * 2, text: Some(text.into()), rest: Rest::Pause }
    }
}

impl Body for Line {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(text) = self.text.take() {
            return Poll::Ready(Some(Ok(Frame::data(text))));
        }
        match self.rest {
            Rest::End => Poll::Ready(None),
            Rest::Pause => {
                // Without a pause the server would not send the first half before it sees the break.
                self.rest = Rest::Break;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Rest::Break => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none() && matches!(self.rest, Rest::End)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

/// How long a listener that cannot accept waits before it tries again.
const BREATHER: Duration = Duration::from_millis(50);
