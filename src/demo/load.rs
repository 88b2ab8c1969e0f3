//! The demo's clients: a few keep-alive connections through the proxy, each with a request at a
//! steady pace. They time what they get and tell the tally; what the proxy does is not their concern.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task;
use tokio::time::{self, MissedTickBehavior};

use super::origin::{CAST, SIGNATURE};
use super::tally::{Ending, Tally};
use crate::ambient;

/// Requests a second, by all clients together.
pub(super) const RATE: u32 = 50;

/// Clients, with one connection each.
pub(super) const CLIENTS: u32 = 8;

/// One client: sends to the proxy at `to`, at its share of [`RATE`], for as long as it is polled.
/// Clients are spread over the first pace by their `place`, counted from 0.
pub(super) async fn client(place: u32, to: SocketAddr, tally: Rc<RefCell<Tally>>) {
    let pace = Duration::from_secs(1) * CLIENTS / RATE;
    let mut beat = time::interval(pace);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    time::sleep(pace / CLIENTS * place).await;
    let mut connection = None;
    loop {
        beat.tick().await;
        let began = ambient::now();
        tally.borrow_mut().begin();
        let answer = time::timeout(PATIENCE, ask(to, &mut connection)).await;
        let Answer { origin, good } = answer.unwrap_or_default();
        tally.borrow_mut().end(Ending { origin, good, took: ambient::now().duration_since(began) });
    }
}

/// What came back; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    origin: Option<usize>,
    good: bool,
}

/// Sends one request on the connection, or on a new one when there is none that can be used.
async fn ask(to: SocketAddr, connection: &mut Option<SendRequest<Empty<Bytes>>>) -> Answer {
    let Some(sender) = usable(to, connection).await else { return Answer::default() };
    let mut request = Request::new(Empty::new());
    if let Ok(host) = HeaderValue::from_str(&to.to_string()) {
        request.headers_mut().insert(header::HOST, host);
    }
    let Ok(response) = sender.send_request(request).await else { return Answer::default() };
    let signature = response.headers().get(SIGNATURE);
    let origin = CAST.iter().position(|temper| signature.is_some_and(|s| s == temper.name));
    let below_500 = response.status() < StatusCode::INTERNAL_SERVER_ERROR;
    let whole = response.into_body().collect().await.is_ok();
    Answer { origin, good: below_500 && whole }
}

async fn usable(
    to: SocketAddr,
    connection: &mut Option<SendRequest<Empty<Bytes>>>,
) -> Option<&mut SendRequest<Empty<Bytes>>> {
    let ready = match connection {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !ready {
        *connection = Some(connect(to).await.ok()?);
    }
    connection.as_mut()
}

async fn connect(to: SocketAddr) -> io::Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    task::spawn_local(async {
        // The request that was under way has failed too, and that is where it is counted.
        let _ = driver.await;
    });
    Ok(sender)
}

/// After this long a client gives a request up.
const PATIENCE: Duration = Duration::from_secs(5);
