//! HTTP/2 frame by frame, for what no library sends. Fields are written as literals, so that no
//! state is needed; of responses only the status is read.

use std::net::SocketAddr;

use crate::support::Link;

/// A connection on which the prefaces were sent.
pub(crate) struct Frames(Link);

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let mut link = Link::to(address);
        link.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Self(link);
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // The proxy may have ended the connection, which the test then reads.
        let _ = self.0.try_send(frame);
    }

    /// Sends a request without a body.
    pub(crate) fn request(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &block);
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let head = self.0.take(9);
        if head.len() < 9 {
            return None;
        }
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        Some(Frame { kind: head[3], payload: self.0.take(len) })
    }

    /// The next frame of one of these kinds.
    pub(crate) fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// What became of a request: its status, or the code of the reset.
    pub(crate) fn outcome(&mut self) -> Result<u16, u32> {
        let frame = self.next_of(&[HEADERS, RST_STREAM]).expect("the connection is open");
        if frame.kind == RST_STREAM {
            return Err(u32::from_be_bytes(frame.payload.try_into().unwrap()));
        }
        // RFC 7541, appendix A; another status is a literal with the name of entry 8.
        let indexed = [200, 204, 206, 304, 400, 404, 500];
        Ok(match frame.payload[0] {
            byte @ 0x88..=0x8e => indexed[usize::from(byte - 0x88)],
            _ => literal_status(&frame.payload),
        })
    }
}

/// A status of three digits, of which the first is 1, 4 or 5, as a literal: plain or Huffman coded.
fn literal_status(block: &[u8]) -> u16 {
    let at = if block[0] == 0x3f || block[0] == 0x0f { 2 } else { 1 };
    let huffman = block[at] & 0x80 != 0;
    let len = usize::from(block[at] & 0x7f);
    let text = &block[at + 1..at + 1 + len];
    if !huffman {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    // Digits have five bits (0, 1, 2) or six (3 to 9).
    let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut status = 0;
    for _ in 0..3 {
        let short = u16::from_str_radix(&rest[..5], 2).unwrap();
        let (digit, used) =
            if short < 3 { (short, 5) } else { (u16::from_str_radix(&rest[..6], 2).unwrap() - 0x16, 6) };
        status = status * 10 + digit;
        rest = &rest[used..];
    }
    status
}

/// The fields of a usual request.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/")];
