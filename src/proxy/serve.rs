//! A client's connection from its acceptance: counted, or refused, and then served as its listener has it.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::http::{self, Refused};
use super::proxy_protocol::{self, Introduced};
use super::tls::Handed;
use super::told::told_of_none;
use super::{Listening, Live, Worker, tcp, tls};
use crate::ambient;
use crate::limit::Refusal;
use crate::net::stream::Socket;
use crate::observe::ended::StreamResult;
use crate::observe::metrics::ListenerMetrics;
use crate::observe::panics::{Panicked, Place, contain};
use crate::upstream::snapshot::Entered;
use crate::upstream::{Listener, Service};

/// A connection that was let in, and what everything behind knows of it.
#[derive(Debug)]
pub struct Arrival {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// What the worker knows of it.
    pub live: Rc<Live>,
    /// Who is at the other end, or for whom that is said to be; `None` for Unix sockets.
    pub client: Option<SocketAddr>,
    /// What another listener has read of it already; then it begins TLS, and this one ends it.
    pub first: Bytes,
}

/// Serves a connection that `listening` accepted from `peer`. It counts as open from the call on,
/// before anything of it is polled. A panic ends it alone.
pub fn serve(
    worker: Rc<Worker>,
    listening: Rc<Listening>,
    socket: Socket,
    peer: Option<SocketAddr>,
) -> impl Future<Output = ()> {
    let registered = worker.register(&listening, peer);
    let entrance = Entrance::new(&worker, registered.live(), socket);
    async move {
        registered.attend().await;
        match entrance {
            Entrance::Open(entry, socket, listener) => {
                let arrival = Arrival {
                    worker: Rc::clone(&worker),
                    live: Rc::clone(registered.live()),
                    client: peer,
                    first: Bytes::new(),
                };
                let served = pin!(let_in(arrival, listener, socket));
                let handed = contain(Place::Connection, served).await.unwrap_or_else(|panic| {
                    tell(&panic, &worker, &listening, peer);
                    None
                });
                drop(entry);
                if let Some(handed) = handed {
                    let introduced = registered.live().introduced().cloned();
                    drop(registered);
                    Box::pin(take_over(worker, handed, introduced)).await;
                }
            }
            Entrance::Refused(refused) => Box::pin(refused.tell()).await,
            Entrance::Closed => {}
        }
    }
}

/// Learns who the client is, where that is told, and serves it. Gives what another listener is to serve.
async fn let_in(mut arrival: Arrival, listener: Arc<Listener>, socket: Socket) -> Option<Handed> {
    if let Some(headers) = &listener.headers {
        let introduced = Box::pin(proxy_protocol::introduce(&mut arrival, &listener, headers, &socket)).await;
        if introduced.is_none() {
            told_of_none(&arrival.worker, &listener, &arrival.live, StreamResult::Malformed);
            return None;
        }
        let client = arrival.client.map(|client| client.ip());
        if let Err(why) = listener.door.pass(client, ambient::now) {
            if let Some(refused) = turn_away(&arrival.worker, &arrival.live, &listener, socket, why) {
                Box::pin(refused.tell()).await;
            }
            return None;
        }
    }
    accepted(arrival, listener, socket).await
}

/// Serves a connection that a `tls` listener was not to keep. From here on it is the other listener's,
/// whose limits it is under too.
async fn take_over(worker: Rc<Worker>, handed: Handed, introduced: Option<Rc<Introduced>>) {
    let Some(listening) = worker.listening(handed.to) else { return };
    let Handed { socket, first, client, .. } = handed;
    let registered = worker.register(&listening, client);
    registered.attend().await;
    let Entrance::Open(entry, socket, listener) = Entrance::new(&worker, registered.live(), socket) else {
        return;
    };
    // Who the client is, the first has learnt.
    if listener.headers.is_some()
        && let Err(why) = listener.door.pass(client.map(|client| client.ip()), ambient::now)
    {
        // It began TLS, so that there is no way to tell it.
        drop(turn_away(&worker, registered.live(), &listener, socket, why));
        return;
    }
    if let Some(introduced) = introduced {
        registered.live().introduce(introduced);
    }
    if listener.tls.is_some() {
        let (arriving, live) = (Rc::clone(&worker), Rc::clone(registered.live()));
        let arrival = Arrival { worker: arriving, live, client, first };
        if let Err(panic) = contain(Place::Connection, pin!(accepted(arrival, listener, socket))).await {
            tell(&panic, &worker, &listening, client);
        }
    }
    drop(entry);
}

/// Each kind is boxed, so that an idle connection holds room for its own alone. Gives what another listener
/// is to serve.
async fn accepted(arrival: Arrival, listener: Arc<Listener>, socket: Socket) -> Option<Handed> {
    match &listener.service {
        Service::Http => Box::pin(http::accepted(arrival, listener, socket)).await,
        Service::Tcp(service) => {
            let begun = Box::pin(tcp::begin(arrival, &listener, &service.timeouts, socket)).await;
            // Not taken apart here, where there would be room for it as long as the connection lasts.
            let passing = begun.map(|(arrival, accepted)| {
                Box::pin(tcp::pass(arrival, &listener, (&service.split, &service.timeouts), accepted))
            });
            if let Some(passing) = passing {
                passing.await;
            }
        }
        Service::Tls(_) => return Box::pin(tls::accepted(arrival, listener, socket)).await,
        // Its sockets accept nothing.
        Service::Udp(_) => {}
    }
    None
}

/// Has it counted and logged that a connection is refused. Gives what is to be told of it, if it is.
fn turn_away(
    worker: &Rc<Worker>,
    live: &Live,
    listener: &Listener,
    socket: Socket,
    why: Refusal,
) -> Option<Refused> {
    told_of_none(worker, listener, live, StreamResult::Denied);
    Refused::new(worker, listener, socket, why)
}

fn tell(panic: &Panicked, worker: &Rc<Worker>, listening: &Listening, peer: Option<SocketAddr>) {
    let local = listening.local(worker);
    let listener = local.snapshot.listener(listening.id).map(|listener| listener.name.as_str());
    tracing::error!(%panic, listener, ?peer, "a panic ended a connection");
}

/// Counts a connection for as long as it lives, in metrics and against what there may be.
struct Entry {
    metrics: Arc<ListenerMetrics>,
    worker: Rc<Worker>,
    /// Given back with it.
    _entered: Entered,
}

/// Whether a connection is let in.
enum Entrance {
    Open(Entry, Socket, Arc<Listener>),
    Refused(Refused),
    Closed,
}

impl Entrance {
    fn new(worker: &Rc<Worker>, live: &Live, socket: Socket) -> Self {
        let local = live.listening.local(worker);
        let Some(listener) = local.snapshot.listener(live.listening.id) else { return Self::Closed };
        match Entry::new(worker, listener, live.peer()) {
            Ok(entry) => Self::Open(entry, socket, Arc::clone(listener)),
            Err(why) => turn_away(worker, live, listener, socket, why).map_or(Self::Closed, Self::Refused),
        }
    }
}

impl Entry {
    fn new(worker: &Rc<Worker>, listener: &Listener, peer: Option<SocketAddr>) -> Result<Self, Refusal> {
        // Where a proxy says who the client is, that is who has to pass.
        if listener.headers.is_none() {
            listener.door.pass(peer.map(|peer| peer.ip()), ambient::now)?;
        }
        let entered = listener.enter().ok_or(Refusal::Listener)?;
        worker.pressure.enter()?;
        listener.metrics.accepted(worker.shard);
        Ok(Self { metrics: Arc::clone(&listener.metrics), worker: Rc::clone(worker), _entered: entered })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.worker.pressure.leave();
        self.metrics.closed(self.worker.shard);
    }
}
