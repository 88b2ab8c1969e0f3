//! What a worker knows of an open connection of a client's, so that it can be told to end and be shown to
//! whoever asks. Written by the connection in passing, in memory of its own thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::ptr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::passage::Passage;
use super::proxy_protocol::Introduced;
use super::{Listening, Worker};
use crate::net::http1::Conn;
use crate::net::stream::Traffic;
use crate::observe::connections::{Connection, Protocol, Request};
use crate::upstream::owner::Owner;
use crate::upstream::{Local, LocalEndpoint, Route};

/// An open connection.
#[derive(Debug)]
pub struct Live {
    /// What accepted it.
    pub listening: Rc<Listening>,
    /// The client, as far as is believed.
    peer: Cell<Option<SocketAddr>>,
    introduced: OnceCell<Rc<Introduced>>,
    owner: OnceCell<Owner>,
    reach: OnceCell<Reach>,
    /// When it was accepted.
    pub(super) since: Instant,
    /// What it speaks.
    pub protocol: Cell<Protocol>,
    tls: OnceCell<Tls>,
    requests: Cell<u64>,
    under_way: Cell<u32>,
    latest: RefCell<Option<Latest>>,
    passage: OnceCell<Rc<Passage>>,
    waker: RefCell<Option<Waker>>,
}

/// Where its socket is, for questions that few connections are asked.
#[derive(Debug)]
pub(super) enum Reach {
    Http1(Weak<Conn>),
    Http2(Weak<Traffic>),
}

/// What was agreed on by TLS, or, where it does not end here, what the client asks for.
#[derive(Debug)]
pub struct Tls {
    /// The version, as in `TLSv1.3`.
    pub version: Option<&'static str>,
    /// The server name that the client indicated.
    pub sni: Option<Box<str>>,
    /// The protocol above it, as in `h2`: the one that was agreed on, or the client's favourite.
    pub alpn: Option<Box<[u8]>>,
}

impl Tls {
    /// What a handshake with a client led to.
    #[must_use]
    pub fn of(session: &rustls::ServerConnection) -> Self {
        let version = session.protocol_version().and_then(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
            _ => None,
        });
        let alpn = session.alpn_protocol().map(Into::into);
        Self { version, sni: session.server_name().map(Into::into), alpn }
    }
}

/// The request that began last, while it is under way.
#[derive(Debug)]
struct Latest {
    number: u64,
    since: Instant,
    local: Rc<Local>,
    /// Where it is in memory, which is for comparison only: `local` has it.
    route: *const Route,
    pool: Option<usize>,
    endpoint: Option<Rc<LocalEndpoint>>,
    tunnel: bool,
}

/// Counts a request as under way until it is dropped.
#[derive(Debug)]
pub struct UnderWay<'a> {
    live: &'a Live,
    number: u64,
}

impl Live {
    /// A connection that was accepted at `since`.
    pub(super) fn new(listening: &Rc<Listening>, peer: Option<SocketAddr>, since: Instant) -> Rc<Self> {
        Rc::new(Self {
            listening: Rc::clone(listening),
            peer: Cell::new(peer),
            introduced: OnceCell::new(),
            owner: OnceCell::new(),
            reach: OnceCell::new(),
            since,
            protocol: Cell::default(),
            tls: OnceCell::new(),
            requests: Cell::new(0),
            under_way: Cell::new(0),
            latest: RefCell::default(),
            passage: OnceCell::new(),
            waker: RefCell::default(),
        })
    }

    /// The handshake is over.
    pub fn secured(&self, tls: Tls) {
        // There is one handshake for each connection.
        let _ = self.tls.set(tls);
    }

    /// What was agreed on by TLS, if there is any.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.get()
    }

    /// Who is at the other end, or for whom that is said to be; `None` for Unix sockets.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }

    /// It is `client`'s, by the word of the proxy at its other end.
    pub(super) fn believe(&self, client: SocketAddr) {
        self.peer.set(Some(client));
    }

    /// This is known of it from its beginning.
    pub(super) fn introduce(&self, introduced: Rc<Introduced>) {
        // A connection begins once.
        let _ = self.introduced.set(introduced);
    }

    /// What is known of it from its beginning, if anything.
    pub(super) fn introduced(&self) -> Option<&Rc<Introduced>> {
        self.introduced.get()
    }

    /// The server name that the client indicated to us, or to the first proxy as that says.
    #[must_use]
    pub fn sni(&self) -> Option<&str> {
        let said = self.introduced().and_then(|introduced| introduced.told.authority.as_deref());
        said.or_else(|| self.tls()?.sni.as_deref())
    }

    /// As the owner of connections to endpoints.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        self.owner.get_or_init(Owner::default)
    }

    /// Its socket is there.
    pub(super) fn reached(&self, reach: Reach) {
        // It stays there.
        let _ = self.reach.set(reach);
    }

    /// The address of our end, which the system is asked for. `None` for Unix sockets, and where no HTTP is
    /// spoken.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self.reach.get()? {
            Reach::Http1(conn) => conn.upgrade()?.local_addr(),
            Reach::Http2(traffic) => traffic.upgrade()?.local_addr(),
        }
    }

    /// A request begins at `now`, under `local`.
    #[must_use]
    pub fn begin(&self, local: &Rc<Local>, now: Instant) -> UnderWay<'_> {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        self.under_way.set(self.under_way.get() + 1);
        let (route, pool) = (ptr::null(), None);
        let latest = Latest {
            number,
            since: now,
            local: Rc::clone(local),
            route,
            pool,
            endpoint: None,
            tunnel: false,
        };
        self.latest.replace(Some(latest));
        UnderWay { live: self, number }
    }

    /// It is passed on as bytes.
    pub(super) fn pass(&self, passage: &Rc<Passage>) {
        // It is so once.
        let _ = self.passage.set(Rc::clone(passage));
    }

    /// What is known of it, if it is passed on as bytes.
    pub(super) fn passage(&self) -> Option<&Passage> {
        self.passage.get().map(|passage| &**passage)
    }

    /// Whether it is to end after the request under way.
    #[must_use]
    pub fn is_ending(&self, worker: &Worker) -> bool {
        worker.is_draining() || self.listening.is_closing()
    }

    pub(super) fn attend(&self, waker: &Waker) {
        self.waker.replace(Some(waker.clone()));
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// What there is to show of it at `now`.
    pub(super) fn show(&self, worker: &Worker, now: Instant) -> Option<Connection> {
        let local = self.listening.local(worker);
        let tls = self.tls();
        Some(Connection {
            worker: worker.shard.number(),
            listener: local.snapshot.listener(self.listening.id)?.name.clone(),
            peer: self.peer(),
            protocol: self.protocol.get(),
            tls_version: tls.and_then(|tls| tls.version),
            sni: self.sni().map(str::to_owned),
            age: now.saturating_duration_since(self.since),
            requests: self.requests.get(),
            under_way: self.under_way.get(),
            latest: self.latest.borrow().as_ref().map(|latest| latest.show(self.listening.id, now)),
            passed: self.passage().map(Passage::show),
            ending: self.is_ending(worker),
        })
    }
}

impl Latest {
    fn show(&self, listener: usize, now: Instant) -> Request {
        let snapshot = &self.local.snapshot;
        let mut routes =
            snapshot.listener(listener).into_iter().flat_map(|listener| listener.routes.targets().iter());
        let route = routes.find(|route| Arc::as_ptr(route) == self.route);
        let pool = self.pool.and_then(|pool| snapshot.pools.get(pool));
        Request {
            generation: snapshot.generation,
            age: now.saturating_duration_since(self.since),
            route: route.map(|route| route.name.clone()),
            pool: pool.map(|pool| pool.settings.name.clone()),
            endpoint: self.endpoint.as_ref().map(|endpoint| endpoint.shared.name.clone()),
            tunnel: self.tunnel,
        }
    }
}

impl UnderWay<'_> {
    /// It takes this route.
    pub fn take(&self, route: &Route) {
        self.note(|latest| latest.route = route);
    }

    /// It is for the pool at this place.
    pub fn enter(&self, pool: usize) {
        self.note(|latest| latest.pool = Some(pool));
    }

    /// It goes to this endpoint.
    pub fn ask(&self, endpoint: &Rc<LocalEndpoint>) {
        self.note(|latest| latest.endpoint = Some(Rc::clone(endpoint)));
    }

    /// It becomes a tunnel.
    pub fn tunnel(&self) {
        self.note(|latest| latest.tunnel = true);
    }

    fn note(&self, note: impl FnOnce(&mut Latest)) {
        if let Some(latest) =
            self.live.latest.borrow_mut().as_mut().filter(|latest| latest.number == self.number)
        {
            note(latest);
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.live.under_way.set(self.live.under_way.get().saturating_sub(1));
        let mut latest = self.live.latest.borrow_mut();
        if latest.as_ref().is_some_and(|latest| latest.number == self.number) {
            // An idle connection holds nothing of what its requests ran under.
            *latest = None;
        }
    }
}
