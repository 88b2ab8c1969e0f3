//! The admin listener: metrics, liveness, readiness and endpoints over HTTP/1.1, one request per
//! connection. Every connection has a deadline and their number a cap, so that the control thread cannot be
//! kept busy from outside. What there is to ask for is a table, in `router`.

mod asked;
mod bind;
mod changes;
mod connections;
mod dashboard;
mod endpoints;
mod events;
mod following;
mod guard;
mod history;
mod lasting;
mod logging;
mod pages;
mod pools;
mod process;
mod reloading;
mod reporting;
mod router;
mod scaling;
mod scrape;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time;
use tokio_rustls::TlsAcceptor;

use asked::Asked;
use bind::{Bound, Listener};
use guard::Caller;
use lasting::{LastingPages, Pace};
use pages::{Page, Refusal};
use router::{Access, Answer, Handler};
use scrape::Scrapes;

use super::reload::Reload;
use super::running::Running;
use crate::ambient;
use crate::config::plan::AdminPlan;
use crate::model::Address;
use crate::net::inherit::Inherited;
use crate::net::listen::BoundSocket;
use crate::net::stream::Socket;
use crate::observe::panics::{Place, again, catching, contain};

/// The bound sockets of an admin listener that does not serve yet.
#[derive(Debug, Default)]
pub struct Admin(Vec<Bound>);

/// What the admin listener tells about.
#[derive(Debug)]
pub struct AdminState {
    running: Arc<Running>,
    readiness: Arc<Readiness>,
    reload: Option<Arc<Reload>>,
    log: logging::Return,
    scrapes: Scrapes,
    lasting: LastingPages,
    started: SystemTime,
}

/// Whether traffic should be sent here, as load balancers in front and orchestrators ask.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

/// The values of [`Readiness`], in the order of a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No longer.
    Draining,
}

impl Admin {
    /// Binds `address` as well, the file of a Unix socket with the permissions in `mode`. A file that
    /// nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says when it cannot be bound.
    pub fn open(&mut self, address: &Address, mode: Option<u32>, inherited: &Inherited) -> io::Result<()> {
        self.0.push(Bound::new(address, mode, inherited)?);
        Ok(())
    }

    /// Its sockets once more, to pass on, with their addresses as they were asked for and as bound.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    pub fn share(&self) -> io::Result<Vec<(Address, Address, BoundSocket)>> {
        let shared = |bound: &Bound| {
            let (asked, address) = bound.addresses();
            Ok((asked.clone(), address.clone(), bound.share()?))
        };
        self.0.iter().map(shared).collect()
    }

    /// The addresses that were bound, with the ports that were given for port 0.
    ///
    /// # Errors
    /// None at present.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        Ok(self.0.iter().map(|bound| bound.addresses().1.clone()).collect())
    }

    /// Answers until `shutdown` completes, and then for as long as the requests under way take, at
    /// most one second. To be called on a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the runtime does not take a socket.
    pub async fn serve(self, state: Arc<AdminState>, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listening = |bound: Bound| Ok((bound.addresses().1.clone(), bound.listen()?));
        let listeners = self.0.into_iter().map(listening).collect::<io::Result<Vec<_>>>()?;
        let mut connections = JoinSet::new();
        tokio::select! {
            () = again(Place::Control, "admin", async || accept_all(&listeners, &state, &mut connections).await) => {}
            () = shutdown => {}
        }
        drop(listeners);
        state.lasting.end();
        let ended = async { while connections.join_next().await.is_some() {} };
        // What takes longer is cut off when the set is dropped.
        let _ = time::timeout(PARTING, ended).await;
        Ok(())
    }
}

impl AdminState {
    /// What is to be shown of a process that starts now.
    #[must_use]
    pub fn new(running: Arc<Running>, readiness: Arc<Readiness>) -> Self {
        let scrapes = Scrapes::default();
        let (log, lasting) = (logging::Return::default(), LastingPages::default());
        Self { running, readiness, reload: None, log, scrapes, lasting, started: ambient::wall() }
    }

    /// The same, of a process whose configuration can be replaced.
    #[must_use]
    pub fn with_reload(self, reload: Arc<Reload>) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// Does what is due at some time, for as long as it is polled.
    pub async fn run(&self) {
        self.log.run().await;
    }

    /// Who may do what, as the configuration in force has it.
    fn plan(&self) -> AdminPlan {
        let (plan, _) = self.running.plan();
        plan.admin.clone().unwrap_or_default()
    }
}

impl Readiness {
    /// Where the process is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Moves on to `phase`. There is no way back.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

/// An accepted connection, and where.
type Accepted = io::Result<(Socket, Address)>;

async fn accept_all(
    listeners: &[(Address, Listener)],
    state: &Arc<AdminState>,
    connections: &mut JoinSet<()>,
) {
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match poll_fn(|cx| accept_any(listeners, cx)).await {
            Ok((socket, bound)) => {
                let (pace, state) = (Pace::default(), Arc::clone(state));
                let answered = async move {
                    tokio::select! {
                        () = answer(socket, bound, state, pace.clone()) => {}
                        () = pace.overdue(DEADLINE) => {}
                    }
                };
                connections.spawn(async {
                    if let Err(panic) = contain(Place::Control, pin!(answered)).await {
                        tracing::error!(%panic, "a panic ended an admin connection");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin connection was not accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn accept_any(listeners: &[(Address, Listener)], cx: &mut Context<'_>) -> Poll<Accepted> {
    for (bound, listener) in listeners {
        if let Poll::Ready(accepted) = listener.poll_accept(cx) {
            return Poll::Ready(accepted.map(|socket| (socket, bound.clone())));
        }
    }
    Poll::Pending
}

/// Answers a connection, by TLS where the configuration in force has it.
async fn answer(socket: Socket, bound: Address, state: Arc<AdminState>, pace: Pace) {
    let plan = state.plan();
    let tls = plan.tls.filter(|_| bound.inet().is_some());
    let came = ambient::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let came = UnixTime::since_unix_epoch(came);
    let mut caller = Caller { bound, secure: tls.is_some(), certificates: Vec::new(), came };
    let Some(tls) = tls else {
        return converse(socket, Shared { state, caller: Arc::new(caller), pace }).await;
    };
    match TlsAcceptor::from(tls.server).accept(socket).await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            caller.certificates = shown.iter().map(|shown| shown.clone().into_owned()).collect();
            converse(stream, Shared { state, caller: Arc::new(caller), pace }).await;
        }
        Err(error) => tracing::debug!(%error, "admin handshake failed"),
    }
}

/// What the requests of a connection share.
#[derive(Clone, Debug)]
struct Shared {
    state: Arc<AdminState>,
    caller: Arc<Caller>,
    pace: Pace,
}

impl Shared {
    /// The answer to a request, whatever happens to the handler.
    async fn answer(&self, request: Request<Incoming>) -> Page {
        let path = request.uri().path().to_owned();
        let answer = contain(Place::Control, pin!(self.lead(request))).await.unwrap_or_else(|panic| {
            tracing::error!(%panic, path, "a panic ended an admin request");
            Err(pages::failed())
        });
        let mut page = answer.unwrap_or_else(Refusal::page);
        page.body_mut().keep_pace(&self.pace);
        page
    }

    /// Leads a request to its row, if it may go there.
    async fn lead(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let found = router::find(&head.method, head.uri.path())?;
        if let Some(page) = found.row.browsers.filter(|_| dashboard::is_wanted(&head)) {
            return Ok(page());
        }
        guard::permitted(found.row.access, &head.headers, &self.caller, &self.state.plan())?;
        let body = if found.row.access == Access::Write { whole(body).await? } else { Bytes::new() };
        let query = head.uri.query().map(str::to_owned);
        let (fields, caller) = (head.headers, Arc::clone(&self.caller));
        let asked = Arc::new(Asked { parts: found.parts, query, body, fields, caller });
        let state = Arc::clone(&self.state);
        match found.row.handler {
            Handler::Waiting(handler) => handler(asked, state).await,
            // Pages may be long: making one does not keep this thread from looking after endpoints.
            Handler::Blocking(handler) => {
                let path = found.row.path;
                let page = move || {
                    catching(Place::Control, || handler(&asked, &state)).unwrap_or_else(|panic| {
                        tracing::error!(%panic, path, "a panic ended an admin request");
                        Err(pages::failed())
                    })
                };
                tokio::task::spawn_blocking(page).await.unwrap_or_else(|_| Err(pages::failed()))
            }
        }
    }
}

/// All of a body that is not too long.
async fn whole(body: Incoming) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, MAX_BODY).collect().await;
    read.map(Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let hint = format!("a body may have {MAX_BODY} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long", hint)
        } else {
            Refusal::new(StatusCode::BAD_REQUEST, "the body did not come whole", "")
        }
    })
}

/// Answers one request.
async fn converse<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, shared: Shared) {
    let answer = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin connection failed");
    }
}

/// As whose its socket is passed on; no listener has such a name.
pub(crate) const OWNER: &str = "[admin]";

/// Connections at a time; the next ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 64;

/// The size of a request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// The size of a request body, in bytes: a whole configuration.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// From accept to the end of the request head.
const HEADER: Duration = Duration::from_secs(10);

/// From accept to the last byte of the response, or from one piece to the next of one that lasts.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long requests under way may take at shutdown.
const PARTING: Duration = Duration::from_secs(1);

/// Before accepting again after a failure such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
