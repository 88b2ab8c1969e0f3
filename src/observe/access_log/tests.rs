use std::fs;
use std::io::{PipeReader, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use http::Version;
use regex::bytes::Regex;

use super::line::Stamp;
use super::*;
use crate::ambient;
use crate::model::settings::{Facility, Syslog, SyslogPeer};
use crate::trace::TraceId;

pub(super) fn record() -> Record<'static> {
    Record {
        time: UNIX_EPOCH + Duration::from_millis(971_211_336_042),
        client: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        user: Some(b"frank"),
        method: "GET",
        target: b"/apache_pb.gif",
        version: Version::HTTP_10,
        host: Some(b"example.com"),
        referer: Some(b"http://www.example.com/start.html"),
        user_agent: Some(b"Mozilla/4.08 [en] (Win98; I ;Nav)"),
        request_id: Some(b"r-1"),
        trace_id: None,
        status: 200,
        sent: 2326,
        received: 0,
        duration: Duration::from_micros(1_500_250),
        first_byte: Some(Duration::from_micros(900)),
        listener: "web",
        route: Some("all"),
        pool: Some("app"),
        endpoint: Some("127.0.0.1:9001"),
        error: None,
        details: None,
        tries: 1,
        rung: None,
        cause: Cause::default(),
        tls_version: None,
        sni: None,
        passed: None,
    }
}

/// A record of a client that got nowhere and says nothing.
fn bare() -> Record<'static> {
    Record {
        client: None,
        user: None,
        method: "",
        target: b"",
        host: None,
        referer: None,
        user_agent: None,
        request_id: None,
        status: 400,
        sent: 0,
        first_byte: None,
        route: None,
        pool: None,
        endpoint: None,
        error: Some("http_request_error"),
        ..record()
    }
}

fn line(record: &Record<'_>, shape: &Shape) -> Vec<u8> {
    let mut line = Vec::new();
    shape.line(record, &mut Stamp::default(), &mut line);
    line
}

fn text(record: &Record<'_>) -> Vec<u8> {
    line(record, &Shape::new(LogFormat::Text, None, None))
}

fn json(record: &Record<'_>) -> serde_json::Value {
    let line = line(record, &Shape::new(LogFormat::Json, None, None));
    assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
    assert_eq!(line.last(), Some(&b'\n'));
    serde_json::from_slice(&line).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&line)))
}

#[test]
fn a_line_is_what_apache_would_write() {
    let expected = "127.0.0.1 - frank [10/Oct/2000:20:55:36 +0000] \"GET /apache_pb.gif HTTP/1.0\" 200 2326 \
                    \"http://www.example.com/start.html\" \"Mozilla/4.08 [en] (Win98; I ;Nav)\"\n";
    assert_eq!(String::from_utf8(text(&record())).unwrap(), expected);
    let expected = "- - - [10/Oct/2000:20:55:36 +0000] \"-\" 400 - \"-\" \"-\"\n";
    assert_eq!(String::from_utf8(text(&bare())).unwrap(), expected);
}

#[test]
fn nothing_that_a_client_sends_breaks_a_line() {
    let hostile: Vec<u8> = (0..=255).chain(*b"\" 200 1 \"-\" \"-\"\n127.0.0.1 - - [").collect();
    let parser = Regex::new(
        r#"^[0-9.:a-f]+ - (\S+) \[[^\]]+\] "((?:[^"\\]|\\.)*)" \d{3} (?:\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n$"#,
    );
    let parser = parser.unwrap();
    let field = Some(hostile.as_slice());
    let record =
        Record { user: field, target: &hostile, referer: field, user_agent: field, host: field, ..record() };
    let line = text(&record);
    assert!(parser.is_match(&line), "{}", String::from_utf8_lossy(&line));
    assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    let shown = String::from_utf8(line).unwrap();
    assert!(
        shown.contains(r#"\x00\x01"#) && shown.contains(r"\b\t\n\v\x0c\r") && shown.contains(r"\x7f\x80")
    );

    let parsed = json(&record);
    let expected = String::from_utf8_lossy(&hostile);
    for key in ["user", "target", "referer", "user_agent", "host"] {
        assert_eq!(parsed[key], *expected, "{key}");
    }
}

#[test]
fn nothing_that_a_client_sends_orders_a_terminal_about() {
    let target = "/\u{9b}2J\u{80}\u{9f}\u{a0}\u{fc}\u{c2}".as_bytes();
    let record = Record { target, ..record() };
    let line = String::from_utf8(line(&record, &Shape::new(LogFormat::Json, None, None))).unwrap();
    assert!(line.contains("\"/\\u009b2J\\u0080\\u009f\u{a0}\u{fc}\u{c2}\""), "{line}");
    assert_eq!(json(&record)["target"].as_str().map(str::as_bytes), Some(target));
}

#[test]
fn an_object_has_every_key_and_null_for_what_is_not() {
    let (whole, bare) = (json(&record()), json(&bare()));
    assert_eq!(whole["time"], "2000-10-10T20:55:36.042Z");
    assert_eq!(whole["client"], "127.0.0.1");
    assert_eq!(whole["version"], "HTTP/1.0");
    assert_eq!(whole["sent_bytes"], 2326);
    assert_eq!(whole["duration_seconds"], 1.50025);
    assert_eq!(whole["first_byte_seconds"], 0.0009);
    assert_eq!(bare["error"], "http_request_error");
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&whole), keys(&bare));
    for key in ["client", "user", "method", "target", "version", "host", "first_byte_seconds", "pool", "sni"]
    {
        assert!(bare[key].is_null(), "{key}");
    }
}

#[test]
fn fields_are_those_that_were_chosen_in_their_order() {
    let fields = || Some(vec![LogField::Status, LogField::Client, LogField::Host, LogField::DurationSeconds]);
    let shown = |format, record: &Record<'_>| {
        String::from_utf8(line(record, &Shape::new(format, fields(), None))).unwrap()
    };
    let chosen = r#"{"status":200,"client":"127.0.0.1","host":"example.com","duration_seconds":1.500250}"#;
    assert_eq!(shown(LogFormat::Json, &record()), format!("{chosen}\n"));
    let pairs = "status=200 client=127.0.0.1 host=example.com duration_seconds=1.500250\n";
    assert_eq!(shown(LogFormat::Text, &record()), pairs);
    for (host, said) in [
        (None, "-"),
        (Some(&b""[..]), "\"\""),
        (Some(b"-"), "\"-\""),
        (Some(b"a b"), "\"a b\""),
        (Some(b"a=b\"\n"), "\"a=b\\\"\\n\""),
        (Some("\u{fc}".as_bytes()), "\"\\xc3\\xbc\""),
    ] {
        let line = shown(LogFormat::Text, &Record { host, ..record() });
        assert_eq!(line, pairs.replace("example.com", said));
    }
}

#[test]
fn causes_are_words_of_their_own() {
    let cause = Cause { timer: Some("try"), limit: None, closed_by: Some("forebay") };
    let trace_id = Some(TraceId::of(1, 2));
    let json = json(&Record { cause, tries: 3, rung: Some("stale"), trace_id, ..record() });
    assert_eq!(
        (&json["timer"], &json["limit"], &json["closed_by"]),
        (&"try".into(), &().into(), &"forebay".into())
    );
    assert_eq!((&json["tries"], &json["rung"]), (&3.into(), &"stale".into()));
    assert_eq!(json["trace_id"], "00000000000000010000000000000002");
}

#[test]
fn a_message_has_its_severity_and_where_it_is_from() {
    let to = SyslogPeer::Unix(PathBuf::from("/dev/log").into());
    let syslog = Syslog { to, facility: Facility::LOCAL0, app_name: "edge".to_owned() };
    let shape = Shape::new(LogFormat::Text, Some(vec![LogField::Status]), Some(&syslog));
    let pattern = r"^<(\d+)>1 2000-10-10T20:55:36\.042Z [!-~]+ edge \d+ access - status=(\d+)\n$";
    let pattern = Regex::new(pattern).unwrap();
    for (status, priority) in [(200, "134"), (404, "132"), (503, "131")] {
        let line = line(&Record { status, ..record() }, &shape);
        let found = pattern.captures(&line).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&line)));
        assert_eq!((&found[1], &found[2]), (priority.as_bytes(), status.to_string().as_bytes()));
    }
}

fn options(to: LogTarget, queue: usize, workers: usize) -> Options {
    let (format, lines) = (LogFormat::Text, Arc::default());
    Options { format, fields: None, sample: None, to, queue, workers, lines }
}

/// An open log in a directory of its own.
fn open(path: PathBuf, queue: usize, workers: usize) -> (AccessLog, Arc<LogLines>) {
    let options = options(LogTarget::File(path), queue, workers);
    let lines = Arc::clone(&options.lines);
    (AccessLog::open(options).unwrap(), lines)
}

/// Waits for what another thread does, ten seconds at most.
fn eventually(mut done: impl FnMut() -> bool) {
    let deadline = ambient::now() + Duration::from_secs(10);
    while !done() {
        assert!(ambient::now() < deadline, "it did not happen");
        thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn every_worker_finds_all_its_lines_in_order() {
    const WORKERS: usize = 4;
    const EACH: usize = 5_000;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("access.log");
    let (log, lines) = open(path.clone(), EACH, WORKERS);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let log = &log;
            scope.spawn(move || {
                for i in 0..EACH {
                    let target = format!("/{worker}/{i}");
                    let time = record().time + Duration::from_millis(i as u64);
                    log.write(Shard::worker(worker), &Record { target: target.as_bytes(), time, ..record() });
                }
            });
        }
    });
    assert!(log.close(Duration::from_secs(10)));
    let text = fs::read_to_string(path).unwrap();
    for worker in 0..WORKERS {
        let mine = text.lines().filter(|line| line.contains(&format!("GET /{worker}/")));
        let expected = (0..EACH).map(|i| format!("GET /{worker}/{i} HTTP"));
        assert_eq!(mine.clone().count(), EACH);
        assert!(mine.zip(expected).all(|(line, expected)| line.contains(&expected)));
    }
    assert!(text.contains(":20:55:36 +0000]") && text.contains(":20:55:37 +0000]"));
    assert_eq!((lines.written(), lines.lost()), ((WORKERS * EACH) as u64, 0));
}

#[test]
fn a_line_is_written_soon_and_to_the_new_file_after_rotation() {
    let home = tempfile::tempdir().unwrap();
    let (path, rotated) = (home.path().join("access.log"), home.path().join("access.log.1"));
    let (log, lines) = open(path.clone(), 100, 1);
    log.write(Shard::worker(0), &Record { target: b"/before", ..record() });
    eventually(|| lines.written() == 1);
    fs::rename(&path, &rotated).unwrap();
    log.write(Shard::worker(0), &Record { target: b"/meanwhile", ..record() });
    log.reopen();
    eventually(|| path.exists());
    log.write(Shard::worker(0), &Record { target: b"/after", ..record() });
    drop(log);
    let read = |path| fs::read_to_string(path).unwrap();
    assert!(read(&rotated).contains("/before") && read(&rotated).contains("/meanwhile"));
    assert!(read(&path).contains("/after") && read(&path).lines().count() == 1);
}

#[test]
fn a_file_that_cannot_be_reopened_leaves_the_old_one() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("logs").join("access.log");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let (log, lines) = open(path, 100, 1);
    fs::remove_dir_all(home.path().join("logs")).unwrap();
    log.reopen();
    log.write(Shard::worker(0), &record());
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!((lines.written(), lines.lost()), (1, 0));
}

#[test]
fn a_full_disk_loses_lines_and_says_how_many() {
    let (log, lines) = open("/dev/full".into(), 100, 1);
    for _ in 0..10 {
        log.write(Shard::worker(0), &record());
    }
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!((lines.written(), lines.lost()), (0, 10));
}

/// A log into a pipe that nobody reads.
fn stalled(queue: usize) -> (AccessLog, Arc<LogLines>, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let (log, lines) = open(format!("/dev/fd/{}", writer.as_raw_fd()).into(), queue, 1);
    (log, lines, reader)
}

#[test]
fn a_stalled_disk_stalls_no_worker() {
    const SENT: u64 = 10_000;
    let (log, lines, mut reader) = stalled(500);
    let began = ambient::now();
    for _ in 0..SENT {
        log.write(Shard::worker(0), &record());
    }
    assert!(ambient::now() - began < Duration::from_secs(5));
    // The pipe, the writer's batch and the queue together hold far fewer lines.
    assert!(lines.lost() > SENT / 2, "{}", lines.lost());
    assert!(!log.close(Duration::from_millis(10)));
    let read = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().count() as u64
    });
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!(lines.written() + lines.lost(), SENT);
    assert_eq!(read.join().unwrap(), lines.written());
}

#[test]
fn long_lines_fill_the_queue_sooner() {
    let (log, lines, _reader) = stalled(4);
    let target = vec![b'a'; 1 << 20];
    for _ in 0..100 {
        log.write(Shard::worker(0), &Record { target: &target, ..record() });
    }
    assert!(lines.lost() >= 90, "{}", lines.lost());
    assert!(!log.close(Duration::from_millis(1)));
}

#[test]
fn a_closed_log_counts_what_it_no_longer_takes() {
    let home = tempfile::tempdir().unwrap();
    let (log, lines) = open(home.path().join("access.log"), 10, 1);
    assert!(log.close(Duration::from_secs(10)) && log.close(Duration::ZERO));
    log.write(Shard::worker(0), &record());
    log.write(Shard::worker(9), &record());
    assert_eq!((lines.written(), lines.lost()), (0, 2));
}

#[test]
fn a_directory_is_no_log() {
    let home = tempfile::tempdir().unwrap();
    assert!(AccessLog::open(options(LogTarget::File(home.path().to_owned()), 10, 1)).is_err());
}

#[test]
fn a_panic_of_the_writer_loses_its_lines_and_nothing_else() {
    let lines = Arc::<LogLines>::default();
    let sink = Sink::new(Out::Broken, Arc::clone(&lines));
    let shape = Shape::new(LogFormat::Text, None, None);
    let log = AccessLog::start(shape, None, Backlogs::new(1, 100), (sink, Arc::clone(&lines))).unwrap();
    for round in 1..=3 {
        log.write(Shard::worker(0), &record());
        eventually(|| lines.lost() == round);
    }
    log.write(Shard::worker(0), &record());
    assert!(log.close(Duration::from_secs(10)));
    assert_eq!((lines.written(), lines.lost()), (0, 4));
}
