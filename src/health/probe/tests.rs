//! Every kind of check as it is configured, against answers that come in pieces, and against bytes
//! that are no answer at all.

use std::sync::Arc;

use super::{Call, Check, Judgement, KINDS, Probe};
use crate::model::options::{Data, Key, Options, Sink, Value};
use crate::model::settings::UpstreamProtocol;

/// The check that `toml` describes.
pub(super) fn check(toml: &str) -> (Option<Check>, Vec<String>) {
    let Data::Table(entries) = written(&toml::Value::Table(toml.parse().unwrap())).data else {
        unreachable!("a document is a table")
    };
    let sink = Sink::default();
    let options = Options::root(&entries, &sink);
    let kind = options.require::<String>("kind").unwrap();
    let kind = KINDS.iter().find(|known| known.name == kind).unwrap();
    let check = (kind.read)(&options, UpstreamProtocol::Http1);
    options.finish();
    let (problems, known) = sink.into_parts();
    for key in known.iter().filter(|key| *key != "kind") {
        let first = key.split('.').next().unwrap();
        assert!(kind.keys.contains(&first), "{first} is not among the keys of {}", kind.name);
    }
    (check, problems.iter().map(|problem| format!("{}: {}", problem.path, problem.fault)).collect())
}

fn written(value: &toml::Value) -> Value {
    let data = match value {
        toml::Value::String(text) => Data::String(text.clone()),
        toml::Value::Integer(number) => Data::Integer(*number),
        toml::Value::Boolean(flag) => Data::Boolean(*flag),
        toml::Value::Array(items) => Data::Array(items.iter().map(written).collect()),
        toml::Value::Table(table) => {
            let entry = |(name, value): (&String, &toml::Value)| {
                (Key { name: name.clone(), span: 0..0 }, written(value))
            };
            Data::Table(table.iter().map(entry).collect())
        }
        _ => Data::Broken,
    };
    Value::new(0..0, data)
}

pub(super) fn faults(toml: &str) -> Vec<String> {
    check(toml).1
}

#[track_caller]
pub(super) fn probe(toml: &str) -> Arc<dyn Probe> {
    match check(toml) {
        (Some(Check::Bytes(probe)), faults) if faults.is_empty() => probe,
        other => panic!("{toml}: {other:?}"),
    }
}

#[track_caller]
pub(super) fn call(toml: &str) -> Arc<dyn Call> {
    match check(toml) {
        (Some(Check::Call(call)), faults) if faults.is_empty() => call,
        other => panic!("{toml}: {other:?}"),
    }
}

/// `Ok` of whether there is a verdict, which is good; or the words of a bad one.
pub(super) fn answer(probe: &dyn Probe, received: &[u8], closed: bool) -> Result<bool, String> {
    match probe.judge(received, closed) {
        Judgement::More => Ok(false),
        Judgement::Pass => Ok(true),
        Judgement::Fail(why) => Err(why),
    }
}

/// Feeds `received` byte by byte: a verdict that came once stays, and there is one at the end.
#[track_caller]
pub(super) fn fed(probe: &dyn Probe, received: &[u8]) -> Result<bool, String> {
    let mut verdict = Ok(false);
    for end in 0..=received.len() {
        let now = answer(probe, &received[..end], false);
        if verdict == Ok(false) {
            verdict = now;
        } else {
            assert_eq!(verdict.is_ok(), now.is_ok(), "{}", received[..end].escape_ascii());
        }
    }
    if verdict == Ok(false) {
        verdict = answer(probe, received, true);
        assert_ne!(verdict, Ok(false), "no verdict of {}", received.escape_ascii());
    }
    verdict
}

/// Up to `most` bytes by a linear congruential generator (Knuth, MMIX).
pub(super) fn random_bytes(seed: u64, most: u64) -> Vec<u8> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    draw();
    (0..draw() % (most + 1)).map(|_| u8::try_from(draw() & 0xff).unwrap()).collect()
}

#[test]
fn an_http_request_says_who_asks() {
    let hello = |toml: &str| String::from_utf8(probe(toml).hello("10.0.0.1:80").unwrap().to_vec()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        hello("kind = \"http\""),
        format!(
            "GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nuser-agent: forebay-check/{version}\r\nConnection: close\r\n\r\n"
        )
    );
    assert_eq!(
        hello(
            "kind = \"http\"\nmethod = \"POST\"\npath = \"/a?b=c\"\nhost = \"app.example\"\n\
             headers = { X-Ask = \"yes\", User-Agent = \"me\" }"
        ),
        "POST /a?b=c HTTP/1.1\r\nHost: app.example\r\nuser-agent: me\r\nx-ask: yes\r\n\
         content-length: 0\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn an_http2_request_says_the_same() {
    let call = call("kind = \"http\"\nprotocol = \"http2\"\npath = \"/a\"\nheaders = { x-ask = \"yes\" }");
    let (request, body) = call.request("10.0.0.1:80", true);
    assert_eq!((request.uri().to_string(), body.len()), ("https://10.0.0.1:80/a".to_owned(), 0));
    assert_eq!(request.headers()["x-ask"], "yes");
    let (head, ()) = ::http::Response::builder().status(404).body(()).unwrap().into_parts();
    assert_eq!(call.judge(&head, b"", None), Judgement::Fail("status 404, expected 200-399".to_owned()));
}

#[test]
fn http_answers_are_judged_by_status() {
    for (status, answered, verdict) in [
        ("", "HTTP/1.1 200 OK\r\n\r\n", Ok(true)),
        ("", "HTTP/1.1 302 Found\r\n\r\n", Ok(true)),
        ("", "HTTP/1.0 200\r\n\r\n", Ok(true)),
        ("", "HTTP/1.1 503 Busy\r\n\r\n", Err("status 503, expected 200-399")),
        ("status = [204, \"4xx\"]", "HTTP/1.1 404 No\r\n\r\n", Ok(true)),
        ("status = [204, \"4xx\"]", "HTTP/1.1 200 OK\r\n\r\n", Err("status 200, expected 204, 4xx")),
        ("", "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Ok(true)),
        ("", "HTTP/1.1 101 Switching\r\n\r\n", Err("status 101, expected 200-399")),
        ("", "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Err("the answer \"S\" is not HTTP/1")),
        ("", "HTTP/1.1 200 OK\r\nContent-Le", Err("the answer ends within its head")),
        ("", "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", Err("the answer is not HTTP: malformed field name")),
    ] {
        let probe = probe(&format!("kind = \"http\"\n{status}"));
        assert_eq!(fed(&*probe, answered.as_bytes()), verdict.map_err(str::to_owned), "{answered:?}");
    }
}

#[test]
fn http_bodies_are_judged_however_they_come() {
    const TEXT: &str = "body = \"ok\"";
    const REGEX: &str = "body = { regex = '(?m)^state: (up|degraded)$' }";
    let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let exact = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (wanted, answered, verdict) in [
        (TEXT, exact("all ok here"), Ok(true)),
        (TEXT, exact("all bad"), Err("body lacks \"ok\"")),
        (TEXT, exact(""), Err("body lacks \"ok\"")),
        (TEXT, chunked("1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), Ok(true)),
        (TEXT, chunked("2\r\nno\r\n0\r\n\r\n"), Err("body lacks \"ok\"")),
        (TEXT, chunked("2\r\nno\r\n"), Err("the answer ends within its body")),
        (TEXT, chunked("zz\r\n"), Err("the answer is not HTTP: malformed chunk")),
        (TEXT, "HTTP/1.1 200 OK\r\n\r\nit is ok".into(), Ok(true)),
        (TEXT, "HTTP/1.1 200 OK\r\n\r\nit is not".into(), Err("body lacks \"ok\"")),
        (
            TEXT,
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno".into(),
            Err("the answer ends within its body"),
        ),
        (TEXT, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok".into(), Err("status 503, expected 200-399")),
        (REGEX, exact("id: 1\nstate: up\nage: 2"), Ok(true)),
        (REGEX, exact("state: up"), Ok(true)),
        (REGEX, exact("state: upside down"), Err("body lacks /(?m)^state: (up|degraded)$/")),
    ] {
        let probe = probe(&format!("kind = \"http\"\n{wanted}"));
        assert_eq!(fed(&*probe, answered.as_bytes()), verdict.map_err(str::to_owned), "{answered:?}");
    }
}

#[test]
fn only_so_much_of_a_body_is_searched() {
    let probe = probe("kind = \"http\"\nbody = \"ok\"");
    let lacks = Err("the first 64 KiB of the body lack \"ok\"".to_owned());
    let long = format!("{}ok", "-".repeat(65_536));
    let exact = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len());
    assert_eq!(answer(&*probe, exact.as_bytes(), false), lacks);
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n{long}");
    assert_eq!(answer(&*probe, chunked.as_bytes(), false), lacks);
}

#[test]
fn no_bytes_make_a_probe_panic() {
    let probes = [
        probe("kind = \"tcp\"\nexpect = \"+PONG\""),
        probe("kind = \"http\""),
        probe("kind = \"http\"\nbody = \"ok\""),
        probe("kind = \"http\"\nbody = { regex = \"o+k\" }"),
    ];
    for seed in 0..500 {
        let mut bytes = match seed % 3 {
            0 => Vec::new(),
            1 => b"HTTP/1.1 200 OK\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        };
        bytes.extend(random_bytes(seed, 64));
        for probe in &probes {
            let _ = fed(&**probe, &bytes);
        }
    }
}

#[test]
fn what_cannot_be_asked_is_named() {
    for (options, fault) in [
        ("path = \"healthz\"", "path: \"healthz\" is not a path"),
        ("path = \"/a b\"", "path: \"/a b\" cannot be sent as a path"),
        ("path = \"/a#b\"", "path: \"/a#b\" cannot be sent as a path"),
        ("host = \"a b\"", "host: \"a b\" is not a host, with or without a port"),
        ("host = \"me@a\"", "host: \"me@a\" is not a host, with or without a port"),
        ("status = []", "status: no status would do"),
        ("status = \"up\"", "status: \"up\" is no status"),
        ("method = \"get\"", "method: \"get\" is not a method: methods tell case apart"),
        ("method = \"CONNECT\"", "method: CONNECT asks for a tunnel, not for an answer"),
        ("method = \"HEAD\"\nbody = \"ok\"", "body: an answer to HEAD has no body"),
        ("body = { regex = \"a(\" }", "body.regex: \"a(\" is not a regular expression: unclosed group"),
        ("headers = { Host = \"a\" }", "headers.Host: the host has a key of its own"),
        ("headers = { Content-Length = \"1\" }", "headers.Content-Length: a check sends no body"),
        (
            "headers = { Connection = \"close\" }",
            "headers.Connection: it concerns the connection, and is written by itself",
        ),
        ("protocol = \"http3\"", "protocol: there is no upstream protocol `http3`"),
        ("service = \"a\"", "service: unknown key `service`"),
    ] {
        assert_eq!(faults(&format!("kind = \"http\"\n{options}")), [fault]);
    }
}
