//! Options of sockets towards clients and endpoints, and the addresses that connections come from, as
//! the kernel and the other side see them.

#![expect(clippy::print_stderr, reason = "says why a test checked nothing")]
#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::error::Error as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, id};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use forebay::model::settings::{SocketOptions, UpstreamSocket};
use forebay::net::options::{self, Refused};
use rustix::fd::OwnedFd;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use socket2::{SockRef, Type};
use support::*;

/// An endpoint that answers each connection once, and where connections come from.
fn tells_who_came(bind: &str) -> (SocketAddr, Receiver<IpAddr>) {
    let listener = TcpListener::bind(bind).expect("there is a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A check may have left again.
            let Ok(peer) = stream.peer_addr() else { continue };
            let mut link = Link::over(stream);
            if link.request().is_some() {
                let _ = link.try_send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            }
            if tell.send(peer.ip()).is_err() {
                return;
            }
        }
    });
    (address, told)
}

/// Every TCP socket of this process that is connected from `from` to `to`.
fn sockets_between(from: SocketAddr, to: SocketAddr) -> Vec<OwnedFd> {
    let own = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process is there");
    let entries = fs::read_dir("/proc/self/fd").expect("/proc is mounted").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sockets = numbers.filter_map(|number| pidfd_getfd(&own, number, PidfdGetfdFlags::empty()).ok());
    let between = |socket: &OwnedFd| {
        let socket = SockRef::from(socket);
        let local = socket.local_addr().ok().and_then(|address| address.as_socket());
        let peer = socket.peer_addr().ok().and_then(|address| address.as_socket());
        socket.r#type().is_ok_and(|kind| kind == Type::STREAM) && local == Some(from) && peer == Some(to)
    };
    sockets.filter(between).collect()
}

fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::NET_ADMIN))
}

#[test]
fn connections_come_from_the_source_of_the_endpoints_family() {
    for (endpoint, source) in [("127.0.0.1:0", "127.0.0.9"), ("[::1]:0", "::1")] {
        let (endpoint, came) = tells_who_came(endpoint);
        let pool = "socket = { bind_source = [\"127.0.0.9\", \"::1\"] }";
        let proxy = Plain { pool, ..Plain::default() }.to(&[endpoint]);
        assert_eq!(proxy.get("/").status(), 204);
        assert_eq!(came.recv_timeout(DEADLINE).unwrap(), source.parse::<IpAddr>().unwrap());
    }
}

#[test]
fn checks_come_from_the_source_as_well() {
    let (endpoint, came) = tells_who_came("127.0.0.1:0");
    let pool = "socket = { bind_source = \"127.0.0.9\" }\nhealth = { kind = \"http\", path = \"/\" }";
    let _proxy = Plain { pool, ..Plain::default() }.to(&[endpoint]);
    assert_eq!(came.recv_timeout(DEADLINE).unwrap().to_string(), "127.0.0.9");
}

#[test]
fn options_are_those_of_both_sides_sockets() {
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener =
        "socket = { nodelay = false, keep_alive = \"45s\", user_timeout = \"7s\", dscp = \"cs1\" }";
    let pool = "socket = { keep_alive = { idle = \"20s\", interval = \"5s\", count = 3 }, \
                user_timeout = \"9s\", dscp = 46 }";
    let proxy = Plain { listener, pool, ..Plain::default() }.to(&[gate.local_addr().unwrap()]);
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let (_held, from) = gate.accept().unwrap();

    let ours = sockets_between(from, gate.local_addr().unwrap());
    let socket = SockRef::from(ours.first().expect("it is this process that connected"));
    assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
    assert_eq!(socket.tos_v4().unwrap() >> 2, 46);

    let accepted = sockets_between(proxy.address("web"), client.tcp().local_addr().unwrap());
    let socket = SockRef::from(accepted.first().expect("it is this process that accepted"));
    assert!(!socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(45));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(socket.tos_v4().unwrap() >> 2, 8);
}

#[test]
fn what_a_reload_takes_back_is_undone_for_who_comes_next() {
    let (endpoint, _came) = tells_who_came("127.0.0.1:0");
    let toml = |listener: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{listener}\n\
             [[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{endpoint}\"]\n"
        )
    };
    let proxy = Proxy::start(&toml("socket = { keep_alive = true, dscp = 10 }"));
    let options = |client: &Link| {
        let accepted = sockets_between(proxy.address("web"), client.tcp().local_addr().unwrap());
        let socket = SockRef::from(accepted.first().expect("it was accepted"));
        (socket.keepalive().unwrap(), socket.tos_v4().unwrap() >> 2)
    };
    let before = proxy.connect();
    eventually("it is accepted", || {
        !sockets_between(proxy.address("web"), before.tcp().local_addr().unwrap()).is_empty()
    });
    assert_eq!(options(&before), (true, 10));
    proxy.reload(&toml("")).unwrap();
    let after = proxy.connect();
    eventually("it is accepted", || {
        !sockets_between(proxy.address("web"), after.tcp().local_addr().unwrap()).is_empty()
    });
    assert_eq!(options(&after), (false, 0));
    assert_eq!(options(&before), (true, 10));
}

#[test]
fn a_source_that_is_not_this_machines_is_said_at_once() {
    let proxy = Proxy::to("127.0.0.1:9".parse().unwrap());
    let toml = "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
                [pool.app]\nendpoints = [\"127.0.0.1:9\"]\nsocket = { bind_source = \"192.0.2.77\" }\n";
    let error = proxy.reload(toml).unwrap_err();
    assert_eq!(error.to_string(), "connections of pool app cannot be opened as they should be");
    let refused = error.source().expect("which has a reason");
    let words = "`socket.bind_source` is not to be had: the address is not this machine's";
    assert_eq!(refused.to_string(), words);
}

#[test]
fn what_takes_privileges_says_so() {
    let refused = thread::spawn(|| {
        // Of this thread only.
        let mut own = capabilities(None).expect("everybody may ask");
        own.effective.remove(CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW);
        set_capabilities(None, own).expect("everybody may give some up");
        let refused = |options: SocketOptions| {
            let wanted = UpstreamSocket { options, ..UpstreamSocket::default() };
            options::try_out(&wanted).map_err(|refused: Refused| refused.to_string()).unwrap_err()
        };
        let mark = refused(SocketOptions { mark: Some(7), ..SocketOptions::default() });
        (mark, refused(SocketOptions { transparent: true, ..SocketOptions::default() }))
    });
    let (mark, transparent) = refused.join().unwrap();
    assert_eq!(mark, "`socket.mark` is not to be had: it takes CAP_NET_ADMIN");
    assert_eq!(transparent, "`socket.transparent` is not to be had: it takes CAP_NET_ADMIN");
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "says why the test checked nothing")]
async fn with_privileges_packets_are_marked_and_come_from_anywhere() {
    if !is_privileged() {
        eprintln!("left out: it takes CAP_NET_ADMIN");
        return;
    }
    let options = SocketOptions { mark: Some(7), transparent: true, ..SocketOptions::default() };
    let wanted = UpstreamSocket { options, ..UpstreamSocket::default() };
    options::try_out(&wanted).unwrap();
    for (endpoint, client) in [("127.0.0.1:9", "192.0.2.7"), ("[::1]:9", "2001:db8::7")] {
        let (endpoint, client): (SocketAddr, IpAddr) = (endpoint.parse().unwrap(), client.parse().unwrap());
        let stream = options::stream_to(endpoint, &wanted, Some(client)).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), client);
        assert_eq!(SockRef::from(&stream).mark().unwrap(), 7);
        let datagrams = options::datagrams_to(endpoint, &wanted, Some(client)).unwrap();
        assert_eq!(datagrams.local_addr().unwrap().ip(), client);
    }
}

#[test]
fn the_first_bytes_may_go_with_the_first_packet() {
    let (endpoint, _came) = tells_who_came("127.0.0.1:0");
    let pool = "socket = { fast_open = true }\nhealth = { kind = \"tcp\" }";
    let proxy = Plain { pool, ..Plain::default() }.to(&[endpoint]);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").status(), 204);
    }
}

#[test]
fn datagrams_of_checks_come_from_the_source_as_well() {
    let endpoint = UdpSocket::bind("127.0.0.1:0").unwrap();
    endpoint.set_read_timeout(Some(DEADLINE)).unwrap();
    let pool = "socket = { bind_source = \"127.0.0.9\" }\nhealth = { kind = \"udp\", send = \"ping\" }";
    let _proxy = Plain { pool, ..Plain::default() }.to(&[endpoint.local_addr().unwrap()]);
    let (_, from) = endpoint.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.9");
}

#[test]
fn requests_come_from_their_clients_and_connections_are_not_shared() {
    if !is_privileged() {
        eprintln!("left out: it takes CAP_NET_ADMIN");
        return;
    }
    for protocol in ["http1", "http2"] {
        let last = answers("");
        let behind = Plain::default().to(&[last.address()]);
        let toml = |pool: &str, endpoint: SocketAddr| {
            format!(
                "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
                 [pool.app]\nendpoints = [\"{endpoint}\"]\n{pool}\n"
            )
        };
        let pool = format!("protocol = \"{protocol}\"\nsocket = {{ transparent = true }}");
        let proxy = Proxy::start(&toml(&pool, behind.address("web")));
        let mut clients = ["127.0.0.5", "127.0.0.6"].map(|from| from_address(from, proxy.address("web")));
        for client in &mut clients {
            for _ in 0..2 {
                client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(client.response().status(), 200);
            }
        }
        let seen: Vec<_> =
            last.requests().iter().filter_map(|one| Some(one.field("x-forwarded-for")?.to_owned())).collect();
        assert_eq!(seen, ["127.0.0.5", "127.0.0.5", "127.0.0.6", "127.0.0.6"], "{protocol}");
        let opened = proxy.metrics().sum("forebay_endpoint_connections_opened_total", &[]);
        assert!((opened - 2.0).abs() < 0.5, "{protocol}: {opened} for two clients");
    }
}

/// A connection from an address of this machine.
fn from_address(from: &str, to: SocketAddr) -> Link {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Link::over(socket.into())
}

#[test]
fn endpoints_on_other_machines_see_the_client_and_answer_it() {
    let (Some(curl), Some(bash)) = (peer("curl"), peer("bash")) else { return };
    let Some(machines) = Machines::make() else { return };
    let [client, middle, far] = &machines.0;
    let server = Process::run_in_namespace(
        far,
        "[[listener]]\nname = \"web\"\nbind = \"10.99.2.2:80\"\naccess_log = \"json\"\n\
         [[route]]\nfilters = [{ respond = { status = 200, body = \"here\" } }]\n\
         [[listener]]\nname = \"dns\"\nbind = \"10.99.2.2:53\"\nprotocol = \"udp\"\npool = \"none\"\n\
         packets = { requests = 1, replies = 0 }\naccess_log = \"json\"\n\
         [pool.none]\nendpoints = [\"127.0.0.1:9\"]\n",
    );
    let _proxy = Process::run_in_namespace(
        middle,
        "[[listener]]\nname = \"tcp\"\nbind = \"10.99.1.1:81\"\nprotocol = \"tcp\"\npool = \"web\"\n\
         [[listener]]\nname = \"http\"\nbind = \"10.99.1.1:82\"\n[[route]]\npool = \"web\"\n\
         [[listener]]\nname = \"dns\"\nbind = \"10.99.1.1:53\"\nprotocol = \"udp\"\npool = \"dns\"\n\
         [pool.web]\nendpoints = [\"10.99.2.2:80\"]\nsocket = { transparent = true }\n\
         [pool.dns]\nendpoints = [\"10.99.2.2:53\"]\nsocket = { transparent = true }\n",
    );
    let in_client = |program: &Peer, args: &[&str]| {
        let path = program.command().get_program().to_owned();
        Command::new("ip").args(["netns", "exec", client]).arg(path).args(args).output().unwrap()
    };
    for port in [81, 82] {
        let answer = in_client(&curl, &["-sS", "-m", "10", &format!("http://10.99.1.1:{port}/{port}")]);
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "here", "{answer:?}");
    }
    in_client(&bash, &["-c", "echo hello >/dev/udp/10.99.1.1/53"]);
    eventually("three lines of the log", || server.out().lines().count() == 3);
    for line in server.out().lines() {
        assert!(line.contains("\"client\":\"10.99.1.2\""), "{line}");
    }
}

/// A client, a proxy and a server, each a network namespace and connected with the next by a wire. They
/// are gone when this is dropped.
struct Machines([String; 3]);

impl Machines {
    /// `None`, with the reason printed, where that takes more than we may.
    fn make() -> Option<Self> {
        let ip = peer("ip")?;
        let machines = Self(["client", "middle", "far"].map(|name| format!("forebay-{}-{name}", id())));
        let done = |command: &str| ip.command().args(command.split(' ')).output().unwrap();
        for name in &machines.0 {
            let added = done(&format!("netns add {name}"));
            if !added.status.success() {
                eprintln!("left out: {}", String::from_utf8_lossy(&added.stderr).trim());
                return None;
            }
        }
        let [client, middle, far] = &machines.0;
        for command in [
            format!("-n {client} link add wire type veth peer name near netns {middle}"),
            format!("-n {far} link add wire type veth peer name away netns {middle}"),
            format!("-n {client} addr add 10.99.1.2/24 dev wire"),
            format!("-n {middle} addr add 10.99.1.1/24 dev near"),
            format!("-n {middle} addr add 10.99.2.1/24 dev away"),
            format!("-n {far} addr add 10.99.2.2/24 dev wire"),
            format!("-n {client} link set wire up"),
            format!("-n {middle} link set near up"),
            format!("-n {middle} link set away up"),
            format!("-n {far} link set wire up"),
            format!("-n {client} link set lo up"),
            format!("-n {middle} link set lo up"),
            format!("-n {far} link set lo up"),
            format!("-n {far} route add default via 10.99.2.1"),
            // What comes back from there is for the proxy, whatever address it is for.
            format!("-n {middle} rule add iif away lookup 100"),
            format!("-n {middle} route add local default dev lo table 100"),
        ] {
            let output = done(&command);
            assert!(output.status.success(), "ip {command}: {output:?}");
        }
        Some(machines)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in &self.0 {
            // Some may not have been made.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}
