//! Access logs as they end up in files, pipes and on standard output.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;

use forebay::ambient;
use regex::Regex;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

fn config(endpoint: std::net::SocketAddr, log: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\naccess_log = {log}\n\
         [[route]]\nname = \"all\"\npool = \"app\"\n[pool.app]\nendpoints = [\"{endpoint}\"]\n"
    )
}

/// The whole lines of a file; none when there is no file.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    whole.lines().map(str::to_owned).collect()
}

#[track_caller]
fn wait_for_lines(path: &Path, n: usize) -> Vec<String> {
    eventually(&format!("{n} lines in {}", path.display()), || lines_of(path).len() >= n);
    lines_of(path)
}

#[test]
fn text_lines_on_standard_output_are_in_the_combined_format() {
    let origin = answers("hello");
    let process = Process::run(&config(origin.address(), "\"text\""));
    let mut client = process.connect();
    client.send(
        "GET /a%20b?c=\"d\" HTTP/1.1\r\nHost: test\r\nReferer: http://x/\r\nUser-Agent: a \"b\" \\c\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 200);
    eventually("two lines", || process.out().lines().count() == 2);
    let combined = Regex::new(
        r#"^(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "([A-Z]+) (\S+) (HTTP/[\d.]+)" (\d{3}) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"$"#,
    );
    let combined = combined.expect("an expression");
    let out = process.out();
    let fields: Vec<Vec<&str>> = out
        .lines()
        .map(|line| combined.captures(line).unwrap_or_else(|| unreadable(line)))
        .map(|fields| fields.iter().skip(1).flatten().map(|field| field.as_str()).collect())
        .collect();
    assert_eq!(fields[0][0], "127.0.0.1");
    assert_eq!(fields[0][2..7], ["GET", "/a%20b?c=\\\"d\\\"", "HTTP/1.1", "200", "5"]);
    assert_eq!(fields[0][7..], ["http://x/", "a \\\"b\\\" \\\\c"]);
    assert_eq!(fields[1][2..], ["HEAD", "/", "HTTP/1.1", "200", "-", "-", "-"]);
}

#[track_caller]
#[expect(clippy::panic, reason = "fails the test")]
fn unreadable(line: &str) -> ! {
    panic!("not the combined format: {line}")
}

#[test]
fn json_lines_in_a_file_tell_what_became_of_each_request() {
    let origin = answers("hello");
    let gone = refuses();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let toml = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\naccess_log = {{ format = \"json\", path = \"access.log\" }}\n\
         [[route]]\nname = \"good\"\npath = \"/good\"\npool = \"app\"\n\
         [[route]]\nname = \"bad\"\npath = \"/bad\"\npool = \"gone\"\n\
         [pool.app]\nendpoints = [\"{}\"]\n[pool.gone]\nendpoints = [\"{}\"]\n",
        origin.address(),
        gone.address()
    );
    let proxy = Proxy::start_in(folder.path(), &toml);
    let mut client = proxy.connect();
    for (request, status) in [
        (
            "POST /good HTTP/1.1\r\nHost: test\r\nUser-Agent: \"q\"\\\u{1F600}\r\nX-Request-Id: abc\r\nContent-Length: 3\r\n\r\nxyz",
            200,
        ),
        ("GET /bad HTTP/1.1\r\nHost: test\r\n\r\n", 502),
        ("GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n", 404),
        ("GET /good?\u{7f} HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    ] {
        client.send(request);
        assert_eq!(client.response().status(), status, "{request}");
    }
    let lines = wait_for_lines(&folder.path().join("access.log"), 4);
    let lines: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let endpoint = origin.address().to_string();
    for (key, value) in [
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("target", "/good"),
        ("version", "HTTP/1.1"),
        ("host", "test"),
        ("user_agent", "\"q\"\\\u{1F600}"),
        ("request_id", "abc"),
        ("listener", "web"),
        ("route", "good"),
        ("pool", "app"),
        ("endpoint", &endpoint),
    ] {
        assert_eq!(lines[0][key], value, "{key}");
    }
    assert_eq!(lines[0]["status"], 200);
    assert_eq!((&lines[0]["sent_bytes"], &lines[0]["received_bytes"]), (&5.into(), &3.into()));
    assert!(lines[0]["duration_seconds"].as_f64() >= lines[0]["first_byte_seconds"].as_f64());
    assert_eq!((&lines[1]["status"], &lines[1]["error"]), (&502.into(), &"connection_refused".into()));
    assert_eq!(lines[1]["endpoint"], gone.address().to_string());
    assert_eq!((&lines[2]["status"], &lines[2]["route"]), (&404.into(), &Value::Null));
    assert_eq!(lines[3]["status"], 400);
    let written = || proxy.metrics().sum("forebay_access_log_lines_total", &[("listener", "web")]);
    eventually("the count of lines", || written() == 4.0);
}

#[test]
fn a_rotated_file_is_opened_anew_on_sigusr1() {
    let origin = answers("hello");
    let log = "{ format = \"json\", path = \"access.log\" }";
    let process = Process::run_with(&config(origin.address(), log), &["--workers", "2"]);
    let (path, old) = (process.folder().join("access.log"), process.folder().join("access.log.1"));
    let ask = |target: &str| {
        let mut client = process.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.response().status(), 200);
    };
    ask("/before");
    wait_for_lines(&path, 1);
    fs::rename(&path, &old).expect("the file can be renamed");
    ask("/between");
    wait_for_lines(&old, 2);
    process.signal(Signal::USR1);
    eventually("a new file", || path.exists());
    ask("/after");
    assert!(wait_for_lines(&path, 1)[0].contains("/after"));
    let lines = lines_of(&old);
    assert!(lines.len() == 2 && lines[0].contains("/before") && lines[1].contains("/between"), "{lines:?}");
}

/// A pipe by this name, and its reading end.
fn pipe(path: &Path) -> File {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe can be made");
    // Opened for both, it neither waits for a writer nor sees an end.
    OpenOptions::new().read(true).write(true).open(path).expect("and opened")
}

#[test]
fn a_stalled_log_loses_lines_and_counts_them_but_slows_no_request() {
    let origin = answers("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let reader = pipe(&folder.path().join("access.log"));
    let log = "{ format = \"json\", path = \"access.log\", queue = 20 }";
    let proxy = Proxy::start_in(folder.path(), &config(origin.address(), log));
    let total = 1000;
    let mut client = proxy.connect();
    let mut slowest = std::time::Duration::ZERO;
    for _ in 0..total {
        let start = ambient::now();
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest.as_secs() < 2, "{slowest:?}");
    let count = |name: &str| {
        let lines = proxy.metrics().sum(&format!("forebay_access_log_{name}_total"), &[("listener", "web")]);
        lines as usize
    };
    assert!(count("lines_lost") > 100, "{} lost", count("lines_lost"));
    // Once somebody reads, every line was either written or counted as lost.
    let (sender, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    eventually("every line is accounted for", || count("lines") + count("lines_lost") == total);
    let written = count("lines");
    for _ in 0..written {
        let line = read.recv_timeout(DEADLINE).expect("what was written can be read");
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
    assert!(read.try_recv().is_err(), "more lines than were counted");
}

#[test]
fn a_stalled_log_does_not_hold_up_the_end() {
    let origin = answers("hello");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let _reader = pipe(&folder.path().join("access.log"));
    let toml = config(origin.address(), "{ format = \"json\", path = \"access.log\" }");
    fs::write(folder.path().join("f.toml"), format!("{toml}[admin]\nbind = \"127.0.0.1:0\"\n"))
        .expect("and written to");
    let mut process = Process::spawn(folder.path(), &["run", "-c", "f.toml"]);
    process.wait_until_up();
    let mut client = process.connect();
    for _ in 0..1000 {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
    }
    drop(client);
    process.signal(Signal::TERM);
    assert!(process.wait().success(), "{}", process.err());
}

#[test]
fn lines_are_written_before_the_end() {
    let origin = answers("hello");
    let log = "{ format = \"text\", path = \"access.log\" }";
    let mut process = Process::run(&config(origin.address(), log));
    let mut client = process.connect();
    for _ in 0..50 {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
    }
    drop(client);
    process.signal(Signal::TERM);
    assert!(process.wait().success());
    assert_eq!(lines_of(&process.folder().join("access.log")).len(), 50);
}
