//! Version 2: sixteen fixed bytes, addresses in binary, then values with a type and a length each.

use std::net::{IpAddr, SocketAddr};

use super::crc32c::crc32c;
use super::{Ends, Header, Malformed, Told, ToldTls};

/// What every header begins with.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of the part that says how long the rest is.
pub const FIXED: usize = 16;
/// The most bytes behind the fixed part that are taken: the format has room for 65,535, of which
/// addresses, names and a certificate need few.
pub const MAX_REST: usize = 4096;

/// What the connection carries of which a header speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A byte stream, as TCP's.
    Stream,
    /// Datagrams, as UDP's.
    Datagram,
}

/// How a header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// What is carried.
    pub transport: Transport,
    /// Whether there is a checksum.
    pub checksum: bool,
}

/// The number of bytes behind the fixed part, which is at the front of `bytes`. `None` when there is
/// more to come of that.
///
/// # Errors
/// When it is of no kind that is known, or they are too many.
pub fn rest(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some((signature, &[kind, family, high, low])) =
        bytes.get(..FIXED).and_then(|fixed| fixed.split_last_chunk::<4>())
    else {
        return Ok(None);
    };
    if signature != SIGNATURE {
        return Err(Malformed::Signature);
    }
    if !matches!(kind, LOCAL | PROXY) {
        return Err(Malformed::Kind);
    }
    // Those of a proxy that speaks for itself are to be ignored.
    if kind == PROXY
        && !matches!(family, UNSPECIFIED | TCP4 | UDP4 | TCP6 | UDP6 | UNIX_STREAM | UNIX_DATAGRAM)
    {
        return Err(Malformed::Kind);
    }
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > MAX_REST { Err(Malformed::TooLong) } else { Ok(Some(rest)) }
}

/// Reads a header from the front of `bytes`, with the number of its bytes. `None` when there is more to
/// come.
///
/// # Errors
/// When it is malformed or too long.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(rest) = rest(bytes)? else { return Ok(None) };
    let Some(header) = bytes.get(..FIXED + rest) else { return Ok(None) };
    let (Some(&[.., kind, family, _, _]), Some(rest)) = (header.first_chunk::<FIXED>(), header.get(FIXED..))
    else {
        return Err(Malformed::Kind);
    };
    Ok(Some((read(header, (kind, family), rest)?, header.len())))
}

/// Writes that what follows is for a client's connection, of which `header` says what is known.
/// A value that is longer than it may be is left out.
pub fn encode(header: &Header, style: Style, out: &mut Vec<u8>) {
    let start = out.len();
    let ends = header.ends.map(Ends::aligned);
    let family = match (ends.map(|ends| ends.source.is_ipv4()), style.transport) {
        (None, _) => UNSPECIFIED,
        (Some(true), Transport::Stream) => TCP4,
        (Some(true), Transport::Datagram) => UDP4,
        (Some(false), Transport::Stream) => TCP6,
        (Some(false), Transport::Datagram) => UDP6,
    };
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[PROXY, family, 0, 0]);
    if let Some(Ends { source, destination }) = ends {
        put_ip(source.ip(), out);
        put_ip(destination.ip(), out);
        out.extend_from_slice(&source.port().to_be_bytes());
        out.extend_from_slice(&destination.port().to_be_bytes());
    }
    put_told(&header.told, out);
    if style.checksum {
        put(CRC32C, &[0; 4], out);
    }
    let rest = u16::try_from(out.len() - start - FIXED).unwrap_or(u16::MAX).to_be_bytes();
    if let Some(length) = out.get_mut(start + FIXED - 2..start + FIXED) {
        length.copy_from_slice(&rest);
    }
    if style.checksum {
        let checksum = crc32c(&[out.get(start..).unwrap_or_default()]);
        if let Some(place) = out.last_chunk_mut::<4>() {
            *place = checksum.to_be_bytes();
        }
    }
}

/// Writes that what follows is the proxy's own, such as a check.
pub fn encode_local(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[LOCAL, UNSPECIFIED, 0, 0]);
}

fn read(header: &[u8], (kind, family): (u8, u8), rest: &[u8]) -> Result<Header, Malformed> {
    if kind == LOCAL {
        return Ok(Header::default());
    }
    let cut = Malformed::Addresses;
    let (ends, values) = match family {
        TCP4 | UDP4 => {
            let (addresses, values) = rest.split_at_checked(12).ok_or(cut)?;
            (Some(ends::<4>(addresses).ok_or(cut)?), values)
        }
        TCP6 | UDP6 => {
            let (addresses, values) = rest.split_at_checked(36).ok_or(cut)?;
            (Some(ends::<16>(addresses).ok_or(cut)?), values)
        }
        UNIX_STREAM | UNIX_DATAGRAM => (None, rest.get(216..).ok_or(cut)?),
        // What stands there may be addresses of a kind that nobody knows.
        _ => return Ok(Header { ends: None, told: told(header, rest).unwrap_or_default() }),
    };
    Ok(Header { ends, told: told(header, values)? })
}

/// Two addresses of `N` bytes, then two ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, bytes) = bytes.split_first_chunk::<N>()?;
    let (destination, bytes) = bytes.split_first_chunk::<N>()?;
    let (from, to) = bytes.split_first_chunk::<2>()?;
    let end = |ip: &[u8; N], port: [u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(port));
    Some(Ends { source: end(source, *from), destination: end(destination, to.try_into().ok()?) })
}

/// Reads values, of which those that nobody knows are ignored, and of two of one type the last counts. There
/// is one checksum at most.
fn told(header: &[u8], values: &[u8]) -> Result<Told, Malformed> {
    let mut told = Told::default();
    let mut values = Values(values);
    let mut is_checked = false;
    while let Some(value) = values.next() {
        let (kind, value) = value?;
        match kind {
            ALPN => told.alpn = bounded(value, MAX_NAME).map(Into::into),
            AUTHORITY => told.authority = text(value),
            UNIQUE_ID if value.len() > MAX_UNIQUE_ID => return Err(Malformed::Values),
            UNIQUE_ID => told.unique_id = bounded(value, MAX_UNIQUE_ID).map(Into::into),
            // Of thousands, each would take a walk over the whole header.
            CRC32C if is_checked => return Err(Malformed::Values),
            CRC32C => {
                check(header, value, values.0.len())?;
                is_checked = true;
            }
            TLS => told.tls = told_tls(value)?,
            _ => {}
        }
    }
    Ok(told)
}

fn told_tls(value: &[u8]) -> Result<Option<ToldTls>, Malformed> {
    let (&[client, ref verify @ ..], values) = value.split_first_chunk::<5>().ok_or(Malformed::Values)?;
    let shown = client & (SHOWN_NOW | SHOWN_IN_SESSION);
    let verified = shown != 0 && *verify == [0; 4];
    let mut tls = ToldTls { shown, verified, ..ToldTls::default() };
    for value in Values(values) {
        match value? {
            (TLS_VERSION, value) => tls.version = text(value),
            (TLS_SUBJECT, value) => tls.subject = text(value),
            _ => {}
        }
    }
    Ok((client & OVER_TLS != 0).then_some(tls))
}

/// Whether `value`, which is within `header` and has `left` bytes behind it, is the checksum of the whole.
fn check(header: &[u8], value: &[u8], left: usize) -> Result<(), Malformed> {
    let stated = value.try_into().map_err(|_| Malformed::Values).map(u32::from_be_bytes)?;
    let (before, after) = header.split_at_checked(header.len() - left).ok_or(Malformed::Values)?;
    let before = before.strip_suffix(value).ok_or(Malformed::Values)?;
    if crc32c(&[before, &[0; 4], after]) == stated { Ok(()) } else { Err(Malformed::Checksum) }
}

/// Values one after the other, up to and including the first that is cut short.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = std::mem::take(&mut self.0);
        if left.is_empty() {
            return None;
        }
        let value = left.split_first_chunk::<3>().and_then(|(&[kind, high, low], rest)| {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            self.0 = rest;
            Some((kind, value))
        });
        Some(value.ok_or(Malformed::Values))
    }
}

/// The value, unless it is empty or longer than it may be.
fn bounded(value: &[u8], most: usize) -> Option<&[u8]> {
    (1..=most).contains(&value.len()).then_some(value)
}

/// The value as text of a length that a name may have, without control characters: it gets into logs.
fn text(value: &[u8]) -> Option<Box<str>> {
    let text = std::str::from_utf8(bounded(value, MAX_NAME)?).ok()?;
    (!text.contains(char::is_control)).then(|| text.into())
}

fn put_told(told: &Told, out: &mut Vec<u8>) {
    put_bounded(ALPN, told.alpn.as_deref(), MAX_NAME, out);
    put_bounded(AUTHORITY, told.authority.as_deref().map(str::as_bytes), MAX_NAME, out);
    put_bounded(UNIQUE_ID, told.unique_id.as_deref(), MAX_UNIQUE_ID, out);
    let Some(tls) = &told.tls else { return };
    let verify = u32::from(!tls.verified).to_be_bytes();
    let mut value = vec![OVER_TLS | tls.shown & (SHOWN_NOW | SHOWN_IN_SESSION)];
    value.extend_from_slice(&verify);
    put_bounded(TLS_VERSION, tls.version.as_deref().map(str::as_bytes), MAX_NAME, &mut value);
    put_bounded(TLS_SUBJECT, tls.subject.as_deref().map(str::as_bytes), MAX_NAME, &mut value);
    put(TLS, &value, out);
}

fn put_bounded(kind: u8, value: Option<&[u8]>, most: usize, out: &mut Vec<u8>) {
    if let Some(value) = value.and_then(|value| bounded(value, most)) {
        put(kind, value, out);
    }
}

fn put(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let Ok(length) = u16::try_from(value.len()) else { return };
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

fn put_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

// Version and command.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
// Address family and transport.
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
// Types of values.
const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const TLS: u8 = 0x20;
const TLS_VERSION: u8 = 0x21;
const TLS_SUBJECT: u8 = 0x22;
// What the client did, in the value of TLS.
const OVER_TLS: u8 = 0x01;
const SHOWN_NOW: u8 = 0x02;
const SHOWN_IN_SESSION: u8 = 0x04;
/// The bytes of the longest name that is taken, which is that of DNS and of ALPN.
const MAX_NAME: usize = 255;
const MAX_UNIQUE_ID: usize = 128;
