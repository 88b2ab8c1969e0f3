//! What access logs say of requests that fail, which requests they hold, and how they reach a syslog or
//! somebody who follows.

mod support;

use std::fs;
use std::io::{BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

use regex::Regex;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use support::*;

/// The lines of the log `access.log` in `folder`, once there are so many.
#[track_caller]
fn lines(folder: &Path, n: usize) -> Vec<Value> {
    let read = || {
        let text = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
    };
    eventually(&format!("{n} lines"), || read().len() >= n);
    read()
}

fn logged(log: &str, rest: &str) -> String {
    format!("[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\naccess_log = {log}\n{rest}")
}

#[test]
fn a_line_says_what_a_request_failed_of_and_who_broke_it_off() {
    let origins =
        [answers("hello"), never_answers(), resets_before_answer(), truncates_body(), never_answers()];
    let [.., patient] = &origins;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let proxy = Proxy::start_in(folder.path(), &that_fail(&origins));
    let mut asked = 0;
    let mut ask = |request: &str, status| {
        let mut client = proxy.connect();
        client.send(format!("{request}\r\nHost: test\r\n\r\n"));
        assert_eq!(client.head().expect("a head").status(), status, "{request}");
        asked += 1;
        // Another worker may be faster with its line.
        lines(folder.path(), asked);
    };
    ask("GET /fine HTTP/1.1", 200);
    ask("GET /silent HTTP/1.1", 504);
    ask("GET /resets HTTP/1.1", 502);
    ask("GET /half HTTP/1.1", 200);
    ask("POST /small HTTP/1.1\r\nContent-Length: 2", 413);
    ask("GET /secret HTTP/1.1\r\nAuthorization: Basic YWxpY2U6c2VzYW1l", 200);
    let mut client = proxy.connect();
    client.send("GET /patient HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request", || patient.requests().len() == 1);
    drop(client);
    let lines = lines(folder.path(), 7);
    let told = |line: &Value| {
        ["tries", "timer", "limit", "closed_by", "user"].map(|key| line[key].clone()).map(|value| match value
        {
            Value::Null => "-".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        })
    };
    let expected = [
        ["1", "-", "-", "-", "-"],
        ["1", "try", "-", "forebay", "-"],
        ["1", "-", "-", "upstream", "-"],
        ["1", "-", "-", "upstream", "-"],
        ["0", "-", "max_body", "-", "-"],
        ["1", "-", "-", "-", "alice"],
        ["1", "-", "-", "client", "-"],
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(told(line), expected, "{line:#}");
    }
    assert_eq!((&lines[3]["status"], &lines[3]["error"]), (&200.into(), &"http_response_incomplete".into()));
    assert_eq!(lines[4]["error"], "http_request_denied");
    assert_eq!(lines[6]["status"], 499);
}

/// A pool and a route for each of these origins, and two routes whose filters refuse.
fn that_fail(origins: &[Origin; 5]) -> String {
    let names = ["fine", "silent", "resets", "half", "patient"];
    let tables = names.iter().zip(origins).map(|(name, origin)| {
        let limit = if *name == "silent" { "timeouts = { try = \"50ms\" }\n" } else { "" };
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}\"\npool = \"{name}\"\n[pool.{name}]\n\
             endpoints = [\"{}\"]\nretry = {{ tries = 0 }}\n{limit}",
            origin.address()
        )
    });
    let refusing = "[[route]]\nname = \"small\"\npath = \"/small\"\npool = \"fine\"\n\
        filters = [{ max_body = \"1B\" }]\n\
        [[route]]\nname = \"secret\"\npath = \"/secret\"\npool = \"fine\"\n\
        filters = [{ basic_auth = { users = { alice = \"sesame\" } } }]\n";
    let log = "{ format = \"json\", path = \"access.log\" }";
    logged(log, &(tables.collect::<String>() + refusing))
}

/// A route whose requests `good` answers, and one to `bad`.
fn good_and_bad(good: SocketAddr, bad: SocketAddr) -> String {
    format!(
        "[[route]]\nname = \"good\"\npath = \"/good\"\npool = \"app\"\n\
         [[route]]\nname = \"bad\"\npath = \"/bad\"\npool = \"gone\"\n\
         [pool.app]\nendpoints = [\"{good}\"]\n[pool.gone]\nendpoints = [\"{bad}\"]\n"
    )
}

#[test]
fn chosen_fields_of_a_sample_and_of_every_fault() {
    let (origin, gone) = (answers("hello"), refuses());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let rest = good_and_bad(origin.address(), gone.address());
    let log =
        "{ format = \"json\", path = \"access.log\", fields = [\"target\", \"status\"], sample = \"0%\" }";
    let proxy = Proxy::start_in(folder.path(), &logged(log, &rest));
    for target in ["/good", "/nowhere", "/bad", "/good", "/bad"] {
        proxy.get(target);
    }
    let found = lines(folder.path(), 2);
    let fault = json!({ "status": 502, "target": "/bad" });
    assert!(found.iter().all(|line| *line == fault), "{found:?}");
    let count = |name: &str| proxy.metrics().sum(name, &[("listener", "web")]);
    eventually("the count of the others", || count("forebay_access_log_unsampled_total") == 3.0);
    eventually("the count", || count("forebay_access_log_lines_total") == 2.0);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_line_names_the_trace_of_its_request() {
    let origin = answers("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let rest = format!(
        "[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n[tracing]\nparent = true\nsample = \"0%\"\n",
        origin.address()
    );
    let log = "{ format = \"json\", path = \"access.log\", fields = [\"trace_id\"] }";
    let proxy = Proxy::start_in(folder.path(), &logged(log, &rest));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let mut client = proxy.connect();
    client
        .send(format!("GET / HTTP/1.1\r\nHost: test\r\ntraceparent: 00-{trace}-b7ad6b7169203331-00\r\n\r\n"));
    assert_eq!(client.response().status(), 200);
    assert_eq!(lines(folder.path(), 1), [json!({ "trace_id": trace })]);
}

/// The configuration of a log that goes to `syslog`.
fn to_syslog(syslog: &str, origin: &Origin) -> String {
    let log = format!("{{ fields = [\"target\"], syslog = \"{syslog}\" }}");
    let rest = format!("[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n", origin.address());
    logged(&log, &rest)
}

/// Whether it is a message about `target`, as RFC 5424 has them.
#[track_caller]
fn assert_message(message: &[u8], target: &str) {
    let text = String::from_utf8_lossy(message);
    let own = std::process::id();
    let pattern = format!(r"^<134>1 [0-9T:.-]+Z [!-~]+ forebay {own} access - target={target}$");
    assert!(Regex::new(&pattern).expect("an expression").is_match(&text), "{text}");
}

#[test]
fn datagrams_to_a_syslog_are_a_message_each() {
    let origin = answers("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    udp.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    let path = folder.path().join("log");
    let local = UnixDatagram::bind(&path).expect("a socket");
    local.set_read_timeout(Some(DEADLINE)).expect("a time limit");
    let mut room = [0; 1024];
    let to = format!("udp://{}", udp.local_addr().expect("it is bound"));
    let proxy = Proxy::start(&to_syslog(&to, &origin));
    for target in ["/one", "/two"] {
        proxy.get(target);
        let n = udp.recv(&mut room).expect("a datagram");
        assert_message(&room[..n], target);
    }
    let proxy = Proxy::start(&to_syslog(&format!("unix:{}", path.display()), &origin));
    for target in ["/three", "/four"] {
        proxy.get(target);
        let n = local.recv(&mut room).expect("a datagram");
        assert_message(&room[..n], target);
    }
    eventually("the count of lines", || {
        proxy.metrics().sum("forebay_access_log_lines_total", &[("listener", "web")]) == 2.0
    });
}

#[test]
fn streams_to_a_syslog_are_taken_up_again() {
    let origin = answers("hello");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = format!("tcp://{}", listener.local_addr().expect("it is bound"));
    let proxy = Proxy::start(&to_syslog(&to, &origin));
    let message = |stream: &mut dyn Read| {
        let mut length = Vec::new();
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && byte != *b" " {
            length.extend(byte);
        }
        let length = String::from_utf8_lossy(&length).parse().expect("a length");
        let mut message = vec![0; length];
        stream.read_exact(&mut message).expect("a message of that length");
        message
    };
    proxy.get("/one");
    let (mut stream, _) = listener.accept().expect("a connection");
    assert_message(&message(&mut stream), "/one");
    proxy.get("/two");
    assert_message(&message(&mut stream), "/two");
    drop(stream);
    proxy.get("/again");
    let (mut stream, _) = listener.accept().expect("another connection");
    assert_message(&message(&mut stream), "/again");
    let lost = proxy.metrics().sum("forebay_access_log_lines_lost_total", &[("listener", "web")]);
    assert!(lost == 0.0, "{lost}");

    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("log");
    let listener = UnixListener::bind(&path).expect("a socket");
    let proxy = Proxy::start(&to_syslog(&format!("unix:{}", path.display()), &origin));
    proxy.get("/local");
    let (stream, _) = listener.accept().expect("a connection");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(stream), &mut line).expect("a line");
    assert_message(line.trim_end().as_bytes(), "/local");
}

#[test]
fn a_syslog_that_is_not_there_is_counted_and_slows_no_request() {
    let origin = answers("hello");
    let proxy = Proxy::start(&to_syslog("unix:/nowhere/at/all", &origin));
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status(), 200);
    }
    eventually("the count of lines", || {
        proxy.metrics().sum("forebay_access_log_lines_lost_total", &[("listener", "web")]) == 20.0
    });
}

#[test]
fn a_pipe_that_nobody_reads_keeps_the_program_from_starting_and_not_from_ending() {
    let origin = answers("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let pipe = folder.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
    let rest = format!("[[route]]\npool = \"app\"\n[pool.app]\nendpoints = [\"{}\"]\n", origin.address());
    fs::write(folder.path().join("f.toml"), logged("{ path = \"pipe\" }", &rest)).expect("a file");
    let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
    assert_eq!(process.wait().code(), Some(1));
    eventually("the reason", || process.err().contains("a pipe that nobody has opened to read"));
}

#[test]
fn requests_can_be_followed_whatever_is_logged() {
    let (origin, gone) = (answers("hello"), refuses());
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"good\"\npath = \"/good\"\npool = \"app\"\n\
         [[route]]\nname = \"bad\"\npath = \"/bad\"\npool = \"gone\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n[pool.gone]\nendpoints = [\"{}\"]\n",
        origin.address(),
        gone.address()
    ));
    let follow = |query: &str| {
        let mut follower = Link::to(proxy.admin());
        follower.send(format!("GET /v1/log/access{query} HTTP/1.0\r\n\r\n"));
        assert_eq!(follower.head().expect("a head").status(), 200);
        // Whoever follows is told so by an empty line.
        assert_eq!(follower.take(1), b"\n");
        follower
    };
    let (mut all, mut faults) = (follow(""), follow("?status=5xx&route=bad"));
    let told = |follower: &mut Link, target: &str| {
        let line = follower.take_until(b"\n").expect("a line");
        let line: Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(line["target"], target);
        line
    };
    proxy.get("/good?x=1");
    assert_eq!(told(&mut all, "/good?x=1")["pool"], "app");
    proxy.get("/bad");
    assert_eq!(told(&mut all, "/bad")["closed_by"], "upstream");
    assert_eq!(told(&mut faults, "/bad")["route"], "bad");
    drop((all, faults));
    assert_eq!(proxy.ask_admin("/v1/log/access?status=7xx").status(), 400);
}

/// `forebay log` in `folder`, with what follows.
fn log_command(folder: &Path, more: &[&str]) -> Process {
    Process::spawn(folder, &[&["log"], more].concat())
}

#[test]
fn the_log_command_follows_what_runs() {
    let (origin, folder) = (answers("hello"), tempfile::tempdir().expect("a temporary folder can be made"));
    let proxy = Proxy::to(origin.address());
    let admin = proxy.admin().to_string();
    let command = log_command(folder.path(), &["--admin", &admin, "--text", "/wanted", "--status", "2xx"]);
    // Until it follows, it sees nothing.
    eventually("a line", || {
        proxy.get("/other");
        proxy.get("/wanted");
        command.out().contains('\n')
    });
    let (out, pattern) = (command.out(), r"^[0-9:.]{12} 200 +\S+  127\.0\.0\.1 GET test/wanted  \S+ > app/");
    assert!(!out.contains("/other") && !out.contains('\x1b'), "{out}");
    assert!(Regex::new(pattern).expect("an expression").is_match(&out), "{out}");
    proxy.drain_and_wait();
    let mut command = command;
    assert!(command.wait().success(), "{}", command.err());
}

#[test]
fn the_log_command_says_why_nothing_can_be_followed() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut nobody = log_command(folder.path(), &["--admin", "127.0.0.1:1"]);
    assert_eq!(nobody.wait().code(), Some(1));
    eventually("the reason", || nobody.err().contains("no connection to 127.0.0.1:1"));
    let mut no_file = log_command(folder.path(), &["--file", "none"]);
    assert_eq!(no_file.wait().code(), Some(1));
    eventually("the reason", || no_file.err().contains("cannot read none"));
}

#[test]
fn the_log_command_filters_a_file_and_follows_it() {
    let (origin, gone) = (answers("hello"), refuses());
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let rest = good_and_bad(origin.address(), gone.address());
    let log = "{ format = \"json\", path = \"access.log\" }";
    let proxy = Proxy::start_in(folder.path(), &logged(log, &rest));
    proxy.get("/good");
    proxy.get("/bad");
    lines(folder.path(), 2);
    let whole = ["--file", "access.log", "--json", "--status", "502", "--no-follow"];
    let mut once = log_command(folder.path(), &whole);
    assert!(once.wait().success(), "{}", once.err());
    eventually("the line", || once.out().contains("\"target\":\"/bad\""));
    assert_eq!(once.out().lines().count(), 1, "{}", once.out());
    let following = log_command(folder.path(), &["--file", "access.log", "--route", "bad"]);
    eventually("the first line", || following.out().lines().count() == 1);
    proxy.get("/bad");
    eventually("the second line", || following.out().lines().count() == 2);
    assert!(following.out().contains("(broken off by upstream)"), "{}", following.out());
}
