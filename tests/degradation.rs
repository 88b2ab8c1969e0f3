//! The ladder of degradation over real sockets: what stands in for a pool that fails, in which order,
//! when requests begin there and when they come back, and what is kept for bad times.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use support::*;

/// An origin whose answer can be changed while it runs; with none, it closes connections.
#[derive(Clone, Default)]
struct Moody(Arc<Mutex<Option<String>>>);

impl Moody {
    fn says(response: &str) -> Self {
        let moody = Self::default();
        moody.say(response);
        moody
    }

    fn say(&self, response: &str) {
        *self.0.lock().unwrap() = Some(response.to_owned());
    }

    fn die(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn origin(&self) -> Origin {
        let moody = self.clone();
        Origin::run(move |conn| {
            while let Some(request) = conn.request() {
                let Some(response) = moody.0.lock().unwrap().clone() else { return };
                let (head, body) = response.split_once("\r\n\r\n").unwrap();
                let body = if request.method() == "HEAD" { "" } else { body };
                if !conn.send(format!("{head}\r\n\r\n{body}")) {
                    return;
                }
            }
        })
    }
}

/// A response with these fields.
fn with(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

/// A proxy with pools `app` and `spare` before these origins, which ejects nobody.
fn in_front_of(app: &Origin, spare: &Origin, degradation: &str) -> Proxy {
    Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.spare]\nendpoints = [\"{}\"]\noutlier = \"off\"\n\
         [pool.app]\nendpoints = [\"{}\"]\noutlier = \"off\"\n[pool.app.degradation]\n{degradation}\n",
        spare.address(),
        app.address()
    ))
}

/// A ladder on which requests begin at the pool itself, whatever happens.
fn ladder(rungs: &str) -> String {
    format!("ladder = [{rungs}]\nrequests = 1000000")
}

const STALE: &str = "{ stale = { max_age = \"1h\" } }";
const FIXED: &str =
    "{ respond = { status = 418, body = \"later\", content_type = \"text/x\", headers = { X-A = \"1\" } } }";
const BROKEN: &str = "HTTP/1.1 503 Service Unavailable\r\nX-Own: 1\r\nContent-Length: 6\r\n\r\nbroken";

/// Sends a request with these fields, and a body, on a connection of its own.
fn ask(proxy: &Proxy, line: &str, fields: &str, body: &str) -> Message {
    let mut client = proxy.connect();
    client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}"));
    client.response_to(line.split(" ").next().unwrap())
}

/// Who answered: the field that says so, and the body.
fn who(answer: &Message) -> (Option<&str>, String) {
    (answer.field("forebay-degraded"), answer.text())
}

fn degraded(proxy: &Proxy, rung: &str) -> f64 {
    proxy.metrics().sum("forebay_degraded_total", &[("pool", "app"), ("rung", rung)])
}

fn rung(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("forebay_pool_rung", &[("pool", "app")])
}

/// What the journal has, by name.
fn journal(proxy: &Proxy, event: &str) -> Vec<Value> {
    let journal = proxy.ask_admin("/journal").text();
    let entries = journal.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["event"] == event).collect()
}

#[test]
fn rungs_answer_in_order() {
    let (app, spare) = (Moody::says(&ok("app")), Moody::says(&ok("spare")));
    let origins = (app.origin(), spare.origin());
    let rungs = format!("{{ pool = \"spare\" }}, {STALE}, {FIXED}");
    let proxy = in_front_of(&origins.0, &origins.1, &ladder(&rungs));
    assert_eq!(who(&proxy.get("/")), (None, "app".into()));

    app.die();
    assert_eq!(who(&proxy.get("/")), (Some("pool=spare"), "spare".into()));
    spare.die();
    let stale = proxy.get("/");
    assert_eq!(who(&stale), (Some("stale"), "app".into()));
    let age: u32 = stale.field("age").unwrap().parse().unwrap();
    assert!(stale.status() == 200 && age < 60, "{}", stale.head);
    let ttl = if age == 0 { "0".to_owned() } else { format!("-{age}") };
    assert_eq!(stale.field("cache-status"), Some(&*format!("forebay; hit; ttl={ttl}")));
    let fixed = proxy.get("/other");
    assert_eq!(who(&fixed), (Some("fixed"), "later".into()));
    assert_eq!(
        (fixed.status(), fixed.field("x-a"), fixed.field("content-type")),
        (418, Some("1"), Some("text/x"))
    );
    assert_eq!(["pool=spare", "stale", "fixed"].map(|rung| degraded(&proxy, rung)), [1.0; 3]);
    assert_eq!(rung(&proxy), 0.0);
}

#[test]
fn an_endpoint_that_says_it_is_broken_is_stood_in_for_and_others_are_not() {
    let (app, spare) = (Moody::says(BROKEN), Moody::says(&ok("spare")));
    let origins = (app.origin(), spare.origin());
    let proxy = in_front_of(&origins.0, &origins.1, &ladder("{ pool = \"spare\" }"));
    assert_eq!(who(&proxy.get("/")), (Some("pool=spare"), "spare".into()));
    for status in ["500 Internal Server Error", "404 Not Found", "429 Too Many Requests"] {
        app.say(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(who(&proxy.get("/")).0, None, "{status}");
    }
    // Where nobody has a better answer, the client gets that of the pool.
    app.say(BROKEN);
    spare.die();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.field("x-own"), answer.text()), (503, Some("1"), "broken".into()));
    assert_eq!(answer.field("forebay-degraded"), None);
    app.die();
    let answer = proxy.get("/");
    assert_eq!((answer.status(), answer.field("forebay-degraded")), (502, None));
    assert!(answer.field("proxy-status").unwrap().contains("pool app"), "{}", answer.head);
}

#[test]
fn requests_begin_on_the_rung_and_come_back_after_trials() {
    let (app, spare) = (Moody::says(&ok("app")), Moody::says(&ok("spare")));
    let origins = (app.origin(), spare.origin());
    let proxy = in_front_of(
        &origins.0,
        &origins.1,
        &format!(
            "ladder = [{{ pool = \"spare\" }}, {FIXED}]\nrequests = 5\nleave_after = \"1s\"\ntrials = \"0%\""
        ),
    );
    assert_eq!(who(&proxy.get("/")).0, None);
    app.die();
    eventually("it goes down", || {
        assert_eq!(who(&proxy.get("/")), (Some("pool=spare"), "spare".into()));
        rung(&proxy) == 1.0
    });
    let down = journal(&proxy, "ladder_down").into_iter().next().unwrap();
    assert_eq!(
        (&down["from"], &down["to"], &down["pool"]),
        (&"own".into(), &"pool=spare".into(), &"app".into())
    );
    assert!(down["share"].as_f64().unwrap() >= 0.5 && down["requests"].as_u64().unwrap() >= 5, "{down}");
    assert!(down["words"].as_str().unwrap().starts_with("degraded to pool=spare: "), "{down}");

    // One trial a second at most, and none of them is seen by clients.
    let before = origins.0.requests().len();
    for _ in 0..200 {
        assert_eq!(who(&proxy.get("/")), (Some("pool=spare"), "spare".into()));
    }
    assert!(origins.0.requests().len() <= before + 60, "the pool is spared");

    // The next rung, where the spare fails too.
    spare.die();
    eventually("it goes further down", || {
        assert_eq!(who(&proxy.get("/")), (Some("fixed"), "later".into()));
        rung(&proxy) == 2.0
    });

    app.say(&ok("app"));
    spare.say(&ok("spare"));
    let since = forebay::ambient::now();
    eventually("it comes back", || {
        let answer = proxy.get("/");
        assert!(answer.status() == 200 || answer.status() == 418);
        rung(&proxy) == 0.0
    });
    assert!(since.elapsed() >= Duration::from_millis(900), "not before its time");
    let up = journal(&proxy, "ladder_up");
    assert_eq!(up.last().unwrap()["to"], "own");
    assert!(up.last().unwrap()["lasted_seconds"].as_f64().unwrap() >= 1.0, "{up:?}");
    for _ in 0..20 {
        assert_eq!(who(&proxy.get("/")), (None, "app".into()));
    }
}

#[test]
fn a_pool_without_endpoints_is_left_at_once() {
    let spare = answers("spare");
    let refusing = refuses();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.spare]\nendpoints = [\"{}\"]\n\
         [pool.app]\nendpoints = [\"{}\"]\nfail_open = \"fail\"\n\
         [pool.app.health]\nkind = \"tcp\"\ninterval = \"100ms\"\n\
         [pool.app.degradation]\nladder = [{{ pool = \"spare\" }}]\n",
        spare.address(),
        refusing.address(),
    ));
    eventually("it goes down", || rung(&proxy) == 1.0);
    assert_eq!(who(&proxy.get("/")), (Some("pool=spare"), "spare".into()));
    assert_eq!(journal(&proxy, "ladder_down")[0]["cause"], "unavailable");
}

#[test]
fn what_must_not_be_kept_is_not() {
    let app = Moody::default();
    let (origin, spare) = (app.origin(), answers(""));
    let proxy = in_front_of(&origin, &spare, &ladder(STALE));
    let cases = [
        ("GET", "", "", true),
        ("GET", "", "Cache-Control: private\r\n", false),
        ("GET", "", "Cache-Control: no-store\r\n", false),
        ("GET", "", "Cache-Control: no-cache\r\n", false),
        ("GET", "", "Cache-Control: must-revalidate\r\n", false),
        ("GET", "", "Cache-Control: max-age=60, must-revalidate\r\n", true),
        ("GET", "", "Cache-Control: s-maxage=0\r\n", false),
        ("GET", "", "Cache-Control: stale-if-error=0\r\nAge: 1\r\n", false),
        ("GET", "", "Vary: *\r\n", false),
        ("GET", "", "Vary: Accept\r\n", true),
        ("GET", "", "Set-Cookie: a=b\r\n", false),
        ("GET", "Authorization: Basic eA==\r\n", "", false),
        ("GET", "Authorization: Basic eA==\r\n", "Cache-Control: public\r\n", true),
        ("GET", "Cookie: a=b\r\n", "", false),
        ("GET", "Cache-Control: no-store\r\n", "", false),
        ("GET", "Content-Length: 2\r\n", "", false),
        ("POST", "Content-Length: 2\r\n", "", false),
        ("PUT", "Content-Length: 2\r\n", "", false),
    ];
    for (number, (method, asked, answered, kept)) in cases.into_iter().enumerate() {
        let body = if asked.starts_with("Content-Length") { "ab" } else { "" };
        app.say(&with(answered, "good"));
        assert_eq!(ask(&proxy, &format!("{method} /{number}"), asked, body).text(), "good");
        app.die();
        let answer = proxy.get(&format!("/{number}"));
        assert_eq!(answer.status() == 200, kept, "{method} / {asked} / {answered}: {}", answer.head);
    }
}

#[test]
fn a_kept_response_answers_what_it_was_made_for() {
    let app = Moody::says(&with("ETag: \"x\"\r\nVary: Accept\r\nContent-Type: text/y\r\n", "good"));
    let (origin, spare) = (app.origin(), answers(""));
    let proxy = in_front_of(&origin, &spare, &ladder(&format!("{STALE}, {FIXED}")));
    assert_eq!(ask(&proxy, "GET /a?b", "Accept: one\r\n", "").text(), "good");
    app.die();
    let status = |line: &str, fields: &str, body: &str| ask(&proxy, line, fields, body).status();
    assert_eq!(status("GET /a?b", "Accept: one\r\n", ""), 200);
    assert_eq!(status("GET /a?b", "Accept: two\r\n", ""), 418);
    assert_eq!(status("GET /a", "Accept: one\r\n", ""), 418);
    assert_eq!(status("POST /a?b", "Accept: one\r\nContent-Length: 2\r\n", "ab"), 418);
    assert_eq!(status("GET /a?b", "Accept: one\r\nCache-Control: no-cache\r\n", ""), 418);

    let head = ask(&proxy, "HEAD /a?b", "Accept: one\r\n", "");
    assert_eq!((head.status(), head.field("content-length")), (200, Some("4")));
    let same = ask(&proxy, "GET /a?b", "Accept: one\r\nIf-None-Match: \"x\"\r\n", "");
    assert_eq!((same.status(), same.field("etag"), same.field("content-type")), (304, Some("\"x\""), None));

    // An unsafe request that succeeded may have changed what is there.
    app.say(&ok("changed"));
    assert_eq!(status("DELETE /a?b", "", ""), 200);
    app.die();
    assert_eq!(status("GET /a?b", "Accept: one\r\n", ""), 418);
}

#[test]
fn a_response_that_breaks_off_is_not_kept() {
    let app = Moody::says("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
    let origin = {
        let app = app.clone();
        Origin::run(move |conn| {
            if conn.request().is_some() {
                let response = app.0.lock().unwrap().clone().unwrap_or_default();
                conn.send(response);
            }
        })
    };
    let spare = answers("");
    let proxy = in_front_of(&origin, &spare, &ladder(&format!("{STALE}, {FIXED}")));
    for (path, response, kept) in [
        ("/short", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234", false),
        ("/chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n", false),
        ("/close", "HTTP/1.1 200 OK\r\n\r\n01234", false),
        ("/whole", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n", true),
    ] {
        app.say(response);
        let mut client = proxy.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        let _ = client.rest();
        app.die();
        assert_eq!(proxy.get(path).status() == 200, kept, "{path}");
    }
}

#[test]
fn memory_is_bounded_under_many_keys() {
    let body = "x".repeat(4000);
    let app = Moody::says(&ok(&body));
    let (origin, spare) = (app.origin(), answers(""));
    let rungs = format!("{{ stale = {{ memory = \"64KiB\", max_body = \"8KiB\" }} }}, {FIXED}");
    let proxy = in_front_of(&origin, &spare, &ladder(&rungs));
    let mut client = proxy.connect();
    for number in 0..200 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.response().text(), body);
    }
    let kept = || proxy.metrics().sum("forebay_kept_bytes", &[("pool", "app")]);
    eventually("it is shown", || kept() > 0.0);
    assert!(kept() <= 64.0 * 1024.0, "{}", kept());
    app.say(&ok(&"y".repeat(9000)));
    assert_eq!(proxy.get("/large").status(), 200);
    app.die();
    let held = (0..200).filter(|number| proxy.get(&format!("/{number}")).status() == 200).count();
    assert!((5..20).contains(&held), "{held}");
    assert_eq!(proxy.get("/199").text(), body, "the latest are kept");
    assert_eq!(proxy.get("/large").status(), 418);
}

#[test]
fn a_request_goes_to_another_pool_where_it_may_be_repeated() {
    let spare = echoes();
    let refusing = refuses();
    let dead = Moody::default();
    let origin = dead.origin();
    for (endpoint, method, retry, rung) in [
        (refusing.address(), "POST", "", "pool=spare"),
        (origin.address(), "POST", "", "fixed"),
        (origin.address(), "PUT", "", "pool=spare"),
        (origin.address(), "POST", "retry.non_idempotent = true", "pool=spare"),
        (origin.address(), "PUT", "retry.body = \"2B\"", "fixed"),
    ] {
        let proxy = Proxy::start(&format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.spare]\nendpoints = [\"{}\"]\n\
             [pool.app]\nendpoints = [\"{endpoint}\"]\n{retry}\n[pool.app.degradation]\n{}\n",
            spare.address(),
            ladder(&format!("{{ pool = \"spare\" }}, {FIXED}"))
        ));
        let answer = ask(&proxy, &format!("{method} /"), "Content-Length: 3\r\n", "abc");
        assert_eq!(answer.field("forebay-degraded"), Some(rung), "{method} {retry}");
        assert_eq!(answer.text(), if rung == "fixed" { "later" } else { "abc" });
    }
}

#[test]
fn ladders_of_stand_ins_go_on_from_there() {
    let (dead, last) = (Moody::default(), answers("last"));
    let origin = dead.origin();
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{0}\"]\ndegradation.ladder = [{{ pool = \"spare\" }}, {FIXED}]\n\
         [pool.spare]\nendpoints = [\"{0}\"]\ndegradation.ladder = [{{ pool = \"last\" }}]\n\
         [pool.last]\nendpoints = [\"{1}\"]\n",
        origin.address(),
        last.address()
    ));
    assert_eq!(who(&proxy.get("/")), (Some("pool=last"), "last".into()));
}

#[test]
fn clients_of_http2_get_the_same() {
    let app = Moody::says(&ok("app"));
    let (origin, spare) = (app.origin(), answers("spare"));
    let proxy = in_front_of(&origin, &spare, &ladder(&format!("{STALE}, {{ pool = \"spare\" }}")));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address("web")).await.unwrap();
        let (send, connection) = h2::client::handshake(tcp).await.unwrap();
        let mut driven = tokio::task::JoinSet::new();
        driven.spawn(connection);
        for (path, rung, body) in
            [("/", None, "app"), ("/", Some("stale"), "app"), ("/new", Some("pool=spare"), "spare")]
        {
            let request = http::Request::get(format!("http://test{path}")).body(()).unwrap();
            let mut send = send.clone().ready().await.unwrap();
            let (response, _) = send.send_request(request, true).unwrap();
            let response = tokio::time::timeout(DEADLINE, response).await.unwrap().unwrap();
            let found =
                response.headers().get("forebay-degraded").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(found.as_deref(), rung, "{path}");
            let mut data = response.into_body();
            let mut whole = Vec::new();
            while let Some(piece) = data.data().await {
                let piece: Bytes = piece.unwrap();
                let _ = data.flow_control().release_capacity(piece.len());
                whole.extend_from_slice(&piece);
            }
            assert_eq!(whole, body.as_bytes(), "{path}");
            app.die();
        }
    });
}

#[test]
fn the_log_says_what_failed_and_who_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, spare) = (Moody::default(), answers("spare"));
    let origin = dead.origin();
    let proxy = Proxy::start_in(
        folder.path(),
        &format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
             access_log = {{ path = \"log\", format = \"json\" }}\n[[route]]\npool = \"app\"\n\
             [pool.spare]\nendpoints = [\"{}\"]\n[pool.app]\nendpoints = [\"{}\"]\n\
             [pool.app.degradation]\n{}\n",
            spare.address(),
            origin.address(),
            ladder("{ pool = \"spare\" }")
        ),
    );
    assert_eq!(proxy.get("/").text(), "spare");
    let read = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    eventually("a line", || read().ends_with('\n'));
    let line: Value = serde_json::from_str(read().trim()).unwrap();
    assert_eq!((&line["pool"], &line["status"]), (&"spare".into(), &200.into()), "{line}");
    assert_eq!(line["error"], "connection_terminated", "{line}");
    assert!(line["details"].as_str().unwrap().ends_with("; degraded to pool=spare"), "{line}");
}

#[test]
fn a_request_that_times_out_gets_what_is_at_hand() {
    let (silent, spare) = (never_answers(), answers("spare"));
    let proxy = Proxy::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\npool = \"app\"\ntimeouts.request = \"100ms\"\n\
         [pool.spare]\nendpoints = [\"{}\"]\n\
         [pool.app]\nendpoints = [\"{}\"]\n[pool.app.degradation]\n{}\n",
        spare.address(),
        silent.address(),
        ladder(&format!("{{ pool = \"spare\" }}, {FIXED}"))
    ));
    assert_eq!(who(&proxy.get("/")), (Some("fixed"), "later".into()));
    assert!(spare.requests().is_empty(), "there is no time for it");
}
