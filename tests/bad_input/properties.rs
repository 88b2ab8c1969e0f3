//! What has to hold for any bytes at all, of every parser that reads what others wrote. Used by
//! the seeded tests here and by the fuzz targets.

use std::net::IpAddr;
use std::path::Path;

use bytes::Bytes;
use forebay::model::field::Known;
use forebay::model::{Fields, RequestHead, ResponseHead};
use forebay::wire::chunked::{Decoder, Event};
use forebay::wire::encode::{self, Persistence};
use forebay::wire::parse::{self, HeadLimits};
use forebay::wire::proxy_protocol::{self, v1, v2};
use forebay::wire::{Length, Malformed, client_hello, framing};

const LIMITS: HeadLimits = HeadLimits { bytes: 8 * 1024, fields: 64 };

/// A request head is refused, or there is one form of it that reads back as the same request.
pub(crate) fn request_head(data: &[u8]) {
    let mut head = RequestHead::default();
    let Ok(Some(len)) = parse::request(data, &mut head, LIMITS) else { return };
    assert!(len <= data.len() && len <= LIMITS.bytes);
    let mut again = RequestHead::default();
    let part = data.get(..len).unwrap_or_default();
    assert_eq!(parse::request(part, &mut again, LIMITS), Ok(Some(len)), "what follows a head does not count");
    let Ok(length) = framing::of_request(&head) else { return };
    assert!(length != Length::UntilClose);
    head.fields.retain(|known, _, _| !known.is_hop_by_hop());
    let mut written = Vec::new();
    encode::request(&mut written, &head, length, false);
    let read = parse::request(&written, &mut again, HeadLimits { bytes: usize::MAX, fields: 256 });
    assert_eq!(read, Ok(Some(written.len())), "{:?}", String::from_utf8_lossy(&written));
    assert_eq!((&again.method, again.target()), (&head.method, head.target()));
    assert_eq!(again.authority().unwrap_or_default(), head.authority().unwrap_or_default());
    assert_eq!(framing::of_request(&again), Ok(length));
    assert_eq!(end_to_end(&again.fields), end_to_end(&head.fields));
}

/// A response head is refused, or there is one form of it that reads back as the same response.
pub(crate) fn response_head(data: &[u8]) {
    let mut head = ResponseHead::default();
    let Ok(Some(len)) = parse::response(data, &mut head, LIMITS) else { return };
    assert!(len <= data.len());
    assert!((100..600).contains(&head.status.as_u16()));
    let Ok(length) = framing::of_response(&http::Method::GET, &head) else { return };
    head.fields.retain(|known, _, _| !known.is_hop_by_hop());
    let mut written = Vec::new();
    encode::response(&mut written, &head, length == Length::Chunked, Persistence::Default);
    let mut again = ResponseHead::default();
    let read = parse::response(&written, &mut again, HeadLimits { bytes: usize::MAX, fields: 256 });
    assert_eq!(read, Ok(Some(written.len())), "{:?}", String::from_utf8_lossy(&written));
    assert_eq!((again.status, again.reason()), (head.status, head.reason()));
    assert_eq!(framing::of_response(&http::Method::GET, &again), Ok(length));
    assert_eq!(end_to_end(&again.fields), end_to_end(&head.fields));
}

/// A chunked body reads alike however it is cut up, and reads back from how we would write it.
pub(crate) fn chunked_body(data: &[u8]) {
    let whole = decode(data, data.len().max(1));
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(decode(data, piece), whole, "in pieces of {piece}");
    }
    let Outcome { body, end: Some(Ok(trailers)), .. } = whole else { return };
    let mut written = Vec::new();
    if !body.is_empty() {
        encode::chunk_size(&mut written, body.len());
        written.extend_from_slice(&body);
        written.extend_from_slice(b"\r\n");
    }
    let mut fields = Fields::default();
    trailers.iter().for_each(|(name, value)| fields.append(name, value));
    encode::last_chunk(&mut written, Some(&fields));
    let again = decode(&written, written.len());
    assert_eq!((again.body, again.end, again.rest), (body, Some(Ok(trailers)), 0));
}

/// A ClientHello reads alike however it is cut up, and what is read of it is sound.
pub(crate) fn client_hello(data: &[u8]) {
    let whole = client_hello::Reader::default().read(data);
    let mut reader = client_hello::Reader::default();
    let cut = (1..=data.len()).find_map(|len| reader.read(data.get(..len)?).transpose());
    assert_eq!(cut.transpose(), whole, "byte by byte");
    let Ok(Some(hello)) = whole else { return };
    if let Some(name) = &hello.server_name {
        assert!((1..=253).contains(&name.len()) && !name.ends_with('.'), "{name:?}");
        assert!(!name.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii_graphic()), "{name:?}");
    }
    assert!(hello.alpn.iter().all(|protocol| !protocol.is_empty()));
    assert_eq!(hello.alpn.iter().collect::<client_hello::Alpn>(), hello.alpn);
}

/// A PROXY protocol header means the same however much follows it and however it is cut up, and what we
/// write for it reads back alike.
pub(crate) fn proxy_header(data: &[u8]) {
    let whole = proxy_protocol::parse(data);
    let told = (0..data.len()).map(|cut| proxy_protocol::parse(data.get(..cut).unwrap_or_default()));
    let first = told.into_iter().find(|result| *result != Ok(None));
    assert!(first.is_none_or(|first| first == whole), "more bytes changed the meaning");
    let Ok(Some((header, used))) = whole.clone() else { return };
    assert!(used <= data.len() && used <= proxy_protocol::v2::FIXED + proxy_protocol::v2::MAX_REST);
    assert_eq!(proxy_protocol::parse(data.get(..used).unwrap_or_default()), whole);
    for checksum in [false, true] {
        let mut written = Vec::new();
        v2::encode(&header, v2::Style { transport: v2::Transport::Stream, checksum }, &mut written);
        let read = proxy_protocol::parse(&written).expect("we write what can be read").expect("all of it");
        assert_eq!((read.1, &read.0.told), (written.len(), &header.told));
        assert_eq!(canonical(read.0.ends), canonical(header.ends));
    }
    let mut written = Vec::new();
    v1::encode(header.ends, &mut written);
    let read = proxy_protocol::parse(&written).expect("we write what can be read").expect("all of it");
    assert_eq!((read.1, canonical(read.0.ends)), (written.len(), canonical(header.ends)));
}

fn canonical(ends: Option<proxy_protocol::Ends>) -> Option<[(IpAddr, u16); 2]> {
    ends.map(|ends| [ends.source, ends.destination].map(|end| (end.ip().to_canonical(), end.port())))
}

/// A configuration is understood or there is a problem to tell, and the telling works.
pub(crate) fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let reading = forebay::config::read_str("fuzz.toml", &text, &|_| None, Path::new("/nonexistent"));
    let told = reading.report.to_string();
    assert!(reading.plan.is_some() || !told.is_empty());
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What came of decoding.
#[derive(Debug, PartialEq)]
struct Outcome {
    body: Vec<u8>,
    /// The trailers or what was wrong; `None` when the body did not end.
    end: Option<Result<Pairs, Malformed>>,
    /// Bytes behind the end.
    rest: usize,
}

fn decode(data: &[u8], piece: usize) -> Outcome {
    let mut decoder = Decoder::default();
    let mut body = Vec::new();
    let mut used = 0;
    for part in data.chunks(piece) {
        let mut part = Bytes::copy_from_slice(part);
        let len = part.len();
        loop {
            match decoder.decode(&mut part) {
                Ok(Some(Event::Data(data))) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Ok(Some(Event::End(trailers))) => {
                    assert!(decoder.is_done());
                    let trailers = trailers.map_or_else(Vec::new, |fields| pairs(&fields));
                    let rest = data.len() - used - (len - part.len());
                    return Outcome { body, end: Some(Ok(trailers)), rest };
                }
                Ok(None) => break,
                Err(fault) => return Outcome { body, end: Some(Err(fault)), rest: 0 },
            }
        }
        assert!(part.is_empty(), "a decoder that wants more has taken all there was");
        used += len;
    }
    Outcome { body, end: None, rest: 0 }
}

fn pairs(fields: &Fields) -> Pairs {
    fields.iter().map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Fields besides those that we write ourselves.
fn end_to_end(fields: &Fields) -> Pairs {
    let own = |known| matches!(known, Known::ContentLength | Known::TransferEncoding | Known::Connection);
    let kept = fields.iter().filter(|(known, _, _)| !own(*known));
    kept.map(|(_, name, value)| (name.to_vec(), value.to_vec())).collect()
}
