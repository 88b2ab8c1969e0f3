//! Endpoints that are added, changed and taken out over the admin listener.

use serde_json::{Value, json};

use crate::lists::replace;
use crate::nameserver::NameServer;
use crate::support::*;
use crate::{asks, config, endpoints, expect_endpoints};

/// What the admin listener answers to an order.
fn order(proxy: &Proxy, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut client = Link::to(proxy.admin());
    let body = body.to_string();
    let length = body.len();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    let response = client.response();
    (response.status(), serde_json::from_str(&response.text()).unwrap_or_default())
}

fn add(proxy: &Proxy, body: &Value) -> (u16, Value) {
    order(proxy, "POST", "/v1/pools/app/endpoints", body)
}

fn remove(proxy: &Proxy, address: &str) -> u16 {
    order(proxy, "DELETE", &format!("/v1/pools/app/endpoints/{address}"), &Value::Null).0
}

#[test]
fn a_change_counts_when_it_is_answered() {
    let origins = ["a", "b"].map(answers);
    let [a, b] = origins.each_ref().map(|origin| origin.address().to_string());
    let proxy = Proxy::start(&config(&format!("endpoints = [\"{a}\"]")));
    let (status, body) = add(&proxy, &json!({ "address": b, "weight": 5, "zone": "eu" }));
    assert_eq!(
        (status, &body["in_use"]["weight"], &body["endpoints"]),
        (200, &json!(5), &json!(2)),
        "{body}"
    );
    assert_eq!(endpoints(&proxy), [a.as_str(), b.as_str()]);
    assert_eq!(remove(&proxy, &a), 200);
    assert_eq!(endpoints(&proxy), [b.as_str()]);
    assert_eq!(proxy.get("/").text(), "b");
    let path = format!("/v1/pools/app/endpoints/{b}");
    let (status, body) = order(&proxy, "PATCH", &path, &json!({ "weight": 7, "priority": 1, "zone": null }));
    let expected = json!({ "weight": 7, "priority": 1, "zone": null });
    assert_eq!((status, &body["in_use"]), (200, &expected));
    let changes: Value = serde_json::from_str(&proxy.ask_admin("/v1/pools/app/changes").text()).unwrap();
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(2), "{changes}");
    assert_eq!(add(&proxy, &json!({ "address": a })).0, 200);
    assert_eq!(remove(&proxy, &b), 200);
    assert_eq!(endpoints(&proxy), [a.as_str()]);
    let changes: Value = serde_json::from_str(&proxy.ask_admin("/v1/pools/app/changes").text()).unwrap();
    assert_eq!(changes["changes"], json!([]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let proxy = Proxy::start(&config("endpoints = [\"127.0.0.1:1\"]"));
    for (body, status) in [
        (json!({}), 400),
        (json!([]), 400),
        (json!({ "address": "127.0.0.1" }), 400),
        (json!({ "address": "app:80" }), 400),
        (json!({ "address": "127.0.0.1:0" }), 400),
        (json!({ "address": "unix:s" }), 400),
        (json!({ "address": "127.0.0.1:2", "weight": 0 }), 400),
        (json!({ "address": "127.0.0.1:2", "priority": 101 }), 400),
        (json!({ "address": "127.0.0.1:2", "zone": "a b" }), 400),
        (json!({ "address": "127.0.0.1:2", "wieght": 1 }), 400),
        (json!({ "address": "127.0.0.1:1" }), 409),
    ] {
        let (found, answer) = add(&proxy, &body);
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer["error"].is_string() && answer["hint"].is_string(), "{answer}");
    }
    assert_eq!(remove(&proxy, "127.0.0.1:2"), 404);
    let (status, _) = order(&proxy, "PATCH", "/v1/pools/app/endpoints/127.0.0.1:2", &json!({ "weight": 2 }));
    assert_eq!(status, 404);
    assert_eq!(
        order(&proxy, "POST", "/v1/pools/none/endpoints", &json!({ "address": "127.0.0.1:2" })).0,
        404
    );
    assert_eq!(endpoints(&proxy), ["127.0.0.1:1"]);
}

#[test]
fn what_was_taken_out_stays_out_whatever_dns_says() {
    let server = NameServer::start();
    server.addresses("app.test", &["127.0.0.2", "127.0.0.3"], 0);
    let proxy = Proxy::start(&config(&asks(&server, "port = 80")));
    assert_eq!(remove(&proxy, "127.0.0.2:80"), 200);
    server.addresses("app.test", &["127.0.0.2", "127.0.0.4"], 0);
    expect_endpoints(&proxy, &["127.0.0.4:80"]);
    assert_eq!(add(&proxy, &json!({ "address": "127.0.0.2:80" })).0, 200);
    assert_eq!(endpoints(&proxy), ["127.0.0.2:80", "127.0.0.4:80"]);
}

#[test]
fn changes_outlive_a_reload() {
    let text = config("endpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]");
    let proxy = Proxy::start(&text);
    assert_eq!(remove(&proxy, "127.0.0.1:1"), 200);
    assert_eq!(add(&proxy, &json!({ "address": "127.0.0.1:3" })).0, 200);
    let folder = tempfile::tempdir().unwrap();
    replace(&proxy, folder.path(), &text);
    assert_eq!(endpoints(&proxy), ["127.0.0.1:2", "127.0.0.1:3"]);
    replace(&proxy, folder.path(), &config("endpoints = [\"127.0.0.1:1\", \"127.0.0.1:4\"]"));
    assert_eq!(endpoints(&proxy), ["127.0.0.1:4", "127.0.0.1:3"]);
}

#[test]
fn changes_outlive_the_process_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("state_dir = \"state\"\n{}", config("api.keep = true"));
    let proxy = Proxy::start_in(folder.path(), &text);
    assert_eq!((endpoints(&proxy), proxy.get("/").status()), (Vec::new(), 503));
    assert_eq!(add(&proxy, &json!({ "address": "127.0.0.1:1", "weight": 3 })).0, 200);
    assert_eq!(add(&proxy, &json!({ "address": "unix:/run/app.sock" })).0, 200);
    drop(proxy);
    let proxy = Proxy::start_in(folder.path(), &text);
    assert_eq!(endpoints(&proxy), ["127.0.0.1:1", "unix:/run/app.sock"]);
    assert_eq!(remove(&proxy, "unix:%2Frun%2Fapp.sock"), 200);
    drop(proxy);
    let forgets = text.replace("api.keep = true", "api.keep = false");
    assert_eq!(endpoints(&Proxy::start_in(folder.path(), &forgets)), [""; 0]);
    let proxy = Proxy::start_in(folder.path(), &text);
    assert_eq!(endpoints(&proxy), ["127.0.0.1:1"]);
    let snapshot = proxy.server().running().published().load_full();
    assert_eq!(snapshot.pools[0].endpoints[0].gauge.base_weight(), 3);
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state"), "not a folder").unwrap();
    let text = format!("state_dir = \"state\"\n{}", config("api.keep = true"));
    let proxy = Proxy::start_in(folder.path(), &text);
    assert_eq!(add(&proxy, &json!({ "address": "127.0.0.1:1" })).0, 500);
    assert_eq!(endpoints(&proxy), [""; 0]);
}

#[test]
fn the_command_line_does_the_same() {
    let mut process = Process::run(&config("endpoints = [\"127.0.0.1:1\"]"));
    let admin = process.admin().to_string();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = command.arg("endpoint").args(args).args(["--admin", &admin]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let said = |text: &str| (Some(0), format!("{text}\n"));
    assert_eq!(
        run(&["add", "app", "127.0.0.1:2"]),
        said("app/127.0.0.1:2 has weight 1; app has 2 endpoints")
    );
    assert_eq!(
        run(&["weight", "app", "127.0.0.1:2", "9"]),
        said("app/127.0.0.1:2 has weight 9; app has 2 endpoints")
    );
    assert_eq!(run(&["remove", "app", "127.0.0.1:1"]), said("app/127.0.0.1:1 is out; app has 1 endpoint"));
    let (code, text) = run(&["remove", "app", "127.0.0.1:1"]);
    assert!(code == Some(1) && text.contains("there is no such endpoint"), "{code:?} {text}");
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
}
