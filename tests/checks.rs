//! Active checks over real sockets: what is asked and what passes for each kind, what is said of
//! endpoints that fail, how often they are asked, and what becomes of traffic.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]
#![expect(clippy::disallowed_methods, reason = "servers end with the runtime of their test")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use support::{
    Ended, Link, Origin, Pki, Plain, Proxy, answers, answers_raw, closes_before_answer, eventually,
    never_answers, ok, refuses, resets_before_answer, sends_garbage, stalls_after_head,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// So often that a test need not wait for it, and not so often that it is all there is to do.
const OFTEN: &str = "interval = \"50ms\"\nfast_interval = \"50ms\"\ndown_interval = \"50ms\"";

/// A proxy whose one pool has these endpoints and this health.
#[track_caller]
fn checking(endpoints: &[SocketAddr], health: &str) -> Proxy {
    Plain { pool: &format!("[pool.app.health]\n{OFTEN}\n{health}"), ..Plain::default() }.to(endpoints)
}

/// A proxy with a pool for each of these: a name, an endpoint, and lines that follow.
#[track_caller]
fn pools(pki: &Pki, pools: &[(&str, SocketAddr, String)]) -> Proxy {
    let split: Vec<_> = pools.iter().map(|(name, ..)| format!("{name} = 1")).collect();
    let mut text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n[[route]]\nsplit = {{ {} }}\n",
        split.join(", ")
    );
    for (name, endpoint, lines) in pools {
        text += &format!("[pool.{name}]\nendpoints = [\"{endpoint}\"]\n{lines}\n");
    }
    Proxy::start_in(pki.path(), &text)
}

/// Checks of the endpoints of `pool` so far, with this result.
fn checks(proxy: &Proxy, pool: &str, result: &str) -> f64 {
    proxy.metrics().sum("forebay_endpoint_checks_total", &[("pool", pool), ("result", result)])
}

#[track_caller]
fn passes(proxy: &Proxy, pool: &str) {
    eventually(&format!("a second pass in pool {pool}"), || checks(proxy, pool, "pass") >= 2.0);
    let failed = checks(proxy, pool, "fail");
    assert!(failed < 1.0, "{failed} checks of {pool} failed");
}

/// Waits until the journal says `words` of the endpoint.
#[track_caller]
fn fails_with(proxy: &Proxy, pool: &str, endpoint: SocketAddr, words: &str) {
    let page = format!("/endpoints/{pool}/{endpoint}/journal");
    let mut said = String::new();
    let by = forebay::ambient::now() + support::DEADLINE;
    while !said.contains(words) {
        assert!(forebay::ambient::now() < by, "{pool}: no {words:?} in {said}");
        // Quotes are escaped, once or twice.
        said = proxy.ask_admin(&page).text().replace('\\', "");
    }
}

#[test]
fn an_http_check_asks_and_compares() {
    let origin = answers("all ok\n");
    let health = "kind = \"http\"\npath = \"/healthz?full\"\nhost = \"app.example\"\nbody = \"ok\"\n\
                  headers = { x-check = \"yes\" }\nstatus = 200";
    let proxy = checking(&[origin.address()], health);
    passes(&proxy, "app");
    let asked = origin.next_request();
    assert_eq!((asked.method(), asked.target()), ("GET", "/healthz?full"));
    assert_eq!((asked.field("host"), asked.field("x-check")), (Some("app.example"), Some("yes")));
    assert_eq!(asked.field("connection"), Some("close"));
    assert!(asked.field("user-agent").unwrap().starts_with("forebay-check/"));
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let pki = Pki::new();
    let busy = answers_raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let origins = [
        ("busy", &busy, "", "status 503, expected 200-399"),
        ("body", &answers("starting"), "body = \"ready\"", "body lacks \"ready\""),
        ("silent", &never_answers(), "", "no answer within 250ms"),
        (
            "stalls",
            &stalls_after_head(),
            "body = \"ok\"",
            "the answer ends within its body; no more came within 250ms",
        ),
        ("garbage", &sends_garbage(), "", "is not HTTP/1"),
        ("closes", &closes_before_answer(), "", "the connection was closed without an answer"),
        ("resets", &resets_before_answer(), "", "connection reset before the end of the answer"),
        ("old", &busy, "protocol = \"http2\"", "HTTP/2 failed: "),
    ];
    let refusing = refuses();
    let check = |more: &str| {
        format!("health = {{ kind = \"http\", timeout = \"250ms\", {} }}", OFTEN.replace('\n', ", ") + more)
    };
    let mut all: Vec<_> = origins
        .iter()
        .map(|(pool, origin, more, _)| {
            let more = if more.is_empty() { String::new() } else { format!(", {more}") };
            (*pool, origin.address(), check(&more))
        })
        .collect();
    all.push(("refuses", refusing.address(), check("")));
    let proxy = pools(&pki, &all);
    for (pool, origin, _, words) in origins {
        fails_with(&proxy, pool, origin.address(), words);
    }
    fails_with(&proxy, "refuses", refusing.address(), "connection refused");
}

#[test]
fn a_tcp_check_may_talk() {
    let origin = Origin::run(|conn| {
        let greeted = conn.send("220 hello\r\n") && conn.link.take_until(b"\r\n").is_some();
        if greeted && conn.send("250 ok\r\n") {
            conn.until_end();
        }
    });
    let talks = "kind = \"tcp\"\nsend = \"NOOP\\r\\n\"\nexpect = { hex = \"32 35 30\" }";
    let proxy = checking(&[origin.address()], talks);
    passes(&proxy, "app");
    assert_eq!(origin.wait_end(0), Ended::Reset);
}

#[test]
fn a_mere_connection_leaves_nothing_behind() {
    let origin = Origin::run(|conn| {
        conn.until_end();
    });
    let proxy = checking(&[origin.address()], "kind = \"tcp\"");
    passes(&proxy, "app");
    assert_eq!(origin.wait_end(0), Ended::Reset);
}

#[test]
fn endpoints_with_the_same_check_are_asked_once() {
    let origin = answers("ok");
    let pki = Pki::new();
    // One check in the time of the test.
    let check = |path: &str| {
        let more = if path.is_empty() { String::new() } else { format!(", path = \"{path}\"") };
        format!("health = {{ kind = \"http\", interval = \"1h\", fast_interval = \"1h\"{more} }}")
    };
    let proxy = pools(
        &pki,
        &[
            ("first", origin.address(), check("")),
            ("second", origin.address(), check("/")),
            ("third", origin.address(), check("/other")),
        ],
    );
    for pool in ["first", "second", "third"] {
        eventually("a check", || checks(&proxy, pool, "pass") >= 1.0);
    }
    let mut targets: Vec<_> = origin.requests().iter().map(|request| request.target().to_owned()).collect();
    targets.sort();
    // The second checks come at a random moment of an hour, so that one may be there by chance.
    targets.dedup();
    assert_eq!(targets, ["/", "/other"]);
    assert!(origin.connections() <= 3, "{}", origin.connections());
}

#[test]
fn the_port_or_the_address_may_be_another() {
    let (serving, health) = (refuses(), answers("ok"));
    let port = format!("kind = \"http\"\nport = {}", health.address().port());
    passes(&checking(&[serving.address()], &port), "app");
    let other = refuses();
    let address = format!("kind = \"http\"\naddress = \"{}\"", health.address());
    let proxy = checking(&[serving.address(), other.address()], &address);
    passes(&proxy, "app");
    assert_eq!(health.next_request().field("host"), Some(&*health.address().to_string()));
}

#[test]
fn checks_speak_tls_and_http2_as_they_are_told() {
    let runtime = Runtime::new().unwrap();
    let pki = Pki::new();
    pki.issue("app", &["app.example"]);
    let plain = runtime.block_on(web(None));
    let both = runtime.block_on(web(Some(pki.server("app", &["h2", "http/1.1"], false))));
    let stranger = Pki::new();
    stranger.issue("app", &["app.example"]);
    let strange = runtime.block_on(web(Some(stranger.server("app", &[], false))));
    let tls = "tls = { ca = \"ca.pem\", server_name = \"app.example\" }";
    let often = OFTEN.replace('\n', ", ");
    let expecting =
        |body: &str, more: &str| format!("health = {{ kind = \"http\", body = \"{body}\"{more}, {often} }}");
    let proxy = pools(
        &pki,
        &[
            ("h2c", plain, format!("protocol = \"http2\"\n{}", expecting("HTTP/2.0 plain", ""))),
            ("h1", both, format!("{tls}\n{}", expecting("HTTP/1.1 http/1.1 app.example:", ""))),
            (
                "h2",
                both,
                format!("{tls}\n{}", expecting("HTTP/2.0 h2 app.example:", ", protocol = \"http2\"")),
            ),
            (
                "back",
                both,
                format!(
                    "{tls}\nprotocol = \"http2\"\n{}",
                    expecting("HTTP/1.1 http/1.1", ", protocol = \"http1\"")
                ),
            ),
            ("bytes", both, format!("{tls}\nhealth = {{ kind = \"tcp\", {often} }}")),
            ("bare", plain, format!("{tls}\n{}", expecting("HTTP/1.1 plain", ", tls = false"))),
            ("strange", strange, format!("{tls}\nhealth = {{ kind = \"tcp\", {often} }}")),
        ],
    );
    for pool in ["h2c", "h1", "h2", "back", "bytes", "bare"] {
        passes(&proxy, pool);
    }
    fails_with(&proxy, "strange", strange, "TLS handshake failed: invalid peer certificate");
}

#[test]
fn a_grpc_service_is_asked_for_its_health() {
    let runtime = Runtime::new().unwrap();
    let serves = runtime.block_on(health_service());
    let lacks = runtime.block_on(web(None));
    let often = OFTEN.replace('\n', ", ");
    let check = |service: &str| {
        format!("protocol = \"http2\"\nhealth = {{ kind = \"grpc\", service = \"{service}\", {often} }}")
    };
    let pki = Pki::new();
    let proxy = pools(
        &pki,
        &[
            ("whole", serves, check("")),
            ("well", serves, check("test.Well")),
            ("ill", serves, check("test.Ill")),
            ("unknown", serves, check("test.Unknown")),
            ("other", serves, check("test.Unimplemented")),
            ("lacks", lacks, check("")),
        ],
    );
    passes(&proxy, "whole");
    passes(&proxy, "well");
    fails_with(&proxy, "ill", serves, "NOT_SERVING");
    fails_with(&proxy, "unknown", serves, "the service \"test.Unknown\" is unknown there (NOT_FOUND)");
    fails_with(&proxy, "other", serves, "the endpoint has no grpc.health.v1 service (UNIMPLEMENTED)");
    fails_with(&proxy, "lacks", lacks, "content-type \"text/plain\" is not gRPC's");
}

/// Its requests are answered all the same: what keeps traffic away is the check.
#[test]
fn an_endpoint_that_is_down_gets_no_traffic_until_it_is_up_again() {
    let is_ill = Arc::new(AtomicBool::new(false));
    let moody = moody(&is_ill);
    let steady = answers("steady");
    let proxy = checking(
        &[moody.address(), steady.address()],
        "kind = \"http\"\npath = \"/healthz\"\nfall = 3\nrise = 2",
    );
    let state = |wanted: &str| {
        let name = moody.address().to_string();
        proxy
            .server()
            .endpoints()
            .iter()
            .any(|endpoint| endpoint.endpoint == name && endpoint.state == wanted)
    };
    let traffic = || moody.requests().iter().filter(|request| request.target() == "/").count();
    eventually("traffic at the endpoint", || proxy.get("/").status() == 200 && traffic() > 0);

    is_ill.store(true, Ordering::SeqCst);
    eventually("that the endpoint is down", || state("down"));
    assert!(checks(&proxy, "app", "fail") >= 3.0);
    let before = traffic();
    for _ in 0..50 {
        assert_eq!(proxy.get("/").text(), "steady");
    }
    assert_eq!(traffic(), before);

    is_ill.store(false, Ordering::SeqCst);
    eventually("that the endpoint is up again", || !state("down"));
    eventually("traffic at the endpoint again", || proxy.get("/").status() == 200 && traffic() > before);
}

#[test]
fn an_endpoint_that_is_disabled_is_not_checked() {
    let (first, second) = (answers("ok"), answers("ok"));
    let proxy = checking(&[first.address(), second.address()], "kind = \"http\"");
    let order = |command: &str| {
        let mut admin = Link::to(proxy.admin());
        let target = format!("/endpoints/app/{}/{command}", first.address());
        admin.send(format!("POST {target} HTTP/1.1\r\nHost: {}\r\n\r\n", proxy.admin()));
        assert_eq!(admin.response().status(), 200);
    };
    passes(&proxy, "app");
    order("disable");
    let (before, others) = (first.connections(), second.connections());
    eventually("30 checks of the other", || second.connections() >= others + 30);
    // One may have been under way.
    assert!(first.connections() <= before + 1, "{before} became {}", first.connections());
    order("enable");
    eventually("checks again", || first.connections() >= before + 3);
}

/// Answers requests, and checks unless it is ill.
fn moody(is_ill: &Arc<AtomicBool>) -> Origin {
    let is_ill = Arc::clone(is_ill);
    Origin::run(move |conn| {
        while let Some(request) = conn.request() {
            let fails = request.target() == "/healthz" && is_ill.load(Ordering::SeqCst);
            let sick = "HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".to_owned();
            if !conn.send(if fails { sick } else { ok("moody") }) {
                return;
            }
        }
    })
}

/// A web server over HTTP/1.1 and HTTP/2, whose answers say how it was asked: by which version, by
/// which protocol of ALPN, for which host.
async fn web(tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::task::spawn(async move {
                let Some(config) = tls else {
                    return serve(TokioIo::new(tcp), "plain".to_owned()).await;
                };
                if let Ok(stream) = TlsAcceptor::from(config).accept(tcp).await {
                    let alpn = stream.get_ref().1.alpn_protocol().unwrap_or(b"none");
                    let alpn = String::from_utf8(alpn.to_vec()).unwrap();
                    serve(TokioIo::new(stream), alpn).await;
                }
            });
        }
    });
    address
}

async fn serve<T>(io: TokioIo<T>, how: String)
where
    TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
        let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap();
        let body = format!("{:?} {how} {host}", request.version());
        let response = http::Response::builder().header("content-type", "text/plain");
        std::future::ready(Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap()))
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(io, answer).await;
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A service of grpc.health.v1 that knows a few services by name.
#[derive(Clone)]
struct Health;

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl Service<http::Request<Body>> for Health {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let codec = ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
        Box::pin(async move { Ok(Grpc::new(codec).unary(Self, request).await) })
    }
}

impl UnaryService<HealthCheckRequest> for Health {
    type Response = HealthCheckResponse;
    type Future = std::future::Ready<Result<Response<HealthCheckResponse>, Status>>;

    fn call(&mut self, request: Request<HealthCheckRequest>) -> Self::Future {
        let answer = |status| Ok(Response::new(HealthCheckResponse { status }));
        std::future::ready(match &*request.get_ref().service {
            "" | "test.Well" => answer(1),
            "test.Ill" => answer(2),
            "test.Unimplemented" => Err(Status::unimplemented("no health here")),
            _ => Err(Status::not_found("unknown service")),
        })
    }
}

async fn health_service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Server::builder().add_service(Health);
    tokio::task::spawn(router.serve_with_incoming(TcpIncoming::from(listener)));
    address
}
