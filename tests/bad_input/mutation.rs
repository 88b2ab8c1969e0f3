//! Valid messages, damaged: by a byte or a piece, with what parsers trip over.

use fastrand::Rng;

/// Requests to begin with. `{id}` stands for what tells them apart.
pub(crate) const REQUESTS: &[&str] = &[
    "GET /{id}?a=b&c=%20d HTTP/1.1\r\nHost: test:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
    "POST /{id} HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /{id} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
     5;a=\"b\"\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n",
    "GET http://test/{id} HTTP/1.1\r\nHost: test\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n",
    "HEAD /{id} HTTP/1.0\r\nConnection: keep-alive\r\nHost: test\r\n\r\n",
    "PUT /{id} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    "GET /{id} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly",
    "OPTIONS * HTTP/1.1\r\nHost: test\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    "GET /{id}/a/../b HTTP/1.1\r\nHost: test\r\n\r\nGET /{id}/second HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
];

/// Responses to begin with.
pub(crate) const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nServer: x\r\n\r\nevil",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\nX-Sum: evil\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nevil",
    "HTTP/1.1 103 Early Hints\r\nLink: evil\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "HTTP/1.1 304 Not Modified\r\nETag: \"evil\"\r\nContent-Length: 4\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nevil",
    "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: evil\r\n\r\nevil until the end",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevilHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
];

/// `message`, damaged in one to six places; now and then bytes that were no message at all.
pub(crate) fn mutate(rng: &mut Rng, message: &[u8]) -> Vec<u8> {
    if rng.u8(..) < 8 {
        let len = rng.usize(1..400);
        return std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
    }
    let mut bytes = message.to_vec();
    for _ in 0..rng.usize(1..=6) {
        damage(rng, &mut bytes);
    }
    bytes
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let start = rng.usize(0..=bytes.len());
    let end = (start + rng.usize(0..=20)).min(bytes.len());
    match rng.u8(0..8) {
        0 => bytes.truncate(start),
        1 => drop(bytes.drain(start..end)),
        2 => {
            let again: Vec<u8> = bytes.get(start..end).unwrap_or_default().to_vec();
            bytes.splice(end..end, again);
        }
        3 => {
            if let Some(byte) = bytes.get_mut(start) {
                *byte = rng.u8(..);
            }
        }
        4 => {
            if let Some(byte) = bytes.get_mut(start) {
                *byte ^= 1 << rng.u8(0..8);
            }
        }
        5 => {
            let many = rng.usize(1..3000);
            let byte = *rng.choice(b"xX0 \t:;,/\r\n\0\xff").unwrap_or(&b'x');
            bytes.splice(start..start, std::iter::repeat_n(byte, many));
        }
        _ => {
            let word = rng.choice(DICTIONARY).copied().unwrap_or_default();
            let to = if rng.bool() { start } else { end };
            bytes.splice(start..to, word.bytes());
        }
    }
}

/// What parsers trip over.
const DICTIONARY: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "\r\n ",
    "\u{b}",
    "\u{85}",
    "%00",
    "%2e%2e/",
    "/../",
    "//",
    "#",
    "?",
    "*",
    "@",
    "[::1]",
    "0",
    "-1",
    "+1",
    "0x10",
    "00",
    "ffffffffffffffff",
    "18446744073709551616",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: content-length, host\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Host: other\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "HTTP/0.9",
    "CONNECT ",
    "HEAD ",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    " 099 ",
    " 204 ",
    " 999 ",
    "\u{16}\u{3}\u{1}\u{2}",
];
