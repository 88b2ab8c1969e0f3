//! `tcp` listeners over real sockets: bytes are passed on as they are, ends as ends and resets as
//! resets; and what happens when there is nobody to pass them on to.

mod support;

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use support::{Ended, Link, Origin, Proxy, eventually, never_accepts, refuses};

/// One `tcp` listener `db` before one pool `db`, with lines of TOML for each.
fn toml(endpoints: &[SocketAddr], listener: &str, pool: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n{listener}\n\
         [pool.db]\nendpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    )
}

fn start(endpoints: &[SocketAddr], listener: &str, pool: &str) -> Proxy {
    Proxy::start(&toml(endpoints, listener, pool))
}

fn connect(proxy: &Proxy) -> Link {
    Link::to(proxy.address("db"))
}

/// Says who it is, then repeats what it is told until the client ends its direction.
fn repeats(greeting: &'static str) -> Origin {
    Origin::run(move |conn| {
        if !conn.send(greeting) {
            return;
        }
        loop {
            let unread = conn.link.unread().len();
            let said = conn.link.take(unread.max(1));
            if said.is_empty() || !conn.send(&said) {
                return;
            }
        }
    })
}

#[test]
fn bytes_go_both_ways_and_ends_are_passed_on() {
    let origin = repeats("hello ");
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(6), b"hello ");
    client.send("one");
    assert_eq!(client.take(3), b"one");
    client.send("two");
    client.finish();
    let (rest, ended) = client.rest();
    assert_eq!((rest.as_slice(), ended), (&b"two"[..], Ended::Closed));
    ends_as(&proxy, "done", 1);
    let bytes = |direction| proxy.metrics().sum("forebay_tcp_bytes_total", &[("direction", direction)]);
    assert_eq!((bytes("received"), bytes("sent")), (6.0, 12.0));
    assert_eq!(proxy.metrics().sum("forebay_tcp_open", &[]), 0.0);
}

#[test]
fn a_client_that_said_all_it_had_to_say_still_gets_its_answer() {
    let origin = Origin::run(|conn| {
        let (said, ended) = conn.link.rest();
        assert_eq!((said.as_slice(), ended), (&b"question"[..], Ended::Closed));
        conn.send("answer");
    });
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    client.send("question");
    client.finish();
    assert_eq!(client.rest(), (b"answer".to_vec(), Ended::Closed));
}

#[test]
fn an_endpoint_that_said_all_it_had_to_say_still_hears_the_client() {
    let origin = Origin::run(|conn| {
        conn.send("bye");
        conn.link.finish();
        conn.until_end();
    });
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    assert_eq!(client.rest(), (b"bye".to_vec(), Ended::Closed));
    client.send("late");
    client.finish();
    assert_eq!(origin.wait_end(0), Ended::Closed);
    eventually("the origin heard it", || origin.recorded()[0].raw == b"late");
}

#[test]
fn a_reset_of_either_side_is_one_for_the_other() {
    let origin = Origin::run(|conn| {
        if conn.link.take(1) == b"r" {
            conn.reset();
        } else {
            conn.until_end();
        }
    });
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    client.send("r");
    assert_eq!(client.expect_end(), Ended::Reset);
    ends_as(&proxy, "endpoint_reset", 1);
    let mut client = connect(&proxy);
    client.send("x");
    origin.wait_connection(1);
    eventually("the byte is through", || proxy.metrics().sum("forebay_tcp_bytes_total", &[]) >= 2.0);
    client.reset();
    assert_eq!(origin.wait_end(1), Ended::Reset);
    ends_as(&proxy, "client_reset", 1);
}

#[test]
fn an_endpoint_that_refuses_is_passed_over_and_charged() {
    let (origin, dead) = (repeats("up "), refuses());
    let proxy = start(&[dead.address(), origin.address()], "", "policy = \"round_robin\"");
    for _ in 0..4 {
        assert_eq!(connect(&proxy).take(3), b"up ");
    }
    let metrics = proxy.metrics();
    assert!(metrics.sum("forebay_retries_total", &[("pool", "db"), ("cause", "connect")]) >= 1.0);
    let dead = dead.address().to_string();
    let failures =
        metrics.sum("forebay_endpoint_failures_total", &[("endpoint", &dead), ("kind", "connect")]);
    assert!(failures >= 1.0, "{failures}");
}

#[test]
fn an_endpoint_that_hangs_is_passed_over_after_the_connect_timeout() {
    let (origin, stuck) = (repeats("up "), never_accepts());
    let pool = "policy = \"round_robin\"\ntimeouts = { connect = \"50ms\" }";
    let proxy = start(&[stuck.address(), origin.address()], "", pool);
    for _ in 0..2 {
        assert_eq!(connect(&proxy).take(3), b"up ");
    }
}

#[test]
fn a_client_is_reset_where_there_is_nobody() {
    let dead = refuses();
    let proxy = start(&[dead.address()], "", "");
    turned_away(&proxy);
    ends_as(&proxy, "connect_failed", 1);
}

#[test]
fn an_idle_connection_and_one_that_lasts_too_long_are_ended() {
    let origin = repeats("up ");
    let proxy = start(&[origin.address()], "timeouts = { idle = \"50ms\" }", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(3), b"up ");
    client.expect_end();
    ends_as(&proxy, "idle", 1);
    let proxy = start(&[origin.address()], "timeouts = { max_duration = \"50ms\" }", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(3), b"up ");
    client.expect_end();
    ends_as(&proxy, "expired", 1);
}

#[test]
fn an_endpoint_that_takes_no_more_holds_up_its_own_client_only() {
    let (go_on, stalled) = mpsc::channel::<()>();
    let stalled = Mutex::new(stalled);
    let origin = Origin::run(move |conn| {
        if conn.link.take(1) == b"s" {
            // Without reading, until the test is over.
            let _ = stalled.lock().unwrap().recv();
        } else {
            conn.send("served");
        }
    });
    let toml = toml(&[origin.address()], "timeouts = { idle = \"1s\" }", "");
    let proxy = Proxy::start(&format!("workers = 1\n{toml}"));
    let mut stuck = TcpStream::connect(proxy.address("db")).unwrap();
    stuck.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    stuck.write_all(b"s").unwrap();
    let chunk = vec![0; 1 << 20];
    let refused = (0..64).find_map(|_| stuck.write(&chunk).err()).expect("buffers have an end");
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    for _ in 0..20 {
        let mut client = connect(&proxy);
        client.send("x");
        assert_eq!(client.rest().0, b"served");
    }
    // Nothing of it moves, so that it is idle; what it has not taken is lost, and the client learns so.
    assert_eq!(Link::over(stuck).expect_end(), Ended::Reset);
    ends_as(&proxy, "idle", 1);
    drop(go_on);
}

#[test]
fn past_the_limit_of_the_pool_a_client_waits_for_its_turn() {
    let origin = repeats("up ");
    let proxy = start(&[origin.address()], "", "limits = { in_flight = 1, waiting = 1, wait = \"10s\" }");
    let mut first = connect(&proxy);
    assert_eq!(first.take(3), b"up ");
    let mut second = connect(&proxy);
    let waiting = || proxy.metrics().sum("forebay_pool_waiting", &[("pool", "db")]);
    eventually("the second waits", || waiting() == 1.0);
    turned_away(&proxy);
    ends_as(&proxy, "rejected", 1);
    drop(first);
    assert_eq!(second.take(3), b"up ");
    let third = connect(&proxy);
    eventually("the third waits", || waiting() == 1.0);
    drop(third);
    eventually("who has left waits no longer", || waiting() == 0.0);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_client_stays_with_its_endpoint_where_the_policy_hashes() {
    let origins = [repeats("a"), repeats("b"), repeats("c")];
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let proxy = start(&addresses, "", "policy = \"ring_hash\"");
    let first = connect(&proxy).take(1);
    for _ in 0..8 {
        assert_eq!(connect(&proxy).take(1), first);
    }
}

#[test]
fn a_split_leads_to_its_pools_by_weight() {
    let (one, other) = (repeats("a"), repeats("b"));
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         split = {{ one = 1, other = 1 }}\n\
         [pool.one]\nendpoints = [\"{}\"]\n[pool.other]\nendpoints = [\"{}\"]\n",
        one.address(),
        other.address()
    ));
    let mut seen = std::collections::BTreeSet::new();
    // All of one kind, once in 2^63.
    for _ in 0..64 {
        seen.insert(connect(&proxy).take(1));
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn who_is_not_allowed_is_closed_and_counted() {
    let origin = repeats("up ");
    for rules in ["deny = [\"127.0.0.0/8\"]", "allow = [\"10.0.0.0/8\"]"] {
        let proxy = start(&[origin.address()], rules, "");
        turned_away(&proxy);
        refused(&proxy, "address");
    }
    let rules = "allow = [\"127.0.0.0/8\"]\nnew_connections = { rate = \"1/h\", burst = 2 }";
    let proxy = start(&[origin.address()], rules, "");
    for _ in 0..2 {
        assert_eq!(connect(&proxy).take(3), b"up ");
    }
    turned_away(&proxy);
    refused(&proxy, "rate");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn filters_of_connections_are_for_http_too() {
    let proxy = support::Plain { listener: "deny = \"127.0.0.1\"", ..Default::default() };
    let origin = support::answers("hi");
    let proxy = proxy.to(&[origin.address()]);
    turned_away_from(&proxy, "web");
    refused(&proxy, "address");
}

#[test]
fn a_drain_leaves_connections_alone_until_it_is_over() {
    let origin = repeats("up ");
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(3), b"up ");
    proxy.server().drain();
    client.send("still here");
    assert_eq!(client.take(10), b"still here");
    proxy.server().abort();
    client.rest();
}

#[test]
fn a_connection_outlives_a_reload_and_its_listener_for_as_long_as_a_drain_takes() {
    let (old, new) = (repeats("old "), repeats("new "));
    let tail = "[drain]\ntimeout = \"200ms\"\n";
    let proxy = Proxy::start(&(toml(&[old.address()], "", "") + tail));
    let mut kept = connect(&proxy);
    assert_eq!(kept.take(4), b"old ");
    proxy.reload(&(toml(&[new.address()], "", "") + tail)).unwrap();
    kept.send("1");
    assert_eq!(kept.take(1), b"1");
    assert_eq!(connect(&proxy).take(4), b"new ");
    let renamed = toml(&[new.address()], "", "").replacen("name = \"db\"", "name = \"other\"", 1) + tail;
    proxy.reload(&renamed).unwrap();
    kept.send("2");
    assert_eq!(kept.take(1), b"2");
    kept.expect_end();
}

#[test]
fn the_page_of_connections_shows_where_one_goes() {
    let origin = repeats("up ");
    let proxy = start(&[origin.address()], "", "");
    let mut client = connect(&proxy);
    assert_eq!(client.take(3), b"up ");
    let page =
        || serde_json::from_slice::<serde_json::Value>(&proxy.ask_admin("/v1/connections").body).unwrap();
    eventually("it is shown", || page()["connections"][0]["passed_on"]["sent_bytes"] == 3);
    let shown = page()["connections"][0].clone();
    assert_eq!(shown["protocol"], "tcp");
    assert_eq!(shown["passed_on"]["pool"], "db");
    assert_eq!(shown["passed_on"]["endpoint"], origin.address().to_string());
    // What lasts is counted meanwhile.
    eventually("its bytes are counted", || proxy.metrics().sum("forebay_tcp_bytes_total", &[]) == 3.0);
    assert_eq!(proxy.metrics().sum("forebay_tcp_open", &[]), 1.0);
}

/// Waits until so many connections have ended in this way.
#[track_caller]
fn ends_as(proxy: &Proxy, result: &str, count: u32) {
    let of = [("listener", "db"), ("pool", "db"), ("result", result)];
    let name = "forebay_tcp_connections_total";
    eventually(result, || proxy.metrics().sum(name, &of) == f64::from(count));
}

/// Waits until a connection is counted as refused by this limit.
#[track_caller]
fn refused(proxy: &Proxy, limit: &str) {
    let refused = || proxy.metrics().sum("forebay_connections_refused_total", &[("limit", limit)]);
    eventually(limit, || refused() == 1.0);
}

/// Connects, and gets nothing but an end, which may come before the connection is open on this side.
#[track_caller]
fn turned_away(proxy: &Proxy) {
    turned_away_from(proxy, "db");
}

#[track_caller]
fn turned_away_from(proxy: &Proxy, listener: &str) {
    match TcpStream::connect(proxy.address(listener)) {
        Ok(tcp) => assert!(Link::over(tcp).rest().0.is_empty()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn the_access_log_tells_of_each_connection() {
    let origin = repeats("hello ");
    for (format, expected) in [
        (
            "json",
            r#"^\{"time":"[^"]+","client":"127.0.0.1","protocol":"tcp","listener":"db","pool":"db","endpoint":"127.0.0.1:\d+","result":"done","received_bytes":3,"sent_bytes":9,"received_datagrams":null,"sent_datagrams":null,"duration_seconds":[\d.]+,"connect_seconds":[\d.]+,"tries":1,"timer":null,"closed_by":null,"tls_version":null,"sni":null\}\n$"#,
        ),
        (
            "text",
            r"^time=\S+ client=127.0.0.1 protocol=tcp listener=db pool=db endpoint=127.0.0.1:\d+ result=done received_bytes=3 sent_bytes=9 received_datagrams=- sent_datagrams=- duration_seconds=\S+ connect_seconds=\S+ tries=1 timer=- closed_by=- tls_version=- sni=-\n$",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = format!("access_log = {{ format = \"{format}\", path = \"{}\" }}", path.display());
        let proxy = start(&[origin.address()], &log, "");
        let mut client = connect(&proxy);
        client.send("one");
        client.finish();
        assert_eq!(client.rest().0, b"hello one");
        let line = || std::fs::read_to_string(&path).unwrap_or_default();
        eventually("the line is there", || line().ends_with('\n'));
        assert!(regex::Regex::new(expected).unwrap().is_match(&line()), "{}", line());
    }
}

#[test]
fn the_access_log_says_why_there_was_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log = {{ format = \"json\", path = \"{}\" }}", path.display());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = start(&[nobody], &log, "retry = { tries = 0 }");
    connect(&proxy).rest();
    let line = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the line is there", || line().ends_with('\n'));
    assert!(
        line().contains(r#""result":"connect_failed""#) && line().contains(r#""closed_by":"upstream""#),
        "{}",
        line()
    );
}

#[test]
fn the_access_log_tells_of_who_was_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let log = format!("access_log = {{ format = \"json\", path = \"{}\" }}", path.display());
    let proxy = start(&[repeats("").address()], &format!("deny = [\"127.0.0.0/8\"]\n{log}"), "");
    connect(&proxy).rest();
    let line = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the line is there", || line().ends_with('\n'));
    for said in [r#""client":"127.0.0.1""#, r#""pool":null"#, r#""result":"denied""#] {
        assert!(line().contains(said), "{}", line());
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "says why the test checked nothing")]
fn transparent_pools_are_connected_to_from_the_clients_address() {
    let privileged = rustix::thread::capabilities(None)
        .is_ok_and(|own| own.effective.contains(rustix::thread::CapabilitySet::NET_ADMIN));
    if !privileged {
        eprintln!("left out: it takes CAP_NET_ADMIN");
        return;
    }
    let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = start(&[origin.local_addr().unwrap()], "", "socket = { transparent = true }");
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.bind(&"127.0.0.77:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    client.connect(&proxy.address("db").into()).unwrap();
    assert_eq!(origin.accept().unwrap().1.ip().to_string(), "127.0.0.77");
}
