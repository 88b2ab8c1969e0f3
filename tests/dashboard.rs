//! The dashboard in a real browser, which `tests/browser` drives: what happens to endpoints is seen in the
//! page as it happens. What a story asks for is done here. Also what the page is made of, without a browser.

#[path = "support/mod.rs"]
mod support;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use support::*;

/// The programs that a story needs.
struct Stage {
    chromium: PathBuf,
    node: Peer,
}

/// The folder of the stories.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// The browser and what drives it; `None` when they are not installed.
fn stage() -> Option<Stage> {
    static DRIVER: OnceLock<()> = OnceLock::new();
    let (chromium, node, npm) = (peer("chromium")?, peer("node")?, peer("npm")?);
    DRIVER.get_or_init(|| {
        if !folder().join("node_modules/playwright-core").is_dir() {
            let mut install = npm.command();
            install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(folder());
            let done = install.output().expect("npm can be started");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    });
    Some(Stage { chromium: chromium.command().get_program().into(), node })
}

impl Stage {
    /// Plays a story at `admin`; `deed` is asked for what has to be done. What it wrote besides.
    #[track_caller]
    fn play(&self, story: &str, admin: SocketAddr, more: &[&str], mut deed: impl FnMut(&str)) -> String {
        let mut command = self.node.command();
        command.arg(folder().join(story)).arg(&self.chromium).arg(format!("http://{admin}/")).args(more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("node can be started");
        let mut input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut said = String::new();
        for line in output.lines().map_while(Result::ok) {
            match line.strip_prefix("please ") {
                Some(what) => {
                    deed(what);
                    // That it is not read any more is seen by how it ends.
                    let _ = writeln!(input, "done");
                }
                None => said += &(line + "\n"),
            }
        }
        let done = child.wait_with_output().expect("it ends");
        assert!(done.status.success(), "{story}: {said}{}", String::from_utf8_lossy(&done.stderr));
        said
    }
}

/// Requests to a listener, for as long as it is held.
struct Traffic(Arc<AtomicBool>, Option<thread::JoinHandle<()>>);

impl Traffic {
    /// About a hundred requests a second, whatever becomes of them.
    fn to(address: SocketAddr) -> Self {
        Self::of(address, "/")
    }

    /// The same for a path.
    fn of(address: SocketAddr, path: &str) -> Self {
        let path = path.to_owned();
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let sending = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                let _ = request(address, &path);
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self(over, Some(sending))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(sending) = self.1.take() {
            let _ = sending.join();
        }
    }
}

/// One request on a connection of its own, read to the end.
fn request(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

/// One pool of these endpoints, the admin listener at `admin`, and more lines of `[admin]`.
fn plain(endpoints: &[SocketAddr], admin: &str, more: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [{}]\n\
         outlier = {{ base_ejection = \"8s\", max_ejection = \"8s\", jitter = \"0%\" }}\n\
         policy = \"round_robin\"\nslow_start = \"0s\"\n\
         [admin]\nbind = \"{admin}\"\n{more}",
        endpoints.join(", ")
    )
}

/// An origin at an address that one had before.
fn again_at(address: SocketAddr) -> Origin {
    let listener = TcpListener::bind(address).expect("nobody took the port");
    Origin::on(listener, |conn| while conn.request().is_some() && conn.send(ok("hello")) {})
}

#[test]
fn an_endpoint_is_seen_to_be_ejected_and_to_return_and_the_process_to_go_and_come() {
    let Some(stage) = stage() else { return };
    let good = answers("hello");
    let mut bad = Some(answers("hello"));
    let endpoints = [good.address(), bad.as_ref().expect("it is there").address()];
    let mut proxy = Some(Proxy::start(&plain(&endpoints, "127.0.0.1:0", "")));
    let web = proxy.as_ref().expect("it is there").address("web");
    let admin = proxy.as_ref().expect("it is there").admin();
    let mut traffic = Some(Traffic::to(web));
    let names = endpoints.map(|address| address.to_string());
    let said = stage.play("failing.mjs", admin, &[&names[0], &names[1]], |deed| match deed {
        "kill" => bad = None,
        "revive" => bad = Some(again_at(endpoints[1])),
        "stop" => {
            traffic = None;
            proxy = None;
        }
        "start" => proxy = Some(Proxy::start(&plain(&endpoints, &admin.to_string(), ""))),
        other => panic!("{other}?"),
    });
    assert!(said.contains("why: ejected "), "{said}");
    drop((traffic, proxy));
}

#[test]
fn plots_and_orders_are_within_reach_of_the_keyboard() {
    let Some(stage) = stage() else { return };
    let origins = [answers("hello"), answers("hello")];
    let endpoints = [origins[0].address(), origins[1].address()];
    let proxy = Proxy::start(&plain(&endpoints, "127.0.0.1:0", ""));
    let _traffic = Traffic::to(proxy.address("web"));
    stage.play("keyboard.mjs", proxy.admin(), &[&endpoints[0].to_string()], |deed| panic!("{deed}?"));
}

#[test]
fn where_a_token_is_needed_the_page_asks_for_it() {
    let Some(stage) = stage() else { return };
    let origins = [answers("hello"), answers("hello")];
    let endpoints = [origins[0].address(), origins[1].address()];
    let (read, write) = ("reads-reads-reads-reads", "writes-writes-writes-writes");
    let rights = format!("read.token = \"{read}\"\nwrite.token = \"{write}\"\n");
    let proxy = Proxy::start(&plain(&endpoints, "127.0.0.1:0", &rights));
    let more = [&endpoints[0].to_string(), read, write];
    stage.play("token.mjs", proxy.admin(), &more, |deed| panic!("{deed}?"));
}

#[test]
fn it_fits_the_screen_and_is_legible() {
    let Some(stage) = stage() else { return };
    let origins = [answers("hello"), answers("hello")];
    let endpoints = [origins[0].address(), origins[1].address()];
    let proxy = Proxy::start(&plain(&endpoints, "127.0.0.1:0", ""));
    let _traffic = Traffic::to(proxy.address("web"));
    for more in [["phone", "dark"], ["desk", "light"]] {
        stage.play("sizes.mjs", proxy.admin(), &more, |deed| panic!("{deed}?"));
    }
}

/// An origin that answers as `mood` says: 0 well, 1 with 503, and otherwise after so many milliseconds.
fn moody(mood: &Arc<AtomicU64>) -> Origin {
    let mood = Arc::clone(mood);
    Origin::run(move |conn| {
        while conn.request().is_some() {
            let answer = match mood.load(Ordering::Relaxed) {
                0 => ok("hello"),
                1 => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
                late => {
                    thread::sleep(Duration::from_millis(late));
                    ok("late")
                }
            };
            if !conn.send(answer) {
                return;
            }
        }
    })
}

#[test]
#[ignore = "takes pictures for the documentation, in two minutes"]
fn pictures() {
    let stage = stage().expect("chromium, node and npm are there");
    let moods: [_; 7] = std::array::from_fn(|_| Arc::new(AtomicU64::new(0)));
    let mut origins = moods.each_ref().map(|mood| Some(moody(mood)));
    let at = origins.each_ref().map(|origin| origin.as_ref().expect("it is there").address());
    let toml = incident(&at, "");
    let proxy = Proxy::start(&toml);
    let web = proxy.address("web");
    let paths = ["/checkout/pay", "/checkout", "/search", "/search/suggest", "/assets/a.js", "/login"];
    let traffic: Vec<_> = paths.iter().map(|path| Traffic::of(web, path)).collect();
    let pause = |seconds: u64| thread::sleep(Duration::from_secs(seconds));
    let _idle: Vec<_> = (0..24).map(|_| proxy.connect()).collect();
    pause(45);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let more = [docs.to_str().expect("a path in UTF-8")];
    stage.play("pictures.mjs", proxy.admin(), &more, |deed| {
        assert_eq!(deed, "incident");
        assert!(proxy.reload(&incident(&at, "policy = \"maglev\"\n")).is_ok());
        pause(10);
        let all = &moods[3..];
        all.iter().for_each(|mood| mood.store(1, Ordering::Relaxed));
        pause(14);
        all.iter().for_each(|mood| mood.store(0, Ordering::Relaxed));
        origins[1] = None;
        pause(16);
        let drain = format!("POST /v1/endpoints/checkout/{}/drain?for=15m", at[2]);
        assert_eq!(ask(&proxy, &drain, "Host: localhost\r\nContent-Length: 0\r\n").status(), 200);
        moods[4].store(150, Ordering::Relaxed);
        pause(14);
    });
    drop(traffic);
}

/// A shop of three pools, one of which has a breaker and a ladder.
fn incident(at: &[SocketAddr; 7], more: &str) -> String {
    let list = |own: &[SocketAddr]| own.iter().map(|own| format!("\"{own}\"")).collect::<Vec<_>>().join(", ");
    let (checkout, search, assets) = (list(&at[..3]), list(&at[3..5]), list(&at[5..]));
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"checkout\"\npath_prefix = \"/checkout\"\npool = \"checkout\"\n\
         [[route]]\nname = \"search\"\npath_prefix = \"/search\"\npool = \"search\"\n\
         [[route]]\nname = \"assets\"\npath_prefix = \"/assets\"\npool = \"assets\"\n\
         [[route]]\nname = \"everything-else\"\npool = \"checkout\"\n\
         [pool.checkout]\nendpoints = [{checkout}]\npolicy = \"round_robin\"\n\
         outlier = {{ base_ejection = \"60s\" }}\n\
         [pool.search]\nendpoints = [{search}]\nlimits.in_flight = 256\n\
         breaker = {{ share = \"50%\", open = \"4s\" }}\n\
         [[pool.search.degradation.ladder]]\n\
         respond = {{ status = 200, body = \"no suggestions\" }}\n\
         [pool.assets]\nendpoints = [{assets}]\n{more}"
    )
}

/// The admin listener's answer to a request with these fields.
fn ask(proxy: &Proxy, line: &str, fields: &str) -> Message {
    let mut client = Link::to(proxy.admin());
    client.send(format!("{line} HTTP/1.1\r\n{fields}\r\n"));
    client.response()
}

#[test]
fn browsers_get_the_page_and_programs_the_list() {
    let origin = answers("hello");
    let rights = "read.token = \"reads-reads-reads-reads\"\n";
    let proxy = Proxy::start(&plain(&[origin.address()], "127.0.0.1:0", rights));
    let html = "Host: localhost\r\nAccept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";
    let page = ask(&proxy, "GET /", html);
    assert_eq!((page.status(), page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.field("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!page.text().contains("://"), "nothing from elsewhere");
    for name in page.text().split("dashboard/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert_eq!(
            ask(&proxy, &format!("GET /dashboard/{name}"), "Host: localhost\r\n").status(),
            200,
            "{name}"
        );
    }
    assert_eq!(ask(&proxy, "GET /dashboard/none.js", "Host: localhost\r\n").status(), 404);
    // What it shows is not for everybody.
    for target in ["/", "/v1/events", "/v1/access"] {
        assert_eq!(ask(&proxy, &format!("GET {target}"), "Host: localhost\r\n").status(), 401, "{target}");
    }
    assert_eq!(ask(&proxy, "GET /v1", html).status(), 401);
}

#[test]
fn orders_are_taken_from_the_own_page_and_from_no_other() {
    let origins = [answers("hello"), answers("hello")];
    let endpoints = [origins[0].address(), origins[1].address()];
    let proxy = Proxy::start(&plain(&endpoints, "127.0.0.1:0", ""));
    let admin = proxy.admin();
    let drain = format!("POST /v1/endpoints/app/{}/drain", endpoints[0]);
    for (origin, site, status) in [
        ("http://localhost:1", "same-site", 403),
        ("https://attacker.example", "cross-site", 403),
        (&*format!("http://{admin}"), "cross-site", 403),
        (&*format!("http://{admin}"), "same-origin", 200),
    ] {
        let fields =
            format!("Host: {admin}\r\nOrigin: {origin}\r\nSec-Fetch-Site: {site}\r\nContent-Length: 0\r\n");
        assert_eq!(ask(&proxy, &drain, &fields).status(), status, "{origin} {site}");
    }
    let access = |fields: &str| -> serde_json::Value {
        serde_json::from_slice(&ask(&proxy, "GET /v1/access", fields).body).expect("JSON")
    };
    assert_eq!(access("Host: localhost\r\n")["orders"], "taken");
    let foreign = "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(access(&format!("{foreign}Sec-Fetch-Dest: document\r\n"))["orders"], "refused");
    for target in ["/v1/access", "/v1/events", "/v1/log/access"] {
        let loaded = format!("{foreign}Sec-Fetch-Dest: empty\r\n");
        assert_eq!(ask(&proxy, &format!("GET {target}"), &loaded).status(), 403, "{target}");
    }
}

#[test]
fn events_begin_with_all_pools_and_go_on_with_what_changes() {
    let origins = [answers("hello"), answers("hello")];
    let endpoints = [origins[0].address(), origins[1].address()];
    let proxy = Proxy::start(&plain(&endpoints, "127.0.0.1:0", ""));
    let mut reader = Link::to(proxy.admin());
    reader.send("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = reader.head().expect("an answer");
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    let mut next = |wanted: &str| -> serde_json::Value {
        loop {
            let event = reader.take_until(b"\n").expect("it goes on");
            let name = String::from_utf8_lossy(&event).trim().to_owned();
            if name == format!("event: {wanted}") {
                let data = reader.take_until(b"\n").expect("it has data");
                let data = String::from_utf8_lossy(&data).into_owned();
                return serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            }
        }
    };
    let whole = next("pools");
    assert_eq!((&whole["whole"], &whole["names"][0]), (&true.into(), &"app".into()));
    assert_eq!(whole["endpoints"].as_array().map(Vec::len), Some(2));
    assert!(next("sample")["at"].is_string());
    let drain = format!("POST /v1/endpoints/app/{}/drain", endpoints[1]);
    assert_eq!(ask(&proxy, &drain, "Host: localhost\r\nContent-Length: 0\r\n").status(), 200);
    let ordered = endpoints[1].to_string();
    // A reader that comes early hears of endpoints that join before that.
    let entry = std::iter::repeat_with(|| next("journal")).find(|entry| entry["event"] != "joined");
    let entry = entry.expect("it goes on");
    assert_eq!((&entry["event"], &entry["endpoint"]), (&"ordered".into(), &ordered.clone().into()));
    let is_drained = |told: &serde_json::Value| told["state"] == "draining";
    let drained = std::iter::repeat_with(|| next("pools")).find_map(|changed| {
        assert_eq!(changed["whole"], false);
        changed["endpoints"].as_array().expect("a list").iter().find(|told| is_drained(told)).cloned()
    });
    assert_eq!(drained.expect("it goes on")["endpoint"], ordered);
}
