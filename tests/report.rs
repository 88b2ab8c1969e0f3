//! The account of the last minutes: what `forebay report` tells of an endpoint that was killed and came
//! back, of reloads that went well and badly, and how many requests failed, as their clients counted.

mod support;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use serde_json::Value;

use support::*;

/// What the program said, and its exit code.
#[track_caller]
fn forebay(process: &Process, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(args).args(["--admin", &process.admin().to_string()]);
    let output = command.stdin(Stdio::null()).env_remove("FOREBAY_LOG").output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn report(process: &Process, args: &[&str]) -> String {
    let (code, out, err) = forebay(process, &[&["report"], args].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    out
}

#[track_caller]
fn object(process: &Process) -> Value {
    serde_json::from_str(&report(process, &["--format", "json"])).expect("JSON")
}

/// What clients saw.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    requests: u64,
    errors: u64,
}

impl Seen {
    #[track_caller]
    fn get(&mut self, process: &Process, target: &str) {
        let mut client = process.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.requests += 1;
        self.errors += u64::from(client.response().status() >= 500);
    }
}

/// Two routes, one of them to two endpoints, of which none is tried twice.
fn config(endpoints: [SocketAddr; 3]) -> String {
    let [one, other, file] = endpoints;
    format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"files\"\npath_prefix = \"/files\"\npool = \"files\"\n\
         [[route]]\nname = \"api\"\npool = \"app\"\n\
         [pool.files]\nendpoints = [\"{file}\"]\n\
         [pool.app]\npolicy = \"round_robin\"\nendpoints = [\"{one}\", \"{other}\"]\nretry = {{ tries = 0 }}\n\
         [pool.app.outlier]\nbase_ejection = \"300ms\"\nmax_ejection = \"1s\"\n"
    )
}

#[test]
fn an_endpoint_that_was_killed_is_told_of_with_what_it_cost() {
    let (stays, files) = (answers("hello"), answers("a file"));
    let killed = answers("hello");
    let address = killed.address();
    let endpoints = [stays.address(), address, files.address()];
    let process = Process::run(&config(endpoints));
    let mut seen = Seen::default();
    for _ in 0..10 {
        seen.get(&process, "/");
        seen.get(&process, "/files");
    }
    assert_eq!(seen, Seen { requests: 20, errors: 0 });

    drop(killed);
    let _again = out_and_back(&process, address, &mut seen);
    assert!(seen.errors > 0);

    eventually("the second to be over", || object(&process)["requests"]["requests"] == seen.requests);
    let told = object(&process);
    assert_eq!(told["requests"]["errors"], seen.errors, "{told:#}");
    assert_eq!(told["budget"]["spent"], true);
    let rate = seen.errors as f64 / seen.requests as f64 / 0.001;
    assert!(told["budget"]["burn_rate"].as_f64().is_some_and(|told| (told - rate).abs() < 1e-6), "{told:#}");
    let name = address.to_string();
    let outage = &told["outages"][0];
    assert_eq!((&outage["endpoint"], &outage["state"]), (&name.as_str().into(), &Value::Null), "{told:#}");
    assert!(outage["seconds"].as_f64().is_some_and(|seconds| (0.3..10.0).contains(&seconds)), "{told:#}");

    let text = report(&process, &["--last", "5m", "--slo", "99.9%"]);

    let (requests, errors) = (seen.requests, seen.errors);
    for part in [
        format!("{requests} requests ended"),
        format!("and {errors} of them failed"),
        "the objective of 99.9 % was **missed**".to_owned(),
        "100 % of the failures were of route `api` of listener `web` to pool `app`.".to_owned(),
        format!("`app/{name}` was out for"),
        format!("| **ejected** | `app/{name}` | ejected for 0.3 s (first time): consecutive"),
        format!("| returned | `app/{name}` | back"),
        "| start | configuration | the process was started; generation 1 is in force now |".to_owned(),
        "| `app` |".to_owned(),
        "| 2 of 2 |".to_owned(),
        format!("## Failing routes\n\n{ROUTES}| `web/api` | `app` |"),
    ] {
        assert!(text.contains(&part), "{part:?} is not in\n{text}");
    }
    assert!(text.contains("nothing is known of the time before"), "{text}");
    let lenient = report(&process, &["--slo", "1"]);
    assert!(lenient.contains("the objective of 1 % was met"), "{lenient}");
}

/// Asks until the endpoint at `address`, which was killed, is ejected, has it answer again, and asks until it is back.
fn out_and_back(process: &Process, address: SocketAddr, seen: &mut Seen) -> Origin {
    let name = address.to_string();
    let state = || {
        let shown = process.ask_admin(&format!("/v1/endpoints/app/{name}")).text();
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        shown.get("state").and_then(Value::as_str).map(str::to_owned).expect("a word")
    };
    eventually("its ejection", || {
        seen.get(process, "/");
        state() == "ejected"
    });
    let still = report(process, &[]);
    assert!(still.contains(&format!("`app/{name}` is **still out**")), "{still}");

    let listener = || TcpListener::bind(address).ok();
    let mut again = listener();
    eventually("its port", || {
        again = again.take().or_else(listener);
        again.is_some()
    });
    let again =
        Origin::on(
            again.expect("it was bound"),
            |conn| {
                while conn.request().is_some() && conn.send(ok("back")) {}
            },
        );
    eventually("its return", || {
        seen.get(process, "/");
        state() == "up" || state() == "warming"
    });
    again
}

#[test]
fn reloads_are_told_with_what_they_changed_or_why_they_failed() {
    let origin = answers("hello");
    let admin = "[admin]\nbind = \"127.0.0.1:0\"\n";
    let [first, second] = [[1, 2, 1], [1, 3, 1]].map(|hosts| config(at(&origin, hosts)) + admin);
    let process = Process::run(&first);
    let file = process.folder().join("f.toml");
    fs::write(&file, second).expect("the folder can be written to");
    forebay(&process, &["reload"]);
    let told = |part: &str| report(&process, &[]).lines().any(|line| line.contains(part));
    eventually("generation 2", || told("| reload | configuration | generation 2 in force ("));
    let line = report(&process, &[]);
    let line = line.lines().find(|line| line.contains("generation 2 in force")).expect("it is there");
    assert!(line.contains("pool app"), "{line}");

    fs::write(&file, "listener = 3\n").expect("the folder can be written to");
    forebay(&process, &["reload"]);
    eventually("what failed", || told("| **failed reload** | configuration | generation 2 goes on: "));
    let text = report(&process, &[]);
    assert!(text.contains("There was: 1 reload (at ") && text.contains(", 1 failed reload (at "), "{text}");
    assert!(text.contains("## To look at now\n\n- the last reload failed, at "), "{text}");
}

#[test]
fn what_is_not_kept_is_refused() {
    let origin = answers("hello");
    let process = Process::run(&config(at(&origin, [1, 2, 1])));
    let (code, out, err) = forebay(&process, &["report", "--last", "2h"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("is not a time that is kept") && err.contains("from 1s to 1h"), "{err}");
    let (code, _, err) = forebay(&process, &["report", "--slo", "100%"]);
    assert_eq!(code, Some(2), "{err}");
    let answer = process.ask_admin("/v1/report?slo=200");
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("is no objective"), "{}", answer.text());
    let answer = process.ask_admin("/v1/report");
    assert_eq!(answer.field("content-type"), Some("text/markdown; charset=utf-8"));
    assert!(answer.text().starts_with("# Forebay: the last "), "{}", answer.text());
}

/// Addresses of this machine with the origin's port; it listens on the first host only.
fn at(origin: &Origin, hosts: [u8; 3]) -> [SocketAddr; 3] {
    hosts.map(|host| SocketAddr::from(([127, 0, 0, host], origin.address().port())))
}

/// The head of tables of routes.
const ROUTES: &str = "\
| Route | Pool | Requests | Failed | p50 | p90 | p99 |
|---|---|---|---|---|---|---|
";
