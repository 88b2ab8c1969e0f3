//! Datagrams through a `udp` listener, by clients and endpoints of our own, by `dig` and by QUIC.

#![expect(clippy::indexing_slicing, reason = "a buffer holds what was received into it")]
#![expect(clippy::disallowed_methods, reason = "tasks of QUIC peers, which belong to no worker")]

mod support;

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay::wire::proxy_protocol::v2;
use rustix::process::Signal;
use support::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// An endpoint that answers every datagram with its name and what it got, as many times as it is told.
struct Echo {
    at: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    ends: AtomicBool,
    replies: AtomicUsize,
    /// Who sent something.
    clients: Mutex<HashSet<SocketAddr>>,
}

impl Echo {
    fn run(name: &'static str) -> Self {
        Self::on("127.0.0.1:0", name)
    }

    #[track_caller]
    fn on(address: &str, name: &'static str) -> Self {
        let socket = UdpSocket::bind(address).expect("the address is free");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("it is not zero");
        let at = socket.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            ends: AtomicBool::new(false),
            replies: AtomicUsize::new(1),
            clients: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        let task = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !own.ends.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                own.clients.lock().expect("nobody panics").insert(from);
                let answer = [name.as_bytes(), &buffer[..len]].concat();
                for _ in 0..own.replies.load(Ordering::Relaxed) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { at, shared, task: Some(task) }
    }

    fn flows(&self) -> usize {
        self.shared.clients.lock().expect("nobody panics").len()
    }

    fn replies(&self, count: usize) {
        self.shared.replies.store(count, Ordering::Relaxed);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            let _ = task.join();
        }
    }
}

/// A client of one address and port.
struct Client(UdpSocket);

impl Client {
    #[track_caller]
    fn of(address: SocketAddr) -> Self {
        Self::from("127.0.0.1:0", address)
    }

    #[track_caller]
    fn from(own: &str, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).expect("there are ports");
        socket.connect(address).expect("it is an address");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        Self(socket)
    }

    #[track_caller]
    fn send(&self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes.as_ref()).expect("somebody listens");
    }

    #[track_caller]
    fn receive(&self) -> String {
        let mut buffer = vec![0; 65_536];
        let len = self.0.recv(&mut buffer).expect("an answer comes");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[track_caller]
    fn ask(&self, what: &str) -> String {
        self.send(what);
        self.receive()
    }

    /// Whether an answer comes before so long: datagrams to endpoints that are not there are lost.
    fn try_ask(&self, what: &str) -> Option<String> {
        self.0.set_read_timeout(Some(Duration::from_millis(100))).expect("it is not zero");
        let mut buffer = vec![0; 65_536];
        let got = self.0.send(what.as_bytes()).and_then(|_| self.0.recv(&mut buffer));
        self.0.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        got.ok().map(|len| String::from_utf8_lossy(&buffer[..len]).into_owned())
    }
}

fn toml(listener: &str, endpoints: &[SocketAddr], pool: &str) -> String {
    toml_at("127.0.0.1:0", listener, endpoints, pool)
}

fn toml_at(bind: &str, listener: &str, endpoints: &[SocketAddr], pool: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\nprotocol = \"udp\"\npool = \"app\"\n{listener}\n\
         [pool.app]\nendpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    )
}

fn start(listener: &str, endpoints: &[SocketAddr], pool: &str) -> (Proxy, SocketAddr) {
    let proxy = Proxy::start(&toml(listener, endpoints, pool));
    let address = proxy.address("web");
    (proxy, address)
}

/// An address at which nobody receives anything.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("there are ports")
}

/// An address for a server that takes a while to bind it. Its port is none that the system gives out, as it
/// does to flows of other tests in the meantime.
fn reserved() -> SocketAddr {
    let first = 10_000 + u16::try_from(std::process::id() % 10_000).expect("it is small");
    let is_free = |at: &SocketAddr| UdpSocket::bind(at).is_ok() && std::net::TcpListener::bind(at).is_ok();
    let mut candidates = (first..20_500).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    candidates.find(is_free).expect("there are ports")
}

#[test]
fn every_client_has_a_flow_of_its_own() {
    let origin = Echo::run("a:");
    let (proxy, address) = start("", &[origin.at], "");
    let clients: Vec<_> = (0..20).map(|_| Client::of(address)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("{round}.{number}"));
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.receive(), format!("a:{round}.{number}"));
        }
    }
    assert_eq!(origin.flows(), 20);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_udp_flows_opened_total", &[("listener", "web")]), 20.0);
    assert_eq!(metrics.sum("forebay_udp_flows_active", &[]), 20.0);
    assert_eq!(metrics.sum("forebay_udp_datagrams_total", &[("direction", "received")]), 60.0);
    assert_eq!(metrics.sum("forebay_udp_datagrams_total", &[("direction", "sent")]), 60.0);
    assert_eq!(metrics.sum("forebay_udp_dropped_total", &[]), 0.0);
}

#[test]
fn empty_and_large_datagrams_pass_whole() {
    let origin = Echo::run("");
    let (_proxy, address) = start("", &[origin.at], "");
    let client = Client::of(address);
    for len in [0, 1, 1400, 9000, 65_507] {
        let payload: String = (0..len).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
        assert_eq!(client.ask(&payload), payload, "{len}");
    }
}

#[test]
fn a_flow_ends_when_nothing_came_for_so_long() {
    let origin = Echo::run("");
    let (proxy, address) = start("timeouts = { idle = \"50ms\" }", &[origin.at], "");
    let client = Client::of(address);
    client.ask("one");
    eventually("the flow is over", || {
        proxy.metrics().sum("forebay_udp_flows_ended_total", &[("cause", "idle")]) == 1.0
    });
    client.ask("two");
    assert_eq!(origin.flows(), 2, "it has another socket");
}

#[test]
fn a_flow_ends_with_the_reply_that_was_due() {
    let origin = Echo::run("");
    let (proxy, address) = start("packets = { requests = 1, replies = 1 }", &[origin.at], "");
    let client = Client::of(address);
    for number in 0..5 {
        client.ask(&number.to_string());
    }
    assert_eq!(origin.flows(), 5);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_udp_flows_ended_total", &[("cause", "complete")]), 5.0);
    assert_eq!(metrics.sum("forebay_udp_flows_active", &[]), 0.0);
}

#[test]
fn replies_past_those_that_are_due_are_not_passed_on() {
    let origin = Echo::run("");
    origin.replies(3);
    let (_proxy, address) = start("packets = { requests = 1, replies = 2 }", &[origin.at], "");
    let client = Client::of(address);
    client.send("a");
    assert_eq!((client.receive(), client.receive()), ("a".into(), "a".into()));
    client.send("b");
    assert_eq!((client.receive(), client.receive()), ("b".into(), "b".into()));
}

#[test]
fn the_flow_that_was_idle_longest_makes_room() {
    let origin = Echo::run("");
    let (proxy, address) = start("max_flows = 2", &[origin.at], "");
    let clients: Vec<_> = (0..3).map(|_| Client::of(address)).collect();
    clients.iter().for_each(|client| drop(client.ask("here")));
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_udp_flows_ended_total", &[("cause", "evicted")]), 1.0);
    assert_eq!(metrics.sum("forebay_udp_flows_active", &[]), 2.0);
    clients[2].ask("again");
    assert_eq!(origin.flows(), 3);
    clients[0].ask("again");
    assert_eq!(origin.flows(), 4);
}

#[test]
fn a_client_is_one_flow_by_its_address_alone() {
    let origin = Echo::run("");
    let (_proxy, address) = start("flow_by = \"address\"", &[origin.at], "");
    (0..4).for_each(|_| drop(Client::of(address).ask("hello")));
    assert_eq!(origin.flows(), 1);
    Client::from("127.0.0.2:0", address).ask("hello");
    assert_eq!(origin.flows(), 2);
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    let origin = Echo::run("");
    let proxy = Proxy::start(&toml_at("0.0.0.0:0", "", &[origin.at], ""));
    let port = proxy.address("web").port();
    for own in [1, 2, 3] {
        // Connected: an answer from elsewhere would not reach it.
        let client = Client::of(SocketAddr::from(([127, 0, 0, own], port)));
        assert_eq!(client.ask("who"), "who");
    }
}

#[test]
fn ipv6_clients_reach_ipv4_endpoints_and_the_other_way_round() {
    let origins = [Echo::run("4:"), Echo::on("[::1]:0", "6:")];
    for (bind, own) in [("[::1]:0", "[::1]:0"), ("127.0.0.1:0", "127.0.0.1:0")] {
        for (origin, name) in origins.iter().zip(["4:", "6:"]) {
            let proxy = Proxy::start(&toml_at(bind, "", &[origin.at], ""));
            let client = Client::from(own, proxy.address("web"));
            assert_eq!(client.ask("x"), format!("{name}x"));
        }
    }
}

#[test]
fn a_flow_leaves_an_endpoint_that_refuses() {
    let origin = Echo::run("b:");
    let (proxy, address) = start("", &[nobody(), origin.at], "policy = \"first\"");
    let client = Client::of(address);
    // The first datagrams are lost; how many depends on when the kernel says that nobody is there.
    eventually("another endpoint answers", || client.try_ask("x").is_some());
    assert_eq!(client.ask("y"), "b:y");
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_udp_flows_opened_total", &[]), 1.0);
    assert_eq!(metrics.sum("forebay_udp_flows_moved_total", &[]), 1.0);
    assert!(metrics.sum("forebay_udp_refused_total", &[]) >= 1.0);
}

#[test]
fn an_endpoint_that_refuses_is_ejected() {
    let origin = Echo::run("b:");
    let (proxy, address) = start("", &[nobody(), origin.at], "policy = \"round_robin\"");
    let ejected = || proxy.metrics().sum("forebay_endpoint_ejections_total", &[]) >= 1.0;
    eventually("the endpoint is ejected", || {
        let _ = Client::of(address).try_ask("x");
        ejected()
    });
    for _ in 0..10 {
        assert_eq!(Client::of(address).ask("y"), "b:y");
    }
}

#[test]
fn a_lone_endpoint_that_comes_back_is_served_again() {
    let at = nobody();
    let (_proxy, address) = start("", &[at], "outlier = \"off\"");
    let client = Client::of(address);
    assert_eq!(client.try_ask("x"), None);
    let _origin = Echo::on(&at.to_string(), "back:");
    eventually("the endpoint answers", || client.try_ask("x") == Some("back:x".into()));
}

#[test]
fn hashing_keeps_a_client_where_it_was_when_the_table_is_lost() {
    let origins = [Echo::run("a"), Echo::run("b"), Echo::run("c"), Echo::run("d")];
    let endpoints: Vec<_> = origins.iter().map(|origin| origin.at).collect();
    let ask = |address: SocketAddr| -> Vec<String> {
        (1..30).map(|n| Client::from(&format!("127.0.1.{n}:0"), address).ask("")).collect()
    };
    for policy in ["maglev", "ring_hash"] {
        let places: Vec<_> = (0..2)
            .map(|_| {
                let (_proxy, address) = start("", &endpoints, &format!("policy = \"{policy}\""));
                ask(address)
            })
            .collect();
        assert_eq!(places[0], places[1], "{policy}");
        assert!(places[0].iter().collect::<HashSet<_>>().len() > 1, "{policy}");
    }
}

#[test]
fn a_pool_without_endpoints_loses_datagrams_and_counts_them() {
    let origin = Echo::run("");
    let (proxy, address) = start("", &[origin.at], "limits = { in_flight = 1 }");
    let (first, second) = (Client::of(address), Client::of(address));
    first.ask("x");
    assert_eq!(second.try_ask("y"), None);
    assert_eq!(proxy.metrics().sum("forebay_udp_dropped_total", &[("reason", "limited")]), 1.0);
    assert_eq!(first.ask("z"), "z");
}

#[test]
fn a_reload_keeps_flows_and_ends_those_of_endpoints_that_are_gone() {
    let (a, b) = (Echo::run("a:"), Echo::run("b:"));
    let at = nobody().to_string();
    let of = |endpoints: &[SocketAddr]| toml_at(&at, "", endpoints, "policy = \"first\"");
    let proxy = Proxy::start(&of(&[a.at, b.at]));
    let client = Client::of(proxy.address("web"));
    assert_eq!(client.ask("1"), "a:1");
    proxy.reload(&of(&[b.at, a.at])).expect("it is valid");
    assert_eq!(client.ask("2"), "a:2", "a flow stays with its endpoint");
    assert_eq!(a.flows(), 1);
    proxy.reload(&of(&[b.at])).expect("it is valid");
    assert_eq!(client.ask("3"), "b:3");
    assert_eq!(proxy.metrics().sum("forebay_udp_flows_ended_total", &[("cause", "endpoint_gone")]), 1.0);
}

#[test]
fn a_listener_that_is_removed_gives_its_address_back() {
    let origin = Echo::run("");
    let at = nobody();
    let own = toml_at(&at.to_string(), "", &[origin.at], "");
    let other = toml_at("127.0.0.1:0", "", &[origin.at], "").replace("web", "other");
    let proxy = Proxy::start(&own);
    let client = Client::of(at);
    client.ask("x");
    proxy.reload(&other).expect("it is valid");
    eventually("the address is free", || UdpSocket::bind(at).is_ok());
    proxy.reload(&own).expect("it is valid");
    assert_eq!(client.ask("y"), "y");
}

#[test]
fn a_drain_waits_for_flows_and_opens_no_more() {
    let origin = Echo::run("");
    let toml = toml("timeouts = { idle = \"3s\" }", &[origin.at], "");
    // Most workers have none of the flows, and are done at once. What the kernel deals out stays the same.
    let mut process = Process::run(&format!("workers = 4\n{toml}"));
    let address = process.address("web");
    let client = Client::of(address);
    client.ask("x");
    process.signal(Signal::TERM);
    // Those that are open go on; whether the signal was taken up shows in others' being lost.
    eventually("no more flows are opened", || {
        let is_refused = Client::of(address).try_ask("new").is_none();
        // It is not to be over for being idle.
        client.ask("x");
        is_refused
    });
    for _ in 0..20 {
        assert_eq!(client.try_ask("still"), Some("still".into()));
    }
    assert!(process.wait().success());
    let gone = client.0.send(b"x").and_then(|_| client.0.send(b"y"));
    assert_eq!(gone.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
}

#[test]
fn datagrams_of_a_flow_keep_their_order() {
    let origin = Echo::run("");
    let (proxy, address) = start("", &[origin.at], "");
    let client = Client::of(address);
    for round in 0..100 {
        for number in 0..20 {
            client.send(format!("{round}.{number}"));
        }
        for number in 0..20 {
            assert_eq!(client.receive(), format!("{round}.{number}"));
        }
    }
    assert_eq!(proxy.metrics().sum("forebay_udp_dropped_total", &[]), 0.0);
}

#[test]
fn the_access_log_tells_of_each_flow_and_a_source_is_its_own() {
    let echo = Echo::run("a");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!(
        "packets = {{ replies = 1 }}\naccess_log = {{ format = \"json\", path = \"{}\" }}",
        path.display()
    );
    let (_proxy, address) = start(&log, &[echo.at], "socket = { bind_source = \"127.0.0.9\", dscp = 46 }");
    assert_eq!(Client::of(address).ask("hello"), "ahello");
    let from = echo.shared.clients.lock().unwrap().iter().next().map(SocketAddr::ip);
    assert_eq!(from, Some("127.0.0.9".parse().unwrap()));
    let line = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the line is there", || line().ends_with('\n'));
    let part = "\"result\":\"done\",\"received_bytes\":5,\"sent_bytes\":6,\"received_datagrams\":1,\"sent_datagrams\":1,";
    assert!(line().contains("\"protocol\":\"udp\"") && line().contains(part), "{}", line());
}

#[test]
fn clients_from_networks_that_are_denied_are_not_served() {
    let origin = Echo::run("");
    let (proxy, address) = start("deny = [\"127.0.0.9\"]", &[origin.at], "");
    assert_eq!(Client::from("127.0.0.9:0", address).try_ask("x"), None);
    assert_eq!(Client::of(address).ask("y"), "y");
    assert_eq!(proxy.metrics().sum("forebay_udp_dropped_total", &[("reason", "denied")]), 1.0);
}

/// What a PROXY protocol header of version 2 for UDP over IPv4 says, and what is behind it.
#[track_caller]
fn introduced(datagram: &[u8]) -> (SocketAddr, SocketAddr, String) {
    let (header, len) = v2::parse(datagram).expect("it is well-formed").expect("it is whole");
    assert_eq!(datagram[12..14], [0x21, 0x12]);
    let ends = header.ends.expect("the client is known");
    (ends.source, ends.destination, String::from_utf8_lossy(&datagram[len..]).into_owned())
}

#[test]
fn endpoints_learn_of_the_client_with_every_datagram() {
    let endpoint = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
    endpoint.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let at = endpoint.local_addr().expect("it is bound");
    let pool = "proxy_protocol = \"v2\"\nproxy_protocol_tlvs = [\"crc32c\"]";
    let proxy = Proxy::start(&toml_at("0.0.0.0:0", "flow_by = \"address\"", &[at], pool));
    let address = SocketAddr::from(([127, 0, 0, 2], proxy.address("web").port()));
    let clients = [Client::of(address), Client::of(address)];
    let mut buffer = [0; 1024];
    for (client, word) in clients.iter().zip(["one", ""]) {
        // Together, so that they may come as one parcel.
        let words = [word, "and more", ""];
        words.iter().for_each(|word| client.send(word));
        for word in words {
            let (len, from) = endpoint.recv_from(&mut buffer).expect("it comes");
            let own = client.0.local_addr().expect("it is bound");
            assert_eq!(introduced(&buffer[..len]), (own, address, word.to_owned()));
            endpoint.send_to(word.as_bytes(), from).expect("it is there");
            assert_eq!(client.receive(), word);
        }
    }
}

#[test]
fn datagrams_and_their_header_are_one_and_may_be_too_large() {
    let origin = Echo::run("");
    let (proxy, address) = start("", &[origin.at], "proxy_protocol = \"v2\"");
    let client = Client::of(address);
    let header = v2::FIXED + 12;
    // A datagram has 65,507 bytes at most.
    let largest = "x".repeat(65_507 - header);
    assert!(client.ask(&largest).ends_with(&largest));
    assert_eq!(client.try_ask(&(largest + "x")), None);
    assert_eq!(proxy.metrics().sum("forebay_udp_dropped_total", &[("reason", "too_large")]), 1.0);
}

#[test]
fn an_open_breaker_lets_no_flow_in_until_a_trial_is_answered() {
    let at = nobody();
    let pool = "outlier = \"off\"\nbreaker = { requests = 1, window = \"1s\", open = \"200ms\", trials = 1 }";
    let (proxy, address) = start("", &[at], pool);
    let rejected =
        || proxy.metrics().sum("forebay_rejections_total", &[("pool", "app"), ("limit", "breaker")]);
    eventually("the breaker opens", || {
        let _ = Client::of(address).try_ask("x");
        rejected() >= 1.0
    });
    let _origin = Echo::on(&at.to_string(), "back:");
    eventually("it closes", || Client::of(address).try_ask("x") == Some("back:x".into()));
    eventually("and every flow is let in", || {
        let before = rejected();
        (0..5).all(|_| Client::of(address).try_ask("y").is_some()) && rejected() == before
    });
}

#[test]
fn a_flow_counts_as_half_a_connection() {
    let origin = Echo::run("");
    let toml = format!("[overload]\nmax_connections = 2\n{}", toml("", &[origin.at], ""));
    let proxy = Proxy::start(&toml);
    let clients: Vec<_> = (0..5).map(|_| Client::of(proxy.address("web"))).collect();
    clients[..4].iter().for_each(|client| drop(client.ask("x")));
    assert_eq!(clients[4].try_ask("x"), None);
    assert_eq!(clients[0].ask("y"), "y");
    assert_eq!(proxy.metrics().sum("forebay_udp_dropped_total", &[("reason", "limited")]), 1.0);
}

#[test]
fn dig_asks_dnsmasq_through_it() {
    let (Some(dig), Some(dnsmasq)) = (peer("dig"), peer("dnsmasq")) else { return };
    let at = reserved();
    let user = if rustix::process::getuid().is_root() { "--user=root" } else { "--user=" };
    let server = dnsmasq
        .command()
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", user, "--address=/name.test/192.0.2.7"])
        .arg(format!("--port={}", at.port()))
        .spawn()
        .expect("dnsmasq starts");
    let _server = Dnsmasq(server);
    let (proxy, address) = start("packets = { requests = 1, replies = 1 }", &[at], "");
    let ask = || {
        let mut dig = dig.command();
        dig.args(["+short", "+tries=1", "+time=1", "@127.0.0.1", "name.test"]);
        let asked = dig.arg("-p").arg(address.port().to_string()).output().expect("dig runs");
        String::from_utf8_lossy(&asked.stdout).trim().to_owned()
    };
    eventually("dnsmasq answers", || ask() == "192.0.2.7");
    for _ in 0..10 {
        assert_eq!(ask(), "192.0.2.7");
    }
    assert!(proxy.metrics().sum("forebay_udp_flows_ended_total", &[("cause", "complete")]) >= 11.0);
}

/// A running dnsmasq, ended with the test.
struct Dnsmasq(std::process::Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A QUIC server that sends back what comes on every stream, and its address.
fn quic_echo(pki: &Pki) -> quinn::Endpoint {
    pki.issue("quic", &["localhost"]);
    let tls = pki.server("quic", &["echo"], false);
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("it has TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = quinn::Endpoint::server(config, at).expect("there are ports");
    let own = server.clone();
    tokio::spawn(async move {
        while let Some(incoming) = own.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        let bytes = receive.read_to_end(8 << 20).await.expect("the client ends its stream");
                        send.write_all(&bytes).await.expect("the client waits");
                        send.finish().expect("it is open");
                    });
                }
            });
        }
    });
    server
}

fn quic_client(pki: &Pki) -> quinn::Endpoint {
    let tls = pki.client(&["echo"], &[&rustls::version::TLS13]);
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("it has TLS 1.3");
    let mut client = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("there are ports");
    client.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    client
}

async fn echoed(connection: &quinn::Connection, bytes: Vec<u8>) {
    let (mut send, mut receive) = connection.open_bi().await.expect("the connection is open");
    let own = bytes.clone();
    let sending = tokio::spawn(async move {
        send.write_all(&own).await.expect("the server waits");
        send.finish().expect("it is open");
    });
    let got = receive.read_to_end(8 << 20).await.expect("the server answers");
    sending.await.expect("nothing panics");
    assert!(got == bytes, "{} of {} bytes came back", got.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quic_connection_with_several_streams_passes() {
    let pki = Pki::new();
    let server = quic_echo(&pki);
    let (proxy, address) = start("", &[server.local_addr().expect("it is bound")], "");
    let client = quic_client(&pki);
    let connection =
        client.connect(address, "localhost").expect("it can begin").await.expect("it is answered");
    let streams = (1..=8_u8).map(|number| echoed(&connection, vec![number; 250_000 * usize::from(number)]));
    futures_util::future::join_all(streams).await;
    connection.close(0_u32.into(), b"");
    assert_eq!(proxy.metrics().sum("forebay_udp_flows_opened_total", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_quic_connections_pass_at_once() {
    let pki = Pki::new();
    let server = quic_echo(&pki);
    let (proxy, address) = start("", &[server.local_addr().expect("it is bound")], "");
    let clients: Vec<_> = (0..120).map(|_| quic_client(&pki)).collect();
    let used = clients.iter().map(|client| async {
        let connection = client.connect(address, "localhost").expect("it can begin");
        let connection = connection.await.expect("it is answered");
        echoed(&connection, b"hello".repeat(2000)).await;
        connection
    });
    let connections = futures_util::future::join_all(used).await;
    assert_eq!(proxy.metrics().sum("forebay_udp_flows_active", &[]), 120.0);
    drop(connections);
}
