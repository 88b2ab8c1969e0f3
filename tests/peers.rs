//! The proxy among programs that others wrote: curl, nghttp2 and OpenSSL as clients, nginx as an
//! endpoint, Prometheus as a reader of metrics. A program that is not installed is skipped.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::*;
use tempfile::TempDir;

/// Runs a command to its end; what it wrote to standard output and standard error.
#[track_caller]
fn run(command: &mut Command, input: &[u8]) -> (Vec<u8>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || {
        // It may end without reading all of it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {:?} {err}", output.status);
    (output.stdout, err)
}

/// Runs curl, with a deadline of its own.
#[track_caller]
fn curl(curl: &Peer, args: &[&str], input: &[u8]) -> (String, String) {
    let (out, err) =
        run(curl.command().args(["-sS", "--max-time", "10", "--noproxy", "*"]).args(args), input);
    (String::from_utf8_lossy(&out).into_owned(), err)
}

/// A listener without and one with TLS, in front of `endpoint`.
fn both(pki: &Pki, endpoint: &str, pool: &str) -> Proxy {
    pki.issue("edge", &["edge.example", "127.0.0.1", "::1"]);
    let sockets = pki.path().display();
    Proxy::start_in(
        pki.path(),
        &format!(
            "workers = 2\n[[listener]]\nname = \"web\"\n\
             bind = [\"127.0.0.1:0\", \"[::1]:0\", \"unix:{sockets}/web.sock\"]\n\
             [[listener]]\nname = \"edge\"\nprotocol = \"https\"\nbind = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
             certificates = [{{ cert = \"edge.pem\", key = \"edge.key\" }}]\n\
             [[route]]\nname = \"all\"\npool = \"app\"\n[pool.app]\nendpoints = [\"{endpoint}\"]\n{pool}\n"
        ),
    )
}

#[test]
fn curl_speaks_every_version() {
    let Some(program) = peer("curl") else { return };
    let origin = answers("hello");
    let pki = Pki::new();
    let proxy = both(&pki, &origin.address().to_string(), "");
    let (web, edge) = (proxy.address("web"), proxy.address("edge"));
    let ca = pki.path().join("ca.pem").display().to_string();
    let resolve = format!("edge.example:{}:127.0.0.1", edge.port());
    let named = format!("https://edge.example:{}/", edge.port());
    let plain = format!("http://{web}/");
    let report = ["-w", " %{http_version} %{http_code}"];
    for (args, expected) in [
        (&["--http1.1", &plain][..], "hello 1.1 200"),
        (&["--http1.0", &plain], "hello 1.1 200"),
        (&["--http2-prior-knowledge", &plain], "hello 2 200"),
        // An upgrade to h2c is declined, as RFC 9113 has it.
        (&["--http2", &plain], "hello 1.1 200"),
        (&["--http1.1", "--cacert", &ca, "--resolve", &resolve, &named], "hello 1.1 200"),
        (&["--http2", "--cacert", &ca, "--resolve", &resolve, &named], "hello 2 200"),
        (&["--tls-max", "1.2", "--http2", "--cacert", &ca, "--resolve", &resolve, &named], "hello 2 200"),
        (&["--cacert", &ca, &format!("https://{edge}/")], "hello 2 200"),
    ] {
        let (out, _) = curl(&program, &[args, &report].concat(), b"");
        assert_eq!(out, expected, "{args:?}");
    }
    assert_eq!(proxy.metrics().sum("forebay_requests_total", &[("class", "2xx")]), 8.0);
    assert_eq!(proxy.metrics().sum("forebay_tls_handshakes_total", &[]), 4.0);
}

#[test]
fn listeners_on_ipv6_and_unix_sockets() {
    let Some(program) = peer("curl") else { return };
    let pki = Pki::new();
    let origin = answers("hello");
    let proxy = both(&pki, &origin.address().to_string(), "");
    let addresses = |name: &str| {
        let mut listeners = proxy.server().listeners().into_iter();
        listeners.find(|(own, _)| own.as_str() == name).unwrap().1.iter().map(ToString::to_string).collect()
    };
    let (web, edge): (Vec<String>, Vec<String>) = (addresses("web"), addresses("edge"));
    assert_eq!((web.len(), edge.len()), (3, 2));
    assert!(web[1].starts_with("[::1]:"), "{web:?}");
    let ca = pki.path().join("ca.pem").display().to_string();
    let socket = pki.path().join("web.sock").display().to_string();
    assert_eq!(curl(&program, &[&format!("http://{}/", web[1])], b"").0, "hello");
    assert_eq!(origin.next_request().field("x-forwarded-for"), Some("::1"));
    assert_eq!(curl(&program, &["-k", "--cacert", &ca, &format!("https://{}/", edge[1])], b"").0, "hello");
    assert_eq!(origin.next_request().field("x-forwarded-proto"), Some("https"));
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args = [version, "--unix-socket", &socket, "http://by-socket/"];
        assert_eq!(curl(&program, &args, b"").0, "hello");
        assert_eq!(origin.next_request().field("host"), Some("by-socket"));
    }
}

#[test]
fn endpoints_on_unix_sockets() {
    let Some(program) = peer("curl") else { return };
    let origin = echoes();
    let pki = Pki::new();
    let inner = both(&pki, &origin.address().to_string(), "");
    let socket = format!("unix:{}/web.sock", pki.path().display());
    for protocol in ["http1", "http2"] {
        let outer = Proxy::start(&format!(
            "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\npool = \"app\"\n\
             [pool.app]\nendpoints = [\"{socket}\"]\nprotocol = \"{protocol}\"\n"
        ));
        let url = format!("http://{}/", outer.address("web"));
        for _ in 0..3 {
            assert_eq!(curl(&program, &["-d", "a body", &url], b"").0, "a body");
        }
        let opened = outer.metrics().sum("forebay_endpoint_connections_opened_total", &[]);
        assert_eq!(opened, 1.0, "{protocol}");
    }
    assert_eq!(inner.metrics().sum("forebay_connections_accepted_total", &[("listener", "web")]), 2.0);
}

#[test]
fn curl_uploads_in_every_way() {
    let Some(program) = peer("curl") else { return };
    let origin = Origin::run(|conn| {
        while let Some(head) = conn.link.head() {
            if head.lists("expect", "100-continue") && !conn.send("HTTP/1.1 100 Continue\r\n\r\n") {
                return;
            }
            let body = if let Some(length) = head.field("content-length") {
                conn.link.take(length.parse().unwrap())
            } else {
                let mut body = Vec::new();
                while let Some(size) = conn.link.take_until(b"\r\n") {
                    let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
                    body.extend(conn.link.take(size));
                    conn.link.take(2);
                    if size == 0 {
                        break;
                    }
                }
                body
            };
            let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
            let answer = ok(&format!("{} bytes, sum {sum}", body.len()));
            if !conn.send(answer) {
                return;
            }
        }
    });
    let proxy = Proxy::to(origin.address());
    let url = format!("http://{}/", proxy.address("web"));
    let body: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let sum: u64 = body.iter().map(|byte| u64::from(*byte)).sum();
    let expected = format!("{} bytes, sum {sum}", body.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    fs::write(&file, &body).unwrap();
    let data = format!("@{}", file.display());
    let expect =
        ["-v", "-H", "Expect: 100-continue", "--expect100-timeout", "8", "--data-binary", &data, &url];
    let (out, err) = curl(&program, &expect, b"");
    assert_eq!(out, expected);
    assert!(err.contains("HTTP/1.1 100 Continue"), "{err}");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(
            curl(&program, &[version, "-H", "Expect:", "--data-binary", &data, &url], b"").0,
            expected
        );
        // From a pipe the length is not known: chunks, or frames without a length.
        assert_eq!(curl(&program, &[version, "-H", "Expect:", "-T", "-", &url], &body).0, expected);
    }
}

/// An nginx of our own. Dropping it kills it.
struct Nginx {
    child: Child,
    plain: SocketAddr,
    http2: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// Starts it with some files to serve; `None` when it is not installed.
    fn start() -> Option<Self> {
        let nginx = peer("nginx")?;
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("large.bin"), large()).unwrap();
        fs::write(files.join("text.txt"), TEXT.repeat(500)).unwrap();
        let (plain, http2) = (free_port(), free_port());
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n access_log off; default_type text/plain; gzip on; gzip_min_length 100; gzip_proxied any; gzip_types text/plain;\n\
             client_body_temp_path {path}/a; proxy_temp_path {path}/b; fastcgi_temp_path {path}/c;\n\
             uwsgi_temp_path {path}/d; scgi_temp_path {path}/e;\n\
             server {{ listen {plain}; keepalive_requests 10; root {path}/files;\n\
               location /chunked {{ alias {path}/files/text.txt; gzip off; ssi on; ssi_types *; }}\n\
               location /own {{ return 200 \"$request_method $host $http_x_forwarded_for\"; }} }}\n\
             server {{ listen {http2} http2; keepalive_requests 100; root {path}/files; }}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = nginx.command();
        command
            .args(["-e", "stderr", "-p"])
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nginx = Self { child: command.spawn().unwrap(), plain, http2, folder };
        eventually("nginx's start", || {
            TcpStream::connect(http2).is_ok() && TcpStream::connect(plain).is_ok()
        });
        Some(nginx)
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// 1 MiB of which no two pieces are alike.
fn large() -> Vec<u8> {
    (0..1_048_576_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

const TEXT: &str = "a line of text that compresses well\n";

#[test]
fn nginx_as_an_endpoint() {
    let (Some(program), Some(nginx)) = (peer("curl"), Nginx::start()) else { return };
    let out = nginx.root().join("out");
    let out = out.display().to_string();
    for (endpoint, pool) in [(nginx.plain, ""), (nginx.http2, "protocol = \"http2\"")] {
        let pki = Pki::new();
        let proxy = both(&pki, &endpoint.to_string(), pool);
        let base = format!("http://{}", proxy.address("web"));
        let tls = format!("https://{}", proxy.address("edge"));
        for base in [&base, &tls] {
            let url = |path: &str| format!("{base}/{path}");
            for version in ["--http1.1", "--http2"] {
                curl(&program, &["-k", version, "-o", &out, &url("large.bin")], b"");
                let (got, sent) = (fs::read(&out).unwrap(), large());
                let differs = got.iter().zip(&sent).position(|(a, b)| a != b);
                assert!(got == sent, "{pool} {base} {version}: {} bytes, from {differs:?}", got.len());
            }
            let (text, _) = curl(&program, &["-k", "--compressed", &url("text.txt")], b"");
            assert!(text == TEXT.repeat(500), "{} bytes", text.len());
            let (head, _) = curl(
                &program,
                &["-k", "-H", "Accept-Encoding: gzip", "-D", "-", "-o", &out, &url("text.txt")],
                b"",
            );
            assert!(head.to_ascii_lowercase().contains("content-encoding: gzip"), "{head}");
            let (dates, _) = curl(&program, &["-k", "-I", &url("large.bin")], b"");
            let head = dates.to_ascii_lowercase();
            assert!(head.contains(" 200") && head.contains("content-length: 1048576"), "{head}");
            let dated = |line: &&str| line.to_ascii_lowercase().starts_with("last-modified:");
            let since = format!("If-Modified-Since:{}", &dates.lines().find(dated).unwrap()[14..]);
            let code = ["-k", "-s", "-o", &out, "-w", "%{http_code} %{size_download}"];
            let asked = |more: &[&str]| curl(&program, &[&code[..], more].concat(), b"").0;
            assert_eq!(asked(&["-H", &since, &url("large.bin")]), "304 0");
            assert_eq!(asked(&["-r", "1000-1999", &url("large.bin")]), "206 1000");
            assert!(fs::read(&out).unwrap() == large()[1000..2000]);
            assert_eq!(asked(&["-r", "2000000-", &url("large.bin")])[..3], *"416");
            assert_eq!(asked(&[&url("missing")])[..3], *"404");
        }
    }
}

#[test]
fn nginx_closes_connections_and_no_request_fails() {
    let Some(nginx) = Nginx::start() else { return };
    let proxy = Proxy::to(nginx.plain);
    let mut client = proxy.connect();
    for path in ["/own", "/chunked"].repeat(50) {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status(), 200);
        let expected = if path == "/own" { "GET test 127.0.0.1".to_owned() } else { TEXT.repeat(500) };
        assert!(response.text() == expected, "{}", response.head);
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("forebay_requests_total", &[("class", "2xx")]), 100.0);
    // It says so after every tenth request.
    assert_eq!(metrics.sum("forebay_endpoint_connections_opened_total", &[]), 10.0);
    assert_eq!(metrics.sum("forebay_endpoint_resends_total", &[]), 0.0);
}

#[test]
fn h2load_and_the_metrics_agree() {
    let Some(program) = peer("h2load") else { return };
    let origin = answers("hello");
    let h2 = Nginx::start();
    let pki = Pki::new();
    let http2_pool = h2.as_ref().map(|nginx| (nginx.http2.to_string(), "protocol = \"http2\"", "/text.txt"));
    let cases = [Some((origin.address().to_string(), "", "/")), http2_pool];
    for (endpoint, pool, path) in cases.into_iter().flatten() {
        let proxy = both(&pki, &endpoint, pool);
        let web = format!("http://{}{path}", proxy.address("web"));
        let edge = format!("https://{}{path}", proxy.address("edge"));
        for (round, (url, more)) in
            (1..).zip([(&web, None), (&edge, None), (&web, Some("--h1")), (&edge, Some("--h1"))])
        {
            let mut command = program.command();
            command.args(["-n", "2000", "-c", "10", "-m", "10", "-T", "10", "-N", "10"]).args(more).arg(url);
            let (out, _) = run(&mut command, b"");
            let out = String::from_utf8_lossy(&out).into_owned();
            assert!(out.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{out}");
            assert!(out.contains("status codes: 2000 2xx"), "{out}");
            eventually("no connection", || proxy.metrics().sum("forebay_connections_active", &[]) == 0.0);
            let metrics = proxy.metrics();
            let total = 2000.0 * f64::from(round);
            assert_eq!(metrics.sum("forebay_requests_total", &[]), total);
            assert_eq!(metrics.sum("forebay_requests_total", &[("class", "2xx"), ("route", "all")]), total);
            assert_eq!(metrics.sum("forebay_request_duration_seconds_count", &[]), total);
            assert_eq!(metrics.sum("forebay_endpoint_responses_total", &[("class", "2xx")]), total);
            assert_eq!(metrics.sum("forebay_endpoint_requests_in_flight", &[]), 0.0);
            assert_eq!(metrics.sum("forebay_endpoint_failures_total", &[]), 0.0);
            assert_eq!(metrics.sum("forebay_connections_accepted_total", &[]), 10.0 * f64::from(round));
        }
    }
}

#[test]
fn nghttp_gets_its_answer() {
    let Some(program) = peer("nghttp") else { return };
    let origin = answers("hello");
    let pki = Pki::new();
    let proxy = both(&pki, &origin.address().to_string(), "");
    for url in [format!("http://{}/", proxy.address("web")), format!("https://{}/", proxy.address("edge"))] {
        let mut command = program.command();
        command.args(["-v", "-t", "10", "-H", "cookie: a=1", "-H", "cookie: b=2", &url]);
        let (out, _) = run(&mut command, b"");
        let out = String::from_utf8_lossy(&out).into_owned();
        assert!(out.contains(":status: 200") && out.contains("hello"), "{out}");
        assert!(!out.contains("[ERROR]"), "{out}");
        assert_eq!(origin.next_request().values("cookie"), ["a=1; b=2"]);
    }
}

#[test]
fn openssl_agrees_on_tls() {
    let Some(program) = peer("openssl") else { return };
    let origin = answers("hello");
    let pki = Pki::new();
    let proxy = both(&pki, &origin.address().to_string(), "");
    let address = proxy.address("edge").to_string();
    let ca = pki.path().join("ca.pem").display().to_string();
    for (more, expected) in [
        (&["-alpn", "h2,http/1.1"][..], &["ALPN protocol: h2", "TLSv1.3"][..]),
        (&["-alpn", "http/1.1", "-tls1_2"], &["ALPN protocol: http/1.1", "TLSv1.2"]),
        (&["-noservername"], &["No ALPN negotiated", "TLSv1.3"]),
    ] {
        let mut command = program.command();
        command.args(["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"]).args(more);
        if !more.contains(&"-noservername") {
            command.args(["-servername", "edge.example", "-verify_hostname", "edge.example"]);
        }
        let (out, _) = run(&mut command, b"");
        let out = String::from_utf8_lossy(&out).into_owned();
        for part in expected.iter().chain(&["Verify return code: 0 (ok)"]) {
            assert!(out.contains(part), "{more:?}: {part} is missing: {out}");
        }
    }
    let mut old = program.command();
    old.args(["s_client", "-connect", &address, "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    old.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(!old.status().unwrap().success());
    eventually("a failure", || proxy.metrics().sum("forebay_tls_handshake_failures_total", &[]) == 1.0);
}

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    let Some(program) = peer("promtool") else { return };
    let origin = answers("hello");
    let pki = Pki::new();
    let proxy = both(&pki, &origin.address().to_string(), "");
    for _ in 0..3 {
        proxy.get("/");
    }
    let scrape = proxy.ask_admin("/metrics");
    let (out, err) = run(program.command().args(["check", "metrics"]), &scrape.body);
    assert_eq!((String::from_utf8_lossy(&out).as_ref(), err.as_str()), ("", ""));
}
