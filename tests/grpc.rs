//! gRPC through the proxy, by tonic on both sides: every kind of call, statuses, deadlines and
//! cancellation, without and with TLS. The service is written by hand, so that no compiler of
//! Protocol Buffers is needed.

#![expect(clippy::unwrap_used, reason = "what is not as expected fails the test")]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use support::{DEADLINE, Pki, Proxy};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::client::Grpc as Caller;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Context, Pin, Poll, Service, http};
use tonic::server::{
    ClientStreamingService, Grpc as Handler, NamedService, ServerStreamingService, StreamingService,
    UnaryService,
};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: impl Into<String>) -> Text {
    Text { text: text.into() }
}

type Codec = ProstCodec<Text, Text>;
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Texts = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

/// The service. Tells what it notices.
#[derive(Clone)]
struct Talk(mpsc::UnboundedSender<String>);

impl NamedService for Talk {
    const NAME: &'static str = "test.Talk";
}

impl Service<http::Request<Body>> for Talk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Later<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let talk = self.clone();
        Box::pin(async move {
            let mut handler = Handler::new(Codec::default());
            Ok(match request.uri().path() {
                "/test.Talk/One" => handler.unary(talk, request).await,
                "/test.Talk/Collect" => handler.client_streaming(talk, request).await,
                "/test.Talk/Split" => handler.server_streaming(talk, request).await,
                "/test.Talk/Converse" => handler.streaming(talk, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// Notices that a call was dropped before it was over.
struct Dropped(mpsc::UnboundedSender<String>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("dropped".to_owned());
    }
}

impl UnaryService<Text> for Talk {
    type Response = Text;
    type Future = Later<Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let talk = self.0.clone();
        Box::pin(async move {
            let said = |name: &str| request.metadata().get(name).map(|v| v.to_str().unwrap().to_owned());
            match request.get_ref().text.as_str() {
                "fail" => {
                    let mut status = Status::failed_precondition("not now: ü");
                    status.metadata_mut().insert("x-why", "because".parse().unwrap());
                    Err(status)
                }
                "wait" => {
                    let _noticing = Dropped(talk.clone());
                    talk.send(format!("waiting {:?}", said("grpc-timeout"))).unwrap();
                    std::future::pending().await
                }
                other => {
                    let mut response = Response::new(text(format!("you said {other}")));
                    if let Some(value) = said("x-ask") {
                        response.metadata_mut().insert("x-answer", value.parse().unwrap());
                    }
                    Ok(response)
                }
            }
        })
    }
}

impl ClientStreamingService<Text> for Talk {
    type Response = Text;
    type Future = Later<Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Streaming<Text>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut said = Vec::new();
            while let Some(message) = messages.next().await {
                said.push(message?.text);
            }
            Ok(Response::new(text(said.join(" "))))
        })
    }
}

impl ServerStreamingService<Text> for Talk {
    type Response = Text;
    type ResponseStream = Texts;
    type Future = Later<Result<Response<Texts>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let talk = self.0.clone();
        Box::pin(async move {
            let words = request.into_inner().text;
            if words == "forever" {
                let noticing = Dropped(talk);
                let answers = tokio_stream::iter(0..).map(move |i| {
                    let _held = &noticing;
                    Ok(text(format!("answer {i}")))
                });
                return Ok(Response::new(Box::pin(answers) as Texts));
            }
            let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
            let answers = tokio_stream::iter(words).map(|word| match word.as_str() {
                "fail" => Err(Status::data_loss("lost")),
                word => Ok(text(word)),
            });
            Ok(Response::new(Box::pin(answers) as Texts))
        })
    }
}

impl StreamingService<Text> for Talk {
    type Response = Text;
    type ResponseStream = Texts;
    type Future = Later<Result<Response<Texts>, Status>>;

    fn call(&mut self, request: Request<Streaming<Text>>) -> Self::Future {
        let talk = self.0.clone();
        Box::pin(async move {
            let noticing = Dropped(talk);
            let answers = request.into_inner().map(move |message| {
                let _held = &noticing;
                message.map(|message| text(format!("{}!", message.text)))
            });
            Ok(Response::new(Box::pin(answers) as Texts))
        })
    }
}

/// A service, the proxy before it, and a channel through it.
struct Line {
    channel: Channel,
    noticed: mpsc::UnboundedReceiver<String>,
    proxy: Proxy,
    _service: JoinSet<()>,
    _pki: Pki,
}

impl Line {
    async fn open(tls: bool) -> Self {
        let pki = Pki::new();
        pki.issue("service", &["service.example"]).issue("edge", &["edge.example"]);
        let (tell, noticed) = mpsc::unbounded_channel();
        let mut service = JoinSet::new();
        let address = serve(Talk(tell), tls.then_some(&pki), &mut service).await;
        let proxy = Proxy::start_in(pki.path(), &config(address, tls));
        let scheme = if tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", proxy.address("edge"))).unwrap();
        if tls {
            let authority = std::fs::read(pki.path().join("ca.pem")).unwrap();
            let config = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(authority))
                .domain_name("edge.example");
            endpoint = endpoint.tls_config(config).unwrap();
        }
        let channel = within(endpoint.connect()).await.unwrap();
        Self { channel, noticed, proxy, _service: service, _pki: pki }
    }

    async fn caller(&self) -> Caller<Channel> {
        let mut caller = Caller::new(self.channel.clone());
        within(caller.ready()).await.unwrap();
        caller
    }

    async fn one(&self, request: Request<Text>) -> Result<Response<Text>, Status> {
        let path = PathAndQuery::from_static("/test.Talk/One");
        within(self.caller().await.unary(request, path, Codec::default())).await
    }

    async fn notice(&mut self) -> String {
        within(self.noticed.recv()).await.unwrap()
    }

    /// Requests counted so far, by class.
    fn counted(&self, class: &str) -> f64 {
        self.proxy.metrics().sum("forebay_requests_total", &[("class", class)])
    }
}

async fn serve(talk: Talk, tls: Option<&Pki>, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::builder();
    if let Some(pki) = tls {
        let read = |file: &str| std::fs::read(pki.path().join(file)).unwrap();
        let identity = Identity::from_pem(read("service.pem"), read("service.key"));
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    let router = server.add_service(talk);
    tasks.spawn(async move { router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap() });
    address
}

fn config(service: SocketAddr, tls: bool) -> String {
    let (listener, pool) = if tls {
        let certificates =
            "protocol = \"https\"\ncertificates = [{ cert = \"edge.pem\", key = \"edge.key\" }]";
        (certificates, "[pool.app.tls]\nca = \"ca.pem\"\nserver_name = \"service.example\"")
    } else {
        ("", "")
    };
    format!(
        "[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\n{listener}\n[[route]]\npool = \"app\"\n\
         [pool.app]\nendpoints = [\"{service}\"]\nprotocol = \"http2\"\n{pool}\n"
    )
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens in time")
}

async fn collected(mut messages: Streaming<Text>) -> (Vec<String>, Option<Status>) {
    let mut all = Vec::new();
    loop {
        match within(messages.next()).await {
            Some(Ok(message)) => all.push(message.text),
            Some(Err(status)) => return (all, Some(status)),
            None => return (all, None),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unary_calls_carry_metadata_and_statuses() {
    for tls in [false, true] {
        let line = Line::open(tls).await;
        let mut request = Request::new(text("hello"));
        request.metadata_mut().insert("x-ask", "why".parse().unwrap());
        let response = line.one(request).await.unwrap();
        assert_eq!(response.get_ref().text, "you said hello");
        assert_eq!(response.metadata().get("x-answer").unwrap(), "why");
        let large = "x".repeat(2_000_000);
        let response = line.one(Request::new(text(&large))).await.unwrap();
        assert_eq!(response.get_ref().text.len(), large.len() + 9);
        let status = line.one(Request::new(text("fail"))).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not now: ü"));
        assert_eq!(status.metadata().get("x-why").unwrap(), "because");
        let nowhere = PathAndQuery::from_static("/test.Talk/Nothing");
        let unknown =
            line.caller().await.unary(Request::new(text("")), nowhere, Codec::default()).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert_eq!(line.counted("2xx"), 4.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stream() {
    for tls in [false, true] {
        let line = Line::open(tls).await;
        let words = (0..500).map(|i| text(format!("word{i}")));
        let path = PathAndQuery::from_static("/test.Talk/Collect");
        let mut caller = line.caller().await;
        let request = Request::new(tokio_stream::iter(words));
        let response = within(caller.client_streaming(request, path, Codec::default())).await.unwrap();
        assert_eq!(response.get_ref().text.split(' ').count(), 500);
        assert!(response.get_ref().text.ends_with("word499"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_stream() {
    for tls in [false, true] {
        let line = Line::open(tls).await;
        for (said, expected, code) in [
            ("a b c".to_owned(), vec!["a", "b", "c"], None),
            ("a b fail c".to_owned(), vec!["a", "b"], Some(Code::DataLoss)),
            ("fail".to_owned(), vec![], Some(Code::DataLoss)),
            (vec!["w"; 5_000].join(" "), vec!["w"; 5_000], None),
        ] {
            let path = PathAndQuery::from_static("/test.Talk/Split");
            let mut caller = line.caller().await;
            let call = caller.server_streaming(Request::new(text(said)), path, Codec::default());
            let (words, status) = collected(within(call).await.unwrap().into_inner()).await;
            assert_eq!(
                (words, status.map(|status| status.code())),
                (expected.iter().map(|w| (*w).to_owned()).collect(), code)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_stream_and_wait_for_each_other() {
    for tls in [false, true] {
        let mut line = Line::open(tls).await;
        let (say, said) = mpsc::channel(1);
        let path = PathAndQuery::from_static("/test.Talk/Converse");
        let mut caller = line.caller().await;
        let request = Request::new(ReceiverStream::new(said));
        let mut answers =
            within(caller.streaming(request, path, Codec::default())).await.unwrap().into_inner();
        for round in 0..50 {
            // The next is said only after the last was answered.
            within(say.send(text(format!("round {round}")))).await.unwrap();
            let answer = within(answers.next()).await.unwrap().unwrap();
            assert_eq!(answer.text, format!("round {round}!"));
        }
        drop(say);
        assert!(within(answers.next()).await.is_none());
        assert_eq!(line.notice().await, "dropped");
        assert_eq!(line.counted("2xx"), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_conversations_at_once() {
    let line = Line::open(false).await;
    let conversations = (0..60).map(|number| {
        let line = &line;
        async move {
            let (say, said) = mpsc::unbounded_channel();
            let path = PathAndQuery::from_static("/test.Talk/Converse");
            let request = Request::new(UnboundedReceiverStream::new(said));
            let mut caller = line.caller().await;
            let mut answers =
                within(caller.streaming(request, path, Codec::default())).await.unwrap().into_inner();
            for round in 0..10 {
                say.send(text(format!("{number}/{round}"))).unwrap();
                assert_eq!(within(answers.next()).await.unwrap().unwrap().text, format!("{number}/{round}!"));
            }
        }
    });
    futures_util::future::join_all(conversations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_reaches_the_service_and_ends_the_call() {
    for tls in [false, true] {
        let mut line = Line::open(tls).await;
        let mut request = Request::new(text("wait"));
        request.set_timeout(Duration::from_millis(200));
        let status = line.one(request).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        assert!(line.notice().await.starts_with("waiting Some(\"200000u\")"));
        assert_eq!(line.notice().await, "dropped");
        // The connections are as good as before.
        assert_eq!(line.one(Request::new(text("again"))).await.unwrap().get_ref().text, "you said again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_cancelled_at_the_service() {
    for tls in [false, true] {
        let mut line = Line::open(tls).await;
        let mut caller = line.caller().await;
        let path = PathAndQuery::from_static("/test.Talk/One");
        let call = caller.unary::<_, Text, _>(Request::new(text("wait")), path, Codec::default());
        tokio::select! {
            ended = call => panic!("{ended:?}"),
            noticed = line.noticed.recv() => assert_eq!(noticed.unwrap(), "waiting None"),
        }
        assert_eq!(line.notice().await, "dropped");

        let path = PathAndQuery::from_static("/test.Talk/Split");
        let mut caller = line.caller().await;
        let call = caller.server_streaming(Request::new(text("forever")), path, Codec::default());
        let mut answers: Streaming<Text> = within(call).await.unwrap().into_inner();
        assert_eq!(within(answers.next()).await.unwrap().unwrap().text, "answer 0");
        drop(answers);
        assert_eq!(line.notice().await, "dropped");
        support::eventually("nothing in flight", || {
            line.proxy.metrics().sum("forebay_endpoint_requests_in_flight", &[]) == 0.0
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_is_unavailable() {
    let gone = support::refuses();
    let proxy = Proxy::start(&config(gone.address(), false));
    let endpoint = Endpoint::from_shared(format!("http://{}", proxy.address("edge"))).unwrap();
    let mut caller = Caller::new(within(endpoint.connect()).await.unwrap());
    within(caller.ready()).await.unwrap();
    let path = PathAndQuery::from_static("/test.Talk/One");
    let call = caller.unary::<_, Text, _>(Request::new(text("hello")), path, Codec::default());
    let status = within(call).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "cannot connect; pool app"));
}
