//! The chunked transfer coding (RFC 9112 §7.1), decoded incrementally and without copying data.
//! Line ends are CR LF and nothing else; sizes, extensions and trailers are bounded.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};

use super::Malformed;
use crate::model::Fields;
use crate::model::field::Known;

/// A decoder of one chunked body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    trailers: Vec<u8>,
    /// Where in the trailers the present line begins.
    line_start: usize,
}

/// What a decoder found.
#[derive(Debug)]
pub enum Event {
    /// Bytes of the body; never empty.
    Data(Bytes),
    /// The end of the body, with trailer fields if there were any.
    End(Option<Box<Fields>>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// Within a size, of which so much is known.
    Size(u64),
    /// In the white space behind a size.
    Padding(u64),
    /// Within a chunk extension of a chunk of this size.
    Extension(u64),
    /// After the CR that ends a size line.
    SizeLf(u64),
    /// Within data of which so much is left, never 0.
    Data(u64),
    DataCr,
    DataLf,
    Trailers,
    Done,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: State::SizeStart, extension_bytes: 0, trailers: Vec::new(), line_start: 0 }
    }
}

impl Decoder {
    /// Decodes the next piece from the front of `buf`, taking what it used; `None` when it needs
    /// more bytes than `buf` has. After [`Event::End`] it takes nothing more.
    ///
    /// # Errors
    /// When the coding is malformed, or its extensions or trailers exceed 16 KiB.
    pub fn decode(&mut self, buf: &mut Bytes) -> Result<Option<Event>, Malformed> {
        loop {
            match self.state {
                State::Data(left) if !buf.is_empty() => return Ok(Some(self.take_data(left, buf))),
                State::Trailers => return self.take_trailers(buf),
                State::Done => return Ok(None),
                _ if buf.is_empty() => return Ok(None),
                _ => {}
            }
            let byte = buf.get_u8();
            self.state = self.after(byte)?;
        }
    }

    /// Whether the end of the body was seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn after(&mut self, byte: u8) -> Result<State, Malformed> {
        let next = match (self.state, byte) {
            (State::SizeStart, _) => State::Size(hex(byte)?),
            (State::Size(n) | State::Padding(n) | State::Extension(n), b'\r') => State::SizeLf(n),
            (State::Size(n) | State::Padding(n), b';') => State::Extension(n),
            (State::Size(n) | State::Padding(n), b' ' | b'\t') => {
                self.count_extension()?;
                State::Padding(n)
            }
            (State::Size(n), _) if n >> 60 == 0 => State::Size(n << 4 | hex(byte)?),
            (State::Extension(n), b'\t' | b' '..=b'~' | 0x80..) => {
                self.count_extension()?;
                State::Extension(n)
            }
            (State::SizeLf(0), b'\n') => State::Trailers,
            (State::SizeLf(n), b'\n') => State::Data(n),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            _ => return Err(Malformed::Chunk),
        };
        Ok(next)
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(Malformed::Chunk) } else { Ok(()) }
    }

    fn take_data(&mut self, left: u64, buf: &mut Bytes) -> Event {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let rest = left - n as u64;
        self.state = if rest == 0 { State::DataCr } else { State::Data(rest) };
        Event::Data(buf.split_to(n))
    }

    fn take_trailers(&mut self, buf: &mut Bytes) -> Result<Option<Event>, Malformed> {
        while !buf.is_empty() {
            let line_end = memchr::memchr(b'\n', buf).map_or(buf.len(), |at| at + 1);
            let part = buf.split_to(line_end);
            self.trailers.extend_from_slice(&part);
            if self.trailers.len() > MAX_TRAILER_BYTES {
                return Err(Malformed::Trailers);
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let line_start = std::mem::replace(&mut self.line_start, self.trailers.len());
            if self.trailers.get(line_start..) == Some(b"\r\n") {
                self.state = State::Done;
                return Ok(Some(Event::End(read_trailers(&self.trailers)?)));
            }
        }
        Ok(None)
    }
}

/// The trailer fields in `raw`, without those that a trailer must not carry (RFC 9110 §6.5.1).
fn read_trailers(raw: &[u8]) -> Result<Option<Box<Fields>>, Malformed> {
    if raw == b"\r\n" {
        return Ok(None);
    }
    let mut slots = [MaybeUninit::uninit(); MAX_TRAILERS];
    let mut request = httparse::Request::new(&mut []);
    // A trailer section is a field section; a request line in front makes it a head, which the
    // parser can read without its slots being initialised first.
    let head = [b"GET / HTTP/1.1\r\n", raw].concat();
    match request.parse_with_uninit_headers(&head, &mut slots) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(Malformed::Trailers),
    }
    let mut fields = Box::<Fields>::default();
    for field in request.headers.iter() {
        if !is_forbidden(Known::of(field.name.as_bytes())) {
            fields.append(field.name.as_bytes(), field.value);
        }
    }
    Ok(Some(fields))
}

fn is_forbidden(known: Known) -> bool {
    known.is_hop_by_hop()
        || matches!(
            known,
            Known::ContentLength
                | Known::Host
                | Known::Trailer
                | Known::Authorization
                | Known::Expect
                | Known::Cookie
        )
}

fn hex(digit: u8) -> Result<u64, Malformed> {
    char::from(digit).to_digit(16).map(u64::from).ok_or(Malformed::Chunk)
}

/// Bytes of chunk extensions in one body: they are dropped, and more of them than this is an attack.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
/// Bytes of one trailer section.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// Fields of one trailer section.
const MAX_TRAILERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `input`, given in pieces of `step` bytes: data, trailers, and what is left over.
    fn decode(input: &str, step: usize) -> Result<(String, String, usize), Malformed> {
        let mut decoder = Decoder::default();
        let (mut data, mut trailers, mut used) = (Vec::new(), String::new(), 0);
        for piece in input.as_bytes().chunks(step) {
            let mut buf = Bytes::copy_from_slice(piece);
            while let Some(event) = decoder.decode(&mut buf)? {
                match event {
                    Event::Data(bytes) => data.extend_from_slice(&bytes),
                    Event::End(fields) => {
                        for (_, n, v) in fields.iter().flat_map(|f| f.iter()) {
                            trailers +=
                                &format!("{}={};", String::from_utf8_lossy(n), String::from_utf8_lossy(v));
                        }
                    }
                }
            }
            used += piece.len() - buf.len();
        }
        assert!(decoder.is_done(), "not at its end");
        Ok((String::from_utf8(data).unwrap(), trailers, input.len() - used))
    }

    #[test]
    fn a_body_is_the_same_in_pieces_of_any_size() {
        let input = "5;a=b\r\nhello\r\n00b \r\n wide world\r\n0\r\nx-a: 1\r\nHost: no\r\nX-B: 2\r\n\r\nGET /";
        for step in 1..=input.len() {
            let (data, trailers, left) = decode(input, step).unwrap();
            assert_eq!(data, "hello wide world");
            assert_eq!(trailers, "x-a=1;X-B=2;");
            assert_eq!(left, 5, "step {step}");
        }
        assert_eq!(decode("0\r\n\r\n", 2).unwrap(), (String::new(), String::new(), 0));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let cases = [
            "\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhelloX",
            "-5\r\n",
            "0x5\r\n",
            "+5\r\n",
            "5;\0\r\n",
            " 5\r\n",
            "5;a\n\r\n",
            "5\r\r\n",
            "11111111111111111\r\n",
            ";\r\n",
        ];
        for case in cases {
            assert_eq!(decode(case, 1), Err(Malformed::Chunk), "{case:?}");
        }
        assert_eq!(decode("0\r\nx y: 1\r\n\r\n", 1), Err(Malformed::Trailers));
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let long = "a".repeat(20_000);
        assert_eq!(decode(&format!("5;{long}\r\nhello\r\n"), 1000), Err(Malformed::Chunk));
        assert_eq!(decode(&format!("0\r\nx: {long}\r\n\r\n"), 1000), Err(Malformed::Trailers));
    }
}
