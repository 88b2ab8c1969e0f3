//! The last minutes: `/v1/history` says what happened, as clients saw it.

mod support;

use std::net::UdpSocket;

use serde_json::Value;
use support::*;

/// What `/v1/history` says.
fn history(proxy: &Proxy, query: &str) -> Value {
    let page = proxy.ask_admin(&format!("/v1/history{query}"));
    assert_eq!(page.status(), 200, "{}", page.text());
    serde_json::from_slice(&page.body).expect("JSON")
}

/// The sum of a column.
fn sum(series: &Value, column: &str) -> u64 {
    let column = series[column].as_array().expect("a column of that name");
    column.iter().filter_map(Value::as_u64).sum()
}

/// The series of `list` in which `key` is `name`.
fn of<'a>(history: &'a Value, list: &str, (key, name): (&str, &str)) -> &'a Value {
    let list = history[list].as_array().expect("a list");
    list.iter().find(|series| series[key] == name).expect("a series of that name")
}

#[test]
fn requests_are_where_and_when_they_were() {
    let (origin, gone) = (answers("hello"), refuses());
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"good\"\npath_prefix = \"/good\"\npool = \"app\"\n\
         [[route]]\nname = \"bad\"\npath_prefix = \"/bad\"\npool = \"none\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n[pool.none]\nendpoints = [\"{}\"]\n",
        origin.address(),
        gone.address()
    ));
    let mut client = proxy.connect();
    for (target, status, count) in [("/good", 200, 30), ("/bad", 502, 4), ("/nowhere", 404, 2)] {
        for _ in 0..count {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let found = client.response().status();
            assert!(found == status || (status == 502 && found == 503), "{target}: {found}");
        }
    }
    eventually("the seconds to be over", || sum(&history(&proxy, "")["process"], "requests") == 36);
    let history = history(&proxy, "?last=5m");
    let process = &history["process"];
    assert_eq!((process["step_seconds"].as_u64(), sum(process, "errors")), (Some(1), 4));
    assert_eq!(process["total"]["requests"], 36);
    let lengths =
        ["requests", "errors", "p50_seconds", "p99_seconds", "in_flight", "connections", "busy_ratio"];
    let lengths = lengths.map(|column| process[column].as_array().map_or(0, Vec::len));
    assert!(lengths.iter().all(|length| *length == lengths[0] && *length > 0), "{lengths:?}");
    assert!(process["p99_seconds"].as_array().expect("a column").iter().any(Value::is_number));
    let last = process["connections"].as_array().and_then(|column| column.last());
    assert_eq!(last.and_then(Value::as_f64), Some(1.0), "the client's connection");
    let busy = process["busy_ratio"].as_array().expect("a column");
    assert!(busy.iter().skip(1).all(|ratio| ratio.as_f64().is_some_and(|ratio| ratio <= 1.0)), "{busy:?}");
    // Before ten seconds are over, in what is known of the step that is not.
    let (good, bad) = (of(&history, "routes", ("route", "good")), of(&history, "routes", ("route", "bad")));
    assert_eq!((&good["listener"], &good["pool"]), (&"web".into(), &"app".into()));
    assert_eq!((&good["total"]["requests"], &good["total"]["errors"]), (&30.into(), &0.into()));
    assert_eq!((&bad["total"]["requests"], &bad["total"]["errors"]), (&4.into(), &4.into()));
    assert_eq!(of(&history, "pools", ("pool", "none"))["total"]["errors"], 4);
    assert_eq!(of(&history, "pools", ("pool", "app"))["step_seconds"], 10);
}

#[test]
fn connections_and_flows_are_there_by_their_listener() {
    let (origin, gone) = (echoes(), refuses());
    let (socket, mut buffer) = (UdpSocket::bind("127.0.0.1:0").expect("a port is free"), [0; 16]);
    socket.set_read_timeout(Some(DEADLINE)).expect("it is not zero");
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"db\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"db\"\n\
         [[listener]]\nname = \"off\"\nbind = \"127.0.0.1:0\"\nprotocol = \"tcp\"\npool = \"off\"\n\
         [[listener]]\nname = \"dns\"\nbind = \"127.0.0.1:0\"\nprotocol = \"udp\"\npool = \"dns\"\n\
         packets = {{ requests = 1, replies = 0 }}\n\
         [pool.db]\nendpoints = [\"{}\"]\n[pool.off]\nendpoints = [\"{}\"]\n[pool.dns]\nendpoints = [\"{}\"]\n",
        origin.address(),
        gone.address(),
        socket.local_addr().expect("it is bound"),
    ));
    for listener in ["db", "db", "off"] {
        let mut client = Link::to(proxy.address(listener));
        let _ = client.try_send("POST / HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        client.finish();
        let _ = client.rest();
    }
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
    for _ in 0..3 {
        client.send_to(b"ask", proxy.address("dns")).expect("the proxy takes it");
        socket.recv_from(&mut buffer).expect("and passes it on");
    }
    eventually("the seconds to be over", || sum(&history(&proxy, "")["process"], "requests") == 6);
    let history = history(&proxy, "");
    for (name, what, ended, errors) in
        [("db", "connections", 2, 0), ("off", "connections", 1, 1), ("dns", "flows", 3, 0)]
    {
        assert_eq!(of(&history, "routes", ("listener", name))["route"], what);
        for (list, key) in [("routes", "listener"), ("pools", "pool")] {
            let total = &of(&history, list, (key, name))["total"];
            assert_eq!((&total["requests"], &total["errors"]), (&ended.into(), &errors.into()), "{name}");
        }
    }
}

#[test]
fn ten_seconds_later_routes_and_pools_have_a_step() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    for _ in 0..5 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    let mut found = Value::Null;
    within(3 * DEADLINE, "the first ten seconds to be over", || {
        found = history(&proxy, "?last=1h");
        found["pools"][0].is_object() && sum(&found["pools"][0], "requests") == 5
    });
    let pool = &found["pools"][0];
    assert_eq!((&pool["pool"], &pool["available"][0]), (&"app".into(), &1.into()));
    assert_eq!((&pool["utilisation"][0], &pool["queue_wait_seconds"][0]), (&0.0.into(), &Value::Null));
    assert_eq!(sum(&found["routes"][0], "requests"), 5);
    let process = &found["process"];
    assert_eq!((process["step_seconds"].as_u64(), sum(process, "requests")), (Some(10), 5));
    assert_eq!(process["from"], pool["from"], "they are of the same time");
}

#[test]
fn what_is_not_kept_is_refused() {
    let origin = answers("hello");
    let proxy = Proxy::to(origin.address());
    for query in ["?last=2h", "?last=0s", "?last=soon", "?first=1m", "?last=1m&last=2m"] {
        let page = proxy.ask_admin(&format!("/v1/history{query}"));
        assert_eq!(page.status(), 400, "{query}: {}", page.text());
    }
}
