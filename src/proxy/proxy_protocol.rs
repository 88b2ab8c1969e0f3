//! Who a client is by the word of a proxy before us, and in which words endpoints are told. Whose word is
//! taken is the listener's settings; the form of a header is `wire`'s.

use std::net::SocketAddr;
use std::rc::Rc;

use super::{Arrival, Live};
use crate::ambient;
use crate::model::settings::{HeaderVersion, HeadersIn, HeadersOut};
use crate::net::proxy_protocol::{ReadError, read};
use crate::net::stream::Socket;
use crate::observe::metrics::Introduction;
use crate::upstream::Listener;
use crate::wire::proxy_protocol::v2::{Style, Transport};
use crate::wire::proxy_protocol::{Ends, Header, Told, ToldTls, canonical, v1, v2};

/// What is known of a connection besides its ends as they are.
#[derive(Debug, Default)]
pub(super) struct Introduced {
    /// What the client connected to, as the first proxy saw it.
    pub(super) destination: Option<SocketAddr>,
    /// What a proxy told of it.
    pub(super) told: Told,
}

/// Reads the header that a connection begins with, if one is to be read: from then on, the client is whom
/// it names. `None` when the connection is to be closed, which is counted.
pub(super) async fn introduce(
    arrival: &mut Arrival,
    listener: &Listener,
    headers: &HeadersIn,
    socket: &Socket,
) -> Option<()> {
    let result = match headers.believes(arrival.client.map(|peer| peer.ip())) {
        true => match read(socket, headers.timeout).await {
            Ok(Some(header)) => {
                adopt(arrival, header);
                Introduction::Read
            }
            Ok(None) => Introduction::Missing,
            Err(error) => {
                tracing::debug!(
                    listener = %listener.name,
                    peer = ?arrival.client,
                    error = &error as &dyn std::error::Error,
                    "no PROXY protocol header"
                );
                of_error(&error)
            }
        },
        false => Introduction::Untrusted,
    };
    let is_one_without = matches!(result, Introduction::Missing | Introduction::Untrusted);
    if is_one_without && !headers.required {
        return Some(());
    }
    listener.metrics.introduced(arrival.worker.shard, result);
    (result == Introduction::Read).then_some(())
}

/// The bytes that tell an endpoint of a client, `id` being that of the request, if it is one. The address of
/// our end is asked for with `own` where nobody told what the client connected to.
#[must_use]
pub(super) fn preface(
    live: &Live,
    headers: HeadersOut,
    id: Option<&[u8]>,
    own: impl FnOnce() -> Option<SocketAddr>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL);
    let told_of = live.introduced().and_then(|introduced| introduced.destination);
    let ends = live.peer().and_then(|source| {
        let destination = told_of.or_else(own)?;
        Some(Ends { source, destination })
    });
    match headers.version {
        HeaderVersion::V1 => v1::encode(ends, &mut out),
        HeaderVersion::V2 => {
            let header = Header { ends, told: told(live, headers, id) };
            let style = Style { transport: Transport::Stream, checksum: headers.told.checksum };
            v2::encode(&header, style, &mut out);
        }
    }
    out
}

/// Takes over what `header` says.
fn adopt(arrival: &mut Arrival, header: Header) {
    let mut introduced = Introduced { destination: None, told: header.told };
    if let Some(ends) = header.ends {
        let client = canonical(ends.source);
        arrival.client = Some(client);
        arrival.live.believe(client);
        introduced.destination = Some(canonical(ends.destination));
    }
    arrival.live.introduce(Rc::new(introduced));
}

fn of_error(error: &ReadError) -> Introduction {
    match error {
        ReadError::Silent => Introduction::Silent,
        ReadError::Cut | ReadError::Io(_) => Introduction::Cut,
        ReadError::Timeout(_) => Introduction::Late,
        ReadError::Malformed(_) => Introduction::Malformed,
    }
}

fn told(live: &Live, headers: HeadersOut, id: Option<&[u8]>) -> Told {
    let known = live.introduced().map(|introduced| &introduced.told);
    let wanted = headers.told;
    let mut told = Told::default();
    if wanted.sni {
        told.authority = live.sni().map(Into::into);
    }
    if wanted.alpn {
        let own = || live.tls().and_then(|tls| tls.alpn.clone());
        told.alpn = known.and_then(|known| known.alpn.clone()).or_else(own);
    }
    if wanted.unique_id {
        let given = known.and_then(|known| known.unique_id.clone());
        told.unique_id = Some(given.or_else(|| id.map(Into::into)).unwrap_or_else(made));
    }
    if wanted.tls {
        let own = || live.tls().filter(|tls| tls.version.is_some());
        let own = || own().map(|tls| ToldTls { version: tls.version.map(Into::into), ..ToldTls::default() });
        told.tls = known.and_then(|known| known.tls.clone()).or_else(own);
    }
    told
}

/// A new id, of 32 digits.
pub(super) fn made() -> Box<[u8]> {
    format!("{:016x}{:016x}", ambient::draw(), ambient::draw()).into_bytes().into()
}

/// Bytes of most headers.
const USUAL: usize = 128;
