//! That it can be said why: the journal, the words of `why`, orders from the command line, and other
//! thresholds tried on what was recorded.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use support::*;

/// How a command ended.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command against the admin listener of `process`.
fn forebay(process: &Process, args: &[&str]) -> Done {
    let admin = process.admin().to_string();
    run(&[args, &["--admin", &admin]].concat())
}

fn run(args: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = command.args(args).stdin(Stdio::null()).env_remove("FOREBAY_LOG").output();
    let Output { status, stdout, stderr } = output.expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
    Done { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// A proxy in front of these endpoints, with these lines for the pool `app`.
fn in_front_of(endpoints: &[SocketAddr], pool: &str) -> Process {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    Process::run(&format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\npolicy = \"round_robin\"\nendpoints = [{}]\n{pool}\n",
        endpoints.join(", ")
    ))
}

fn get(process: &Process) -> u16 {
    let mut client = process.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.response().status()
}

fn json(process: &Process, target: &str) -> Value {
    serde_json::from_slice(&process.ask_admin(target).body).expect("JSON")
}

fn state(process: &Process, endpoint: SocketAddr) -> String {
    let shown = json(process, &format!("/endpoints/app/{endpoint}"));
    shown.get("state").and_then(Value::as_str).expect("a word").to_owned()
}

/// An origin that answers every request with 503.
fn overloaded() -> Origin {
    answers_raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
}

#[test]
fn an_ejection_is_told_by_all_who_can() {
    let origins = [overloaded(), answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let process = in_front_of(&endpoints, "[pool.app.outlier]\nbase_ejection = \"100s\"\n");
    let bad = endpoints[0];
    eventually("an ejection", || {
        get(&process);
        state(&process, bad) == "ejected"
    });

    let journal = json(&process, &format!("/endpoints/app/{bad}/journal"));
    let entries = journal["entries"].as_array().expect("a list");
    let ejection = entries.iter().find(|entry| entry["state"] == "ejected").expect("it was ejected");
    let words = ejection["words"].as_str().expect("words");
    assert!(words.contains("consecutive_failures") && words.contains("ejected"), "{words}");
    eventually("a line in the log", || process.err().contains(words));

    let bad = bad.to_string();
    let why = forebay(&process, &["why", &bad]);
    assert_eq!((why.code, &*why.err), (Some(0), ""), "{why:?}");
    assert!(why.out.contains(&format!("app/{bad} is ejected, since ")), "{}", why.out);
    assert!(why.out.contains(words), "{}", why.out);
    let before = forebay(&process, &["why", &format!("app/{bad}"), "--at", "1h"]);
    assert!(before.out.contains("the journal begins at"), "{}", before.out);
    let list = forebay(&process, &["endpoints"]);
    assert!(list.out.lines().any(|line| line.contains(&bad) && line.contains("ejected")), "{}", list.out);

    let metrics = Metrics::parse(&process.ask_admin("/metrics").text());
    let endpoint = [("pool", "app"), ("endpoint", &*bad)];
    assert_eq!(metrics.sum("forebay_endpoint_ejections_total", &endpoint), 1.0);
    assert_eq!(metrics.sum("forebay_endpoint_up", &endpoint), 0.0);
    assert_eq!(
        metrics.sum("forebay_endpoint_state", &[&endpoint[..], &[("state", "ejected")]].concat()),
        1.0
    );
    assert_eq!(metrics.sum("forebay_endpoint_state", &endpoint), 1.0);
    assert_eq!(metrics.sum("forebay_pool_endpoints", &[("state", "ejected")]), 1.0);
    let detector = [("pool", "app"), ("detector", "consecutive_failures")];
    assert!(metrics.sum("forebay_outlier_enforced_total", &detector) >= 1.0);
    assert!(metrics.sum("forebay_outlier_detected_total", &detector) >= 1.0);
    content(&process.ask_admin("/metrics").body);
}

/// Has promtool check the metrics, where there is one.
fn content(metrics: &[u8]) {
    let Some(promtool) = peer("promtool") else { return };
    let mut check = promtool.command();
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool runs");
    check.stdin.take().expect("which is piped").write_all(metrics).expect("promtool reads");
    let output = check.wait_with_output().expect("promtool ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn other_thresholds_are_tried_on_what_was_recorded() {
    let origins = [overloaded(), answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let bad = endpoints[0].to_string();
    let process = in_front_of(&endpoints, "outlier = \"off\"\n");
    for _ in 0..30 {
        get(&process);
    }
    let folder = process.folder();
    let journal = folder.join("journal");
    eventually("the last interval is recorded", || {
        let text = process.ask_admin("/v1/recording").text();
        fs::write(&journal, &text).expect("the folder can be written to");
        let intervals = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = |line: Value| {
            let failures = line["failures"].as_object()?.values().filter_map(Value::as_u64).sum::<u64>();
            Some(failures + line["successes"].as_u64()?)
        };
        intervals.filter_map(ended).sum::<u64>() == 30
    });
    let configured = fs::read_to_string(folder.join("f.toml")).expect("it was written");
    let simulate = |file: &str, toml: &str| {
        let path = folder.join(file);
        fs::write(&path, toml).expect("the folder can be written to");
        run(&["simulate", "--journal", &journal.to_string_lossy(), "-c", &path.to_string_lossy()])
    };
    let as_it_was = simulate("same.toml", &configured);
    assert_eq!((as_it_was.code, &*as_it_was.err), (Some(0), ""), "{as_it_was:?}");
    assert!(as_it_was.out.contains("nothing would have been enforced"), "{}", as_it_was.out);
    assert!(as_it_was.out.contains("at the time, nothing was enforced"), "{}", as_it_was.out);
    let strict = simulate("strict.toml", &configured.replace("outlier = \"off\"", "[pool.app.outlier]"));
    let found = |line: &str| line.contains(&bad) && line.contains("consecutive_failures");
    assert!(strict.out.lines().any(found), "{strict:?}");
    let other =
        simulate("other.toml", &configured.replace("pool.app", "pool.web").replace("\"app\"", "\"web\""));
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.err.contains("pool app") && other.err.contains("help:"), "{}", other.err);
    fs::write(&journal, "not a journal\n").expect("the folder can be written to");
    let wrong = simulate("same.toml", &configured);
    assert!(wrong.code == Some(1) && wrong.err.contains("line 1"), "{wrong:?}");
}

#[test]
fn a_drained_endpoint_gets_nothing_until_it_is_undrained() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let process = in_front_of(&endpoints, "");
    let drained = endpoints[0].to_string();
    let done = forebay(&process, &["endpoint", "drain", &drained]);
    assert_eq!((done.code, done.out), (Some(0), format!("app/{drained} is draining\n")), "{}", done.err);
    let before = origins[0].requests().len();
    for _ in 0..20 {
        assert_eq!(get(&process), 200);
    }
    assert_eq!((origins[0].requests().len(), origins[1].requests().len()), (before, 20));
    let why = forebay(&process, &["why", &drained, "--pool", "app"]);
    assert!(why.out.contains("is draining, since") && why.out.contains("by order"), "{}", why.out);

    let done = forebay(&process, &["endpoint", "undrain", &format!("app/{drained}")]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    eventually("traffic at the endpoint again", || {
        get(&process);
        origins[0].requests().len() > before
    });
}

#[test]
fn an_order_for_a_time_ends_by_itself() {
    let origins = [answers("a"), answers("b")];
    let endpoints = origins.each_ref().map(Origin::address);
    let process = in_front_of(&endpoints, "");
    let disabled = endpoints[1].to_string();
    let done = forebay(&process, &["endpoint", "disable", &disabled, "--for", "600ms"]);
    assert_eq!((done.code, done.out), (Some(0), format!("app/{disabled} is disabled, for 600ms\n")));
    eventually("its end", || state(&process, endpoints[1]) != "disabled");
    eventually("traffic at the endpoint again", || {
        get(&process);
        !origins[1].requests().is_empty()
    });
    let journal = json(&process, &format!("/endpoints/app/{disabled}/journal"));
    let states: Vec<_> = journal["entries"].as_array().expect("a list").iter().map(|e| &e["state"]).collect();
    assert!(states.contains(&&Value::from("disabled")), "{journal}");
}

#[test]
fn errors_teach() {
    let origin = answers("a");
    let process = in_front_of(&[origin.address()], "");
    for (args, code, part) in [
        (&["why", "127.0.0.1:1"][..], 1, "there is app/127.0.0.1:"),
        (&["why", "127.0.0.1:1", "--at", "yesterday"], 2, "14:05"),
        (&["endpoint", "drain", "127.0.0.1:1", "--pool", "web"], 1, "web/127.0.0.1:1"),
        (&["endpoint", "drain", "127.0.0.1:1", "--for", "soon"], 2, "1m30s"),
    ] {
        let done = forebay(&process, args);
        assert_eq!((done.code, &*done.out), (Some(code), ""), "{args:?}: {}", done.err);
        assert!(done.err.contains(part), "{args:?}: {}", done.err);
    }
    let silent = refuses();
    let done = run(&["endpoints", "--admin", &silent.address().to_string()]);
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("no connection") && done.err.contains("help:"), "{}", done.err);
    let done = run(&["endpoints", "--admin", &origin.address().to_string()]);
    assert!(done.code == Some(1) && done.err.contains("makes no sense"), "{}", done.err);
    let done = run(&["simulate", "--journal", "/nonexistent/journal", "-c", "config/forebay.toml"]);
    assert!(done.code == Some(1) && done.err.contains("/journal"), "{}", done.err);
}

#[test]
fn checks_are_counted_and_their_verdict_is_told() {
    let (good, silent) = (answers("a"), refuses());
    let process = in_front_of(
        &[good.address(), silent.address()],
        "[pool.app.health]\nkind = \"tcp\"\ninterval = \"50ms\"\nfast_interval = \"20ms\"\n\
         down_interval = \"50ms\"\ntimeout = \"1s\"\nfall = 2\n",
    );
    eventually("a verdict", || state(&process, silent.address()) == "down");
    let down = silent.address().to_string();
    let why = forebay(&process, &["why", &down]);
    assert!(why.out.contains(" is down, since ") && why.out.contains("check failed"), "{}", why.out);
    let page = process.ask_admin("/metrics");
    let metrics = Metrics::parse(&page.text());
    let of = |endpoint: &str, result: &str| {
        metrics.sum("forebay_endpoint_checks_total", &[("endpoint", endpoint), ("result", result)])
    };
    assert!(of(&down, "fail") >= 1.0 && of(&down, "pass") == 0.0);
    assert_eq!(of(&good.address().to_string(), "fail"), 0.0);
    assert!(metrics.sum("forebay_pool_check_duration_seconds_count", &[("pool", "app")]) >= 1.0);
    content(&page.body);
}
