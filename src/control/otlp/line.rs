//! The connection to a collector: opened when there is something to send, kept while it lasts, and opened
//! again. Knows both protocols of OTLP, and of what is sent its bytes alone.
//!
//! Nothing of what comes back is believed to be well-formed or short.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, RETRY_AFTER, TE, USER_AGENT};
use http::request::Builder;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Outcome, code_for};
use super::read::{Status, Taken, shown};
use crate::ambient;
use crate::config::plan::{OtlpPlan, OtlpProtocol};
use crate::model::{Address, Target};
use crate::net::connect::{Dial, DialError, DialTimeouts, Onward, Steps, dial};
use crate::net::stream::Stream;

/// A collector, and the connection to it if there is one.
#[derive(Debug)]
pub(super) struct Line {
    plan: OtlpPlan,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    sender: Sender,
    /// Moves the bytes; ends with this.
    _driver: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Grpc(h2::client::SendRequest<Bytes>),
    Http(http1::SendRequest<Full<Bytes>>),
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the name {0} has no address")]
    Nowhere(String, #[source] Option<io::Error>),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("HTTP/2 failed")]
    Http2(#[from] h2::Error),
    #[error("HTTP failed")]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is longer than {LONGEST_ANSWER} bytes")]
    TooLong,
}

impl Line {
    /// To the collector of `plan`; nothing is opened yet.
    pub(super) fn new(plan: OtlpPlan) -> Self {
        Self { plan, open: None }
    }

    /// Whom it leads to, and how.
    pub(super) fn plan(&self) -> &OtlpPlan {
        &self.plan
    }

    /// Sends an `ExportTraceServiceRequest` and waits for the answer, for as long as the plan says.
    pub(super) async fn send(&mut self, message: &Bytes) -> Outcome {
        let limit = self.plan.timeout;
        let outcome = timeout(limit, self.try_both(message)).await;
        outcome.unwrap_or_else(|_| {
            self.open = None;
            Outcome::unanswered(format_args!("no answer within {}", crate::model::units::show(limit)))
        })
    }

    /// On the connection that is open, and if that was closed meanwhile, on another.
    async fn try_both(&mut self, message: &Bytes) -> Outcome {
        let kept = self.open.is_some();
        let mut answer = self.exchange(message).await;
        if kept && answer.is_err() {
            answer = self.exchange(message).await;
        }
        answer.unwrap_or_else(|error| Outcome::unanswered(in_words(&error)))
    }

    async fn exchange(&mut self, message: &Bytes) -> Result<Outcome, Failed> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => open(&self.plan).await?,
        };
        let outcome = match &mut open.sender {
            Sender::Grpc(sender) => call(sender.clone(), &self.plan, message).await?,
            Sender::Http(sender) => post(sender, &self.plan, message).await?,
        };
        self.open = Some(open);
        Ok(outcome)
    }
}

async fn open(plan: &OtlpPlan) -> Result<Open, Failed> {
    let stream = connect(plan).await?;
    let mut driver = JoinSet::new();
    let sender = match plan.protocol {
        OtlpProtocol::Grpc => {
            let mut settings = h2::client::Builder::new();
            settings
                .enable_push(false)
                .max_header_list_size(LONGEST_HEAD)
                .initial_window_size(WINDOW)
                .initial_connection_window_size(WINDOW);
            let (sender, connection) = settings.handshake(stream).await?;
            // How it ends, whoever sends the next message learns.
            driver.spawn(async move { drop(connection.await) });
            Sender::Grpc(sender)
        }
        OtlpProtocol::Http => {
            let mut settings = http1::Builder::new();
            settings.max_buf_size(LONGEST_HEAD as usize);
            let (sender, connection) = settings.handshake(TokioIo::new(stream)).await?;
            driver.spawn(async move { drop(connection.await) });
            Sender::Http(sender)
        }
    };
    Ok(Open { sender, _driver: driver })
}

/// To the first of the collector's addresses that takes a connection.
async fn connect(plan: &OtlpPlan) -> Result<Stream, Failed> {
    let tls = plan.tls.as_ref().map(|(tls, name)| (std::sync::Arc::clone(&tls.config), name.clone()));
    let addresses = addresses(&plan.target).await?;
    // One that does not answer leaves time for the others.
    let connect = plan.timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let timeouts = DialTimeouts { connect, tls_handshake: plan.timeout };
    let mut failed = None;
    for address in addresses {
        let steps = Steps::begin(ambient::now());
        let dials = Dial { address, tls: tls.clone(), socket: None };
        match dial(&dials, timeouts, &Onward::default(), &steps).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.map_or_else(|| Failed::Nowhere(plan.authority.clone(), None), Failed::Dial))
}

async fn addresses(target: &Target) -> Result<Vec<Address>, Failed> {
    match target {
        Target::Address(address) => Ok(vec![address.clone()]),
        Target::Host { name, port } => {
            let found = lookup_host((&**name, *port)).await;
            let found = found.map_err(|error| Failed::Nowhere(name.to_string(), Some(error)))?;
            Ok(found.take(MOST_ADDRESSES).map(Address::Inet).collect())
        }
    }
}

/// One call of OTLP/gRPC (gRPC over HTTP2, "Requests" and "Responses").
async fn call(
    sender: h2::client::SendRequest<Bytes>,
    plan: &OtlpPlan,
    message: &Bytes,
) -> Result<Outcome, Failed> {
    let mut sender = sender.ready().await?;
    let request = request(plan, SERVICE, Version::HTTP_2)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("grpc-timeout", format!("{}m", plan.timeout.as_millis()));
    let Ok(request) = request.body(()) else { return Ok(Outcome::Refused(UNFIT.to_owned())) };
    let (answer, mut body) = sender.send_request(request, false)?;
    let mut prefix = BytesMut::with_capacity(5);
    // Not compressed, and so long: no batch comes near the most that fits.
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    body.send_data(prefix.freeze(), false)?;
    body.send_data(message.clone(), true)?;
    let (head, mut body) = answer.await?.into_parts();
    if head.headers.contains_key(GRPC_STATUS) {
        return Ok(called(head.status, &head.headers, &[]));
    }
    let mut came = Vec::new();
    while let Some(data) = body.data().await {
        came.extend_from_slice(&data?);
        if came.len() > LONGEST_ANSWER {
            return Err(Failed::TooLong);
        }
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(called(head.status, &trailers, came.get(5..).unwrap_or_default()))
}

/// What a call came to, from the fields that its status is in.
fn called(status: StatusCode, fields: &HeaderMap, answer: &[u8]) -> Outcome {
    let text = |name| fields.get(name).map(|value| value.as_bytes());
    let code = text(GRPC_STATUS).map(|code| str::from_utf8(code).ok()?.parse().ok());
    let code = code.unwrap_or_else(|| Some(code_for(status))).unwrap_or(UNKNOWN);
    if code == 0 {
        return Outcome::Taken(Taken::read(answer));
    }
    let details = text("grpc-status-details-bin").and_then(|details| BASE64.decode(details).ok());
    let mut status = Status::read(details.as_deref().unwrap_or_default());
    if let Some(message) = text("grpc-message") {
        status.message = shown(message);
    }
    Outcome::of_call(code, status)
}

/// One request of OTLP/HTTP.
async fn post(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    plan: &OtlpPlan,
    message: &Bytes,
) -> Result<Outcome, Failed> {
    sender.ready().await?;
    let request = request(plan, TRACES, Version::HTTP_11)
        .header(HOST, plan.authority.as_str())
        .header(CONTENT_TYPE, "application/x-protobuf");
    let request = request.body(Full::new(message.clone()));
    let Ok(request) = request else { return Ok(Outcome::Refused(UNFIT.to_owned())) };
    let (head, body) = sender.send_request(request).await?.into_parts();
    let came = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(Failed::Body)?.to_bytes();
    // 200 is what it should be, and others are seen.
    if head.status.is_success() {
        return Ok(Outcome::Taken(Taken::read(&came)));
    }
    let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Ok(Outcome::of_response(head.status, &Status::read(&came), after.map(Duration::from_secs)))
}

fn request(plan: &OtlpPlan, path: &str, version: Version) -> Builder {
    let prefix = &plan.prefix;
    let uri = match (version, &plan.tls) {
        (Version::HTTP_11, _) => format!("{prefix}{path}"),
        (_, None) => format!("http://{}{path}", plan.authority),
        (_, Some(_)) => format!("https://{}{path}", plan.authority),
    };
    let request = Request::builder().method(Method::POST).uri(uri).version(version);
    let request = request.header(USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")));
    plan.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// The error with its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// Collectors differ in whether they pad (gRPC over HTTP2, "Binary-Header").
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const SERVICE: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TRACES: &str = "/v1/traces";
const GRPC_STATUS: &str = "grpc-status";
/// The code of a call whose own cannot be read.
const UNKNOWN: u16 = 2;
const UNFIT: &str = "a request to this address cannot be written";
/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 8;
/// Of an answer, in bytes. What collectors have to say takes a few hundred.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Of an answer's header fields, in bytes.
const LONGEST_HEAD: u32 = 32 * 1024;
/// So much may come without being asked for: more than the longest answer, so that none waits.
const WINDOW: u32 = 128 * 1024;
