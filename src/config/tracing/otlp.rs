//! `[tracing.otlp]`: the collector that finished spans are sent to. What it is told of this process besides
//! what is written here, and how it is spoken to, is not known here.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls_pki_types::ServerName;

use crate::config::plan::{EndpointPlan, UpstreamTls};
use crate::config::{Cx, tls};
use crate::model::options::{Fault, FromValue, Given, Key, OneOf, Options, Value};
use crate::model::settings::UpstreamProtocol;
use crate::model::{Address, Fingerprint, Target};

/// Where finished spans are sent to, and how.
#[derive(Debug, Clone)]
pub struct OtlpPlan {
    /// Tells it from one in which anything else is written, or in whose files anything else is.
    pub fingerprint: Fingerprint,
    /// Which of the two protocols.
    pub protocol: OtlpProtocol,
    /// Where the collector is.
    pub target: Target,
    /// What it is called in requests.
    pub authority: String,
    /// What the path of requests begins with; empty, or with a slash at its beginning and none at its end.
    pub prefix: String,
    /// TLS, with the name to verify, if any.
    pub tls: Option<(UpstreamTls, ServerName<'static>)>,
    /// Fields of every request, marked as sensitive.
    pub headers: HeaderMap,
    /// How long one try may take, from the connection to the end of the answer.
    pub timeout: Duration,
    /// How long spans may wait for more of them.
    pub interval: Duration,
    /// Spans that are sent together, at most.
    pub batch: usize,
    /// What the collector is told of whose spans these are, `service.name` included.
    pub resource: Vec<(String, String)>,
}

impl PartialEq for OtlpPlan {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// The protocols of OTLP that are spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// OTLP/gRPC.
    #[default]
    Grpc,
    /// OTLP/HTTP with bodies in binary.
    Http,
}

/// Reads the collector; `None` when none is written, or when it is unfit and reported.
pub(super) fn otlp(tracing: &Options<'_>, cx: &Cx<'_>) -> Option<OtlpPlan> {
    let options = tracing.table("otlp")?;
    let mark = cx.files.mark();
    let protocol = options.get_or("protocol", OtlpProtocol::default());
    let endpoint = match options.given("endpoint") {
        Some(given) => endpoint(&given, protocol),
        None => Some(Endpoint::usual(protocol)),
    };
    let tls = endpoint.as_ref().map(|endpoint| tls(&options, endpoint, protocol, cx));
    let headers = options.table("headers").map(|table| headers(&table)).unwrap_or_default();
    let timeout = options.within("timeout", TIMEOUT, DEFAULT_TIMEOUT);
    let interval = options.within("interval", INTERVAL, DEFAULT_INTERVAL);
    let batch = options.within("batch", BATCH, DEFAULT_BATCH);
    let resource = resource(&options);
    let fingerprint = cx.files.cover(options.fingerprint(), mark);
    options.finish();
    let Endpoint { target, authority, prefix, .. } = endpoint?;
    let tls = tls?;
    Some(OtlpPlan {
        fingerprint,
        protocol,
        target,
        authority,
        prefix,
        tls,
        headers,
        timeout,
        interval,
        batch,
        resource,
    })
}

fn endpoint(given: &Given<'_>, protocol: OtlpProtocol) -> Option<Endpoint> {
    let endpoint: Endpoint = given.read()?;
    if protocol == OtlpProtocol::Grpc && !endpoint.prefix.is_empty() {
        let hint = "leave the path out, or write `protocol = \"http\"`";
        given.fault("gRPC has paths of its own", Some(hint.into()));
    }
    Some(endpoint)
}

/// TLS where the endpoint asks for it.
fn tls(
    options: &Options<'_>,
    endpoint: &Endpoint,
    protocol: OtlpProtocol,
    cx: &Cx<'_>,
) -> Option<(UpstreamTls, ServerName<'static>)> {
    if !endpoint.tls {
        if options.given("tls").is_some() {
            let fault = "`tls` has no meaning without an endpoint that begins with https://";
            options.problem("tls", fault, Some("write one, or leave `tls` out".into()));
        }
        return None;
    }
    let protocol = match protocol {
        OtlpProtocol::Grpc => UpstreamProtocol::Http2,
        OtlpProtocol::Http => UpstreamProtocol::Http1,
    };
    let whom = EndpointPlan { target: endpoint.target.clone(), weight: 1, level: 0, zone: None };
    let tls = tls::client(options.section("tls"), protocol, &[whom], cx)?;
    let name = tls.server_name.clone().or_else(|| endpoint.server_name())?;
    Some((tls, name))
}

fn headers(table: &Options<'_>) -> HeaderMap {
    table.entries().filter_map(|(key, given)| header(key, &given)).collect()
}

fn header(key: &Key, given: &Given<'_>) -> Option<(HeaderName, HeaderValue)> {
    let Ok(name) = HeaderName::from_bytes(key.name.as_bytes()) else {
        given.fault(format!("{:?} cannot be the name of a header field", key.name), None);
        return None;
    };
    if OURS.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
        given.fault(format!("`{name}` is written for each request"), Some("leave it out".into()));
        return None;
    }
    let mut value: HeaderValue = given.read()?;
    value.set_sensitive(true);
    Some((name, value))
}

fn resource(options: &Options<'_>) -> Vec<(String, String)> {
    let service = options.get_or("service", DEFAULT_SERVICE.to_owned());
    let mut resource = vec![(SERVICE_NAME.to_owned(), service)];
    let Some(table) = options.table("resource") else { return resource };
    for (key, given) in table.entries() {
        if key.name == SERVICE_NAME {
            given.fault("this has a key of its own", Some("write `service`".into()));
        }
        resource.extend(given.read::<String>().map(|value| (key.name.clone(), value)));
    }
    resource
}

/// A collector, as `http://HOST:PORT`, the same with `https` and a path, or `unix:/PATH`.
struct Endpoint {
    tls: bool,
    target: Target,
    authority: String,
    prefix: String,
}

impl Endpoint {
    /// The port that a collector of this machine has, by protocol (OTLP specification, "Default Port").
    fn usual(protocol: OtlpProtocol) -> Self {
        let port = match protocol {
            OtlpProtocol::Grpc => 4317,
            OtlpProtocol::Http => 4318,
        };
        let address = ([127, 0, 0, 1], port).into();
        let target = Target::Address(Address::Inet(address));
        Self { tls: false, target, authority: address.to_string(), prefix: String::new() }
    }

    /// The name that its certificate is to be for; `None` for a socket of this machine.
    fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.target {
            Target::Address(address) => address.inet().map(|address| address.ip().into()),
            Target::Host { name, .. } => ServerName::try_from(name.to_string()).ok(),
        }
    }
}

impl FromValue for Endpoint {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let text = value.text("where a collector is, such as \"http://127.0.0.1:4317\"")?;
        if text.starts_with("unix:/") {
            let target = text.parse().map_err(Fault::new)?;
            return Ok(Self { tls: false, target, authority: "localhost".into(), prefix: String::new() });
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => {
                let fault = Fault::new(format_args!("{text:?} is no address of a collector"));
                return Err(fault.hint("write it as in \"http://127.0.0.1:4317\" or \"unix:/PATH\""));
            }
        };
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let prefix = prefix.trim_end_matches('/').to_owned();
        let plain = PathAndQuery::try_from(prefix.as_str()).is_ok_and(|path| path.query().is_none());
        if !(prefix.is_empty() || plain) || prefix.contains('#') {
            return Err(Fault::new(format_args!("{prefix:?} is not the path of a collector")));
        }
        let target = authority.parse().map_err(Fault::new)?;
        Ok(Self { tls, target, authority: authority.to_ascii_lowercase(), prefix })
    }
}

impl OneOf for OtlpProtocol {
    const NOUN: &'static str = "protocol of OTLP";
    const WORDS: &'static [(&'static str, Self)] = &[("grpc", Self::Grpc), ("http", Self::Http)];
}

/// Fields that follow from what is sent and how.
const OURS: [&str; 9] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];
const SERVICE_NAME: &str = "service.name";
const DEFAULT_SERVICE: &str = "forebay";
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const BATCH: RangeInclusive<usize> = 1..=8192;
const DEFAULT_BATCH: usize = 1024;
