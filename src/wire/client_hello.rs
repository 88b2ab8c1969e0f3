//! What a TLS client says first (RFC 8446 §4.1.2), read far enough to route by it: the name it asks for,
//! the protocols it offers, the version. Pure and incremental: bytes in pieces of any size, the message
//! over any number of records. Does not negotiate, and alters nothing.

use std::fmt;
use std::net::Ipv4Addr;

use thiserror::Error;

/// What of a ClientHello routing goes by. With Encrypted Client Hello, this is the outer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The DNS name that the client asks for (SNI, RFC 6066 §3), in lower case and without the dot of the
    /// root. `None` also for an IPv4 address, which is no name.
    pub server_name: Option<Box<str>>,
    /// The application protocols that it offers (RFC 7301 §3.1), its favourite first.
    pub alpn: Alpn,
    /// The newest version that it offers of those up to TLS 1.3: 0x0304 is TLS 1.3, 0x0303 is TLS 1.2.
    pub version: u16,
}

/// Application protocols in a client's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alpn {
    /// Each behind a byte with its length, which is at least 1.
    list: Box<[u8]>,
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoHello {
    /// They are no TLS record with a handshake message.
    #[error("not a TLS handshake")]
    NotTls,
    /// A handshake message, but not this one.
    #[error("the first handshake message is no ClientHello")]
    OtherMessage,
    /// The message or its records have more bytes than [`MAX_MESSAGE`] and [`MAX_BYTES`] say.
    #[error("the ClientHello is too large")]
    TooLarge,
    /// A length inside does not fit, or a value is not allowed.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// The name is no DNS name, or there are several.
    #[error("the server name is malformed")]
    ServerName,
}

/// Reads one ClientHello.
#[derive(Debug, Default)]
pub struct Reader {
    /// How many bytes of records were read to their end.
    used: usize,
    /// The message so far, where one record does not hold all of it.
    message: Vec<u8>,
}

impl Reader {
    /// Reads on: `received` is all that the client sent so far, what was given before in front. `None`
    /// while more is needed. What follows the message is not looked at.
    ///
    /// # Errors
    /// When no ClientHello can come of it, as soon as that is sure.
    pub fn read(&mut self, received: &[u8]) -> Result<Option<ClientHello>, NoHello> {
        let received = received.get(..MAX_BYTES).unwrap_or(received);
        while let Some(record) = record(received.get(self.used..).unwrap_or_default())? {
            let is_complete = record.payload.len() == record.len;
            if self.message.is_empty()
                && let Some(hello) = message(record.payload, is_complete)?
            {
                return Ok(Some(hello));
            }
            if !is_complete {
                break;
            }
            self.used += HEADER + record.len;
            self.message.extend_from_slice(record.payload);
            if let Some(hello) = message(&self.message, true)? {
                return Ok(Some(hello));
            }
        }
        if received.len() == MAX_BYTES { Err(NoHello::TooLarge) } else { Ok(None) }
    }
}

impl ClientHello {
    /// The newest version that it offers, as people write it; `None` for one without a name.
    #[must_use]
    pub fn version_name(&self) -> Option<&'static str> {
        match self.version {
            TLS13 => Some("TLSv1.3"),
            TLS12 => Some("TLSv1.2"),
            0x0302 => Some("TLSv1.1"),
            0x0301 => Some("TLSv1.0"),
            _ => None,
        }
    }
}

impl Alpn {
    /// The protocols, none of them empty.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Rest(&self.list);
        std::iter::from_fn(move || rest.short().ok())
    }

    /// Whether `protocol` is among them.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.iter().any(|offered| offered == protocol)
    }
}

impl<'a> FromIterator<&'a [u8]> for Alpn {
    /// Leaves out what is empty or has more than 255 bytes, which the protocol cannot say.
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(protocols: I) -> Self {
        let mut list = Vec::new();
        for protocol in protocols {
            if let Ok(len @ 1..) = u8::try_from(protocol.len()) {
                list.push(len);
                list.extend_from_slice(protocol);
            }
        }
        Self { list: list.into() }
    }
}

impl fmt::Display for Alpn {
    /// With commas in between; bytes that are not plain ASCII as escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, protocol) in self.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{}", protocol.escape_ascii())?;
        }
        Ok(())
    }
}

/// A record, of whose payload as much is there as was received.
struct Record<'a> {
    /// Bytes of the whole payload.
    len: usize,
    payload: &'a [u8],
}

/// The record at the front of `bytes` (RFC 8446 §5.1); `None` while its header is not complete. Every
/// byte of the header is judged as soon as it is there.
fn record(bytes: &[u8]) -> Result<Option<Record<'_>>, NoHello> {
    let (header, payload) = bytes.split_at_checked(HEADER).unwrap_or((bytes, &[]));
    let is_tls = match header {
        [] => true,
        [kind] => *kind == HANDSHAKE,
        [kind, major, ..] => *kind == HANDSHAKE && *major == MAJOR,
    };
    let &[_, _, minor, high, low] = header else {
        return if is_tls { Ok(None) } else { Err(NoHello::NotTls) };
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    // No record of a handshake is empty, so that a client cannot send them without end.
    if !is_tls || minor > MAX_MINOR || !(1..=MAX_RECORD).contains(&len) {
        return Err(NoHello::NotTls);
    }
    Ok(Some(Record { len, payload: payload.get(..len).unwrap_or(payload) }))
}

/// The ClientHello in `bytes`, of which `is_complete` says whether a record ends with them; `None` while some
/// of it is missing. A record that goes on behind the message is refused: no key change may lie within a
/// record, and nothing else may come before one (RFC 8446 §5.1).
fn message(bytes: &[u8], is_complete: bool) -> Result<Option<ClientHello>, NoHello> {
    if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(NoHello::OtherMessage);
    }
    let Some((&[_, a, b, c], rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if len > MAX_MESSAGE - 4 {
        return Err(NoHello::TooLarge);
    }
    let Some((body, behind)) = rest.split_at_checked(len) else { return Ok(None) };
    if !behind.is_empty() {
        return Err(NoHello::Malformed);
    }
    if is_complete { hello(body).map(Some) } else { Ok(None) }
}

fn hello(body: &[u8]) -> Result<ClientHello, NoHello> {
    let mut rest = Rest(body);
    let legacy_version = rest.u16()?;
    let _random = rest.take(32)?;
    let session = rest.short()?;
    let suites = rest.long()?;
    let compressions = rest.short()?;
    let sound = legacy_version >> 8 == u16::from(MAJOR)
        && session.len() <= 32
        && !suites.is_empty()
        && suites.len() % 2 == 0
        && !compressions.is_empty();
    if !sound {
        return Err(NoHello::Malformed);
    }
    let mut found = Extensions::default();
    // Clients of TLS 1.2 may leave the list out altogether (RFC 5246 §7.4.1.2).
    if !rest.is_empty() {
        let mut list = Rest(rest.long()?);
        while !list.is_empty() {
            found.add(list.u16()?, list.long()?)?;
        }
        rest.end()?;
    }
    let version = found.version.unwrap_or(legacy_version.min(TLS12));
    let server_name = found.server_name.unwrap_or_default();
    Ok(ClientHello { server_name, alpn: found.alpn.unwrap_or_default(), version })
}

/// The extensions that are read. Each may be there once (RFC 8446 §4.2).
#[derive(Default)]
struct Extensions {
    server_name: Option<Option<Box<str>>>,
    alpn: Option<Alpn>,
    version: Option<u16>,
}

impl Extensions {
    fn add(&mut self, kind: u16, data: &[u8]) -> Result<(), NoHello> {
        let again = match kind {
            SERVER_NAME => self.server_name.replace(server_name(data)?).is_some(),
            ALPN => self.alpn.replace(alpn(data)?).is_some(),
            SUPPORTED_VERSIONS => self.version.replace(newest_version(data)?).is_some(),
            _ => false,
        };
        if again { Err(NoHello::Malformed) } else { Ok(()) }
    }
}

/// One name of the only kind that there is (RFC 6066 §3).
fn server_name(data: &[u8]) -> Result<Option<Box<str>>, NoHello> {
    let mut data = Rest(data);
    let mut list = Rest(data.long()?);
    data.end()?;
    let kind = list.u8()?;
    let name = list.long()?;
    if kind != HOST_NAME || !list.is_empty() {
        return Err(NoHello::ServerName);
    }
    let name = str::from_utf8(name).map_err(|_| NoHello::ServerName)?;
    if name.parse::<Ipv4Addr>().is_ok() {
        return Ok(None);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if is_dns_name(name) { Ok(Some(name.to_ascii_lowercase().into())) } else { Err(NoHello::ServerName) }
}

fn is_dns_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    name.len() <= 253 && name.split('.').all(label)
}

fn alpn(data: &[u8]) -> Result<Alpn, NoHello> {
    let mut data = Rest(data);
    let list = data.long()?;
    data.end()?;
    let mut rest = Rest(list);
    if rest.is_empty() {
        return Err(NoHello::Malformed);
    }
    while !rest.is_empty() {
        if rest.short()?.is_empty() {
            return Err(NoHello::Malformed);
        }
    }
    Ok(Alpn { list: list.into() })
}

/// Versions past TLS 1.3 are drafts, or values that are there so that servers do not mind them (RFC 8701).
fn newest_version(data: &[u8]) -> Result<u16, NoHello> {
    let mut data = Rest(data);
    let mut list = Rest(data.short()?);
    data.end()?;
    let mut newest = None;
    while !list.is_empty() {
        let version = list.u16()?;
        newest = newest.max(Some(version).filter(|version| *version <= TLS13));
    }
    newest.ok_or(NoHello::Malformed)
}

/// What is left to read of a structure.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], NoHello> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(NoHello::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, NoHello> {
        let (byte, rest) = self.0.split_first().ok_or(NoHello::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn u16(&mut self) -> Result<u16, NoHello> {
        Ok(u16::from(self.u8()?) << 8 | u16::from(self.u8()?))
    }

    /// What stands behind its length in one byte.
    fn short(&mut self) -> Result<&'a [u8], NoHello> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// What stands behind its length in two bytes.
    fn long(&mut self) -> Result<&'a [u8], NoHello> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), NoHello> {
        if self.is_empty() { Ok(()) } else { Err(NoHello::Malformed) }
    }
}

/// Bytes that a ClientHello may have, with the four in front of it: far more than any client sends, with
/// room for keys of post-quantum cryptography and for padding.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes that may be received before the ClientHello ends: [`MAX_MESSAGE`] and the headers of some 800
/// records.
pub const MAX_BYTES: usize = MAX_MESSAGE + 4096;

/// Bytes of the header of a record (RFC 8446 §5.1).
const HEADER: usize = 5;
/// Bytes of payload that a record may have.
const MAX_RECORD: usize = 1 << 14;
/// The type of records with handshake messages.
const HANDSHAKE: u8 = 22;
/// The first byte of every version since SSL 3.0.
const MAJOR: u8 = 3;
/// The second byte of the newest version.
const MAX_MINOR: u8 = 4;
/// The type of the message.
const CLIENT_HELLO: u8 = 1;
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
/// Types of extensions (the IANA registry of them).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// The type of names that are DNS names.
const HOST_NAME: u8 = 0;

#[cfg(test)]
mod tests;
