//! A collector of OTLP/gRPC by tonic that keeps what it was sent, and answers as a test wants it to.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::runtime::{Builder, Runtime};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::support::{DEADLINE, Pki, eventually};

/// A running collector. Dropping it closes its connections.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Received>>,
    runtime: Option<Runtime>,
}

/// What came.
#[derive(Default)]
struct Received {
    calls: usize,
    taken: Vec<Taken>,
}

/// One request that was answered with success.
#[derive(Clone)]
pub(crate) struct Taken {
    /// The fields of its head.
    pub(crate) metadata: tonic::metadata::MetadataMap,
    /// Its body.
    pub(crate) request: ExportTraceServiceRequest,
}

/// What is answered to a call, by its number from 0.
pub(crate) type Answer = fn(usize) -> Result<ExportTraceServiceResponse, Status>;

impl Collector {
    /// Takes everything.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Ok(ExportTraceServiceResponse::default()))
    }

    /// Takes what `answer` says.
    pub(crate) fn answering(answer: Answer) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), answer, None)
    }

    /// Takes everything, at an address where there was nobody.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::on(TcpListener::bind(address).unwrap(), |_| Ok(ExportTraceServiceResponse::default()), None)
    }

    /// Takes everything from those whose certificate is of `pki`, and is `collector.pem` itself.
    pub(crate) fn with_tls(pki: &Pki) -> Self {
        let read = |file: &str| std::fs::read(pki.path().join(file)).unwrap();
        let identity = Identity::from_pem(read("collector.pem"), read("collector.key"));
        let tls =
            ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(read("ca.pem")));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, |_| Ok(ExportTraceServiceResponse::default()), Some(tls))
    }

    fn on(listener: TcpListener, answer: Answer, tls: Option<ServerTlsConfig>) -> Self {
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let received = Arc::new(Mutex::new(Received::default()));
        let service = Service { received: Arc::clone(&received), answer };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let router = server.add_service(TraceServiceServer::new(service));
        let entered = runtime.enter();
        let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener).unwrap());
        drop(entered);
        runtime.spawn(async move { router.serve_with_incoming(incoming).await });
        Self { address, received, runtime: Some(runtime) }
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.received.lock().unwrap().calls
    }

    /// What was taken so far.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.received.lock().unwrap().taken.clone()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.taken().into_iter().flat_map(|taken| taken.request.resource_spans);
        requests.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }

    /// All spans, once there are so many.
    #[track_caller]
    pub(crate) fn wait_for(&self, spans: usize) -> Vec<Span> {
        eventually("the arrival of all spans", || self.spans().len() >= spans);
        self.spans()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Until its connections are closed.
            runtime.shutdown_timeout(DEADLINE);
        }
    }
}

struct Service {
    received: Arc<Mutex<Received>>,
    answer: Answer,
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.received.lock().unwrap();
        let answer = (self.answer)(received.calls);
        received.calls += 1;
        let metadata = request.metadata().clone();
        let answer = answer?;
        received.taken.push(Taken { metadata, request: request.into_inner() });
        Ok(Response::new(answer))
    }
}

/// The text of an attribute.
pub(crate) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match value(attributes, key)? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// The number of an attribute.
pub(crate) fn number(attributes: &[KeyValue], key: &str) -> Option<i64> {
    match value(attributes, key)? {
        any_value::Value::IntValue(number) => Some(*number),
        _ => None,
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}
