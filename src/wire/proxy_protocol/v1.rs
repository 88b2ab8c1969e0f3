//! Version 1: one line of text, of 107 bytes at most with its end.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{Ends, Header, Malformed};

/// What every header begins with.
pub const SIGNATURE: &[u8] = b"PROXY ";
/// The bytes of the longest header, CR LF included.
pub const MAX: usize = 107;

/// Reads a header from the front of `bytes`, with the number of its bytes. `None` when there is more to
/// come.
///
/// # Errors
/// When it is malformed or too long.
pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let within = bytes.get(..MAX).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = within.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed::Line)?;
    let told = line.strip_prefix(SIGNATURE).ok_or(Malformed::Signature)?;
    Ok(Some((Header { ends: ends(told)?, ..Header::default() }, end + 1)))
}

/// Writes a header that says `ends`, or that nothing is known.
pub fn encode(ends: Option<Ends>, out: &mut Vec<u8>) {
    let Some(Ends { source, destination }) = ends.map(Ends::aligned) else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    // Memory takes all there is.
    let _ = write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
}

fn ends(told: &[u8]) -> Result<Option<Ends>, Malformed> {
    let mut words = told.split(|byte| *byte == b' ');
    let is_ipv4 = match words.next() {
        Some(b"TCP4") => true,
        Some(b"TCP6") => false,
        // Whatever else the line says is to be ignored.
        Some(b"UNKNOWN") => return Ok(None),
        _ => return Err(Malformed::Line),
    };
    let [source, destination] = [words.next(), words.next()].map(|word| ip(word?, is_ipv4));
    let [from, to] = [words.next(), words.next()].map(|word| port(word?));
    match (source, destination, from, to, words.next()) {
        (Some(source), Some(destination), Some(from), Some(to), None) => Ok(Some(Ends {
            source: SocketAddr::new(source, from),
            destination: SocketAddr::new(destination, to),
        })),
        _ => Err(Malformed::Line),
    }
}

fn ip(word: &[u8], is_ipv4: bool) -> Option<IpAddr> {
    let ip: IpAddr = std::str::from_utf8(word).ok()?.parse().ok()?;
    (ip.is_ipv4() == is_ipv4).then_some(ip)
}

/// A decimal number without sign or leading zeros.
fn port(word: &[u8]) -> Option<u16> {
    let plain = word.iter().all(u8::is_ascii_digit) && (word.len() == 1 || !word.starts_with(b"0"));
    std::str::from_utf8(word).ok().filter(|_| plain)?.parse().ok()
}
