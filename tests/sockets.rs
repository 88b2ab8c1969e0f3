//! Options of sockets towards clients and endpoints, and the addresses that connections come from, as
//! the kernel and the other side see them.

mod support;

use std::error::Error as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
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
