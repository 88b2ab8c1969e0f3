//! The proxy, in this process, on ports that the system chose. A panic on one of its threads fails
//! the test that ends after it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::{panic, thread};

use forebay::config::{self, Plan};
use forebay::control::running::RunError;
use forebay::model::Address;
use forebay::server::{Options, Server};

use super::{Link, Message, Metrics};

/// A running proxy. Dropping it ends it at once.
#[derive(Debug)]
pub(crate) struct Proxy {
    server: Option<Server>,
}

/// One listener `web`, one route, one pool `app`: the usual case, with lines of TOML where a test
/// needs something else. Tables may follow in each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Plain<'a> {
    /// Lines of the listener.
    pub(crate) listener: &'a str,
    /// Lines of the route.
    pub(crate) route: &'a str,
    /// Lines of the pool.
    pub(crate) pool: &'a str,
}

impl Plain<'_> {
    /// Starts it in front of these endpoints.
    #[track_caller]
    pub(crate) fn to(self, endpoints: &[SocketAddr]) -> Proxy {
        let Self { listener, route, pool } = self;
        let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
        Proxy::start(&format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{listener}\n\
             [[route]]\npool = \"app\"\n{route}\n\
             [pool.app]\nendpoints = [{}]\n{pool}\n",
            endpoints.join(", ")
        ))
    }
}

impl Proxy {
    /// Starts what `toml` says. Without `[admin]` in it, the admin listener takes any free port;
    /// without `workers`, there is one.
    #[track_caller]
    pub(crate) fn start(toml: &str) -> Self {
        Self::start_in(Path::new("."), toml)
    }

    /// As [`Self::start`], with relative paths starting at `folder`.
    #[track_caller]
    pub(crate) fn start_in(folder: &Path, toml: &str) -> Self {
        watch_for_panics();
        let server = Server::start(Self::plan(folder, toml), Options::default());
        let server = server.unwrap_or_else(|error| unfit(&format!("{error:?}\n{toml}")));
        Self { server: Some(server) }
    }

    /// Has it run what `toml` says instead, as [`Self::start`] would; the number of the generation.
    pub(crate) fn reload(&self, toml: &str) -> Result<u64, RunError> {
        self.reload_in(Path::new("."), toml)
    }

    /// As [`Self::reload`], with relative paths starting at `folder`.
    pub(crate) fn reload_in(&self, folder: &Path, toml: &str) -> Result<u64, RunError> {
        self.server().running().replace(Self::plan(folder, toml)).map(|replaced| replaced.generation)
    }

    #[track_caller]
    fn plan(folder: &Path, toml: &str) -> Plan {
        let workers = if toml.contains("workers =") { "" } else { "workers = 1\n" };
        let admin = if toml.contains("[admin]") { "" } else { "\n[admin]\nbind = \"127.0.0.1:0\"\n" };
        let text = format!("{workers}{toml}{admin}");
        let plan = config::from_str("test.toml", &text, &|_| None, folder);
        plan.unwrap_or_else(|report| unfit(&format!("{report:?}\n{text}")))
    }

    /// The usual case, in front of one endpoint.
    #[track_caller]
    pub(crate) fn to(endpoint: SocketAddr) -> Self {
        Plain::default().to(&[endpoint])
    }

    /// The server.
    #[track_caller]
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until it is dropped or waited for")
    }

    /// The address of the listener called `name`.
    #[track_caller]
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let mut listeners = self.server().listeners().into_iter();
        let (_, addresses) =
            listeners.find(|(own, _)| own.as_str() == name).expect("a listener by that name");
        socket_address(addresses.first().expect("which is bound"))
    }

    /// The address of the admin listener.
    #[track_caller]
    pub(crate) fn admin(&self) -> SocketAddr {
        socket_address(self.server().admin().expect("there is an admin listener"))
    }

    /// A new client connection to the listener `web`.
    #[track_caller]
    pub(crate) fn connect(&self) -> Link {
        Link::to(self.address("web"))
    }

    /// The response to `GET` of `target` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Message {
        let mut client = self.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.response()
    }

    /// What `/metrics` says now.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&self.ask_admin("/metrics").text())
    }

    /// The admin listener's answer to `GET` of `target`.
    #[track_caller]
    pub(crate) fn ask_admin(&self, target: &str) -> Message {
        let mut client = Link::to(self.admin());
        client.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        client.response()
    }

    /// Drains, and waits until nothing is left.
    pub(crate) fn drain_and_wait(mut self) {
        if let Some(server) = self.server.take() {
            server.drain();
            server.wait();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.take();
        let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !thread::panicking() {
            assert!(panics.is_empty(), "the proxy panicked: {panics:#?}");
        }
    }
}

fn socket_address(address: &Address) -> SocketAddr {
    address.inet().expect("tests listen on IP addresses")
}

/// Records the panics of workers and of the control thread, besides what the hook before did.
fn watch_for_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            if name.starts_with("worker-") || name == "control" {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {info}"));
            }
            before(info);
        }));
    });
}

#[track_caller]
#[expect(clippy::panic, reason = "fails the test")]
fn unfit(why: &str) -> ! {
    panic!("the proxy does not start: {why}")
}

/// Panics of the proxy's threads in this process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
