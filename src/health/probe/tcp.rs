//! `tcp`: a connection that opens, and if so wished, bytes that are sent and an answer that holds
//! others. Knows no protocol.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use super::payload::payload;
use super::{Check, Judgement, Kind, Probe, SEARCHED, shown};
use crate::model::options::Options;

pub(super) const KIND: Kind = Kind {
    name: "tcp",
    summary: "a connection opens; what is sent is answered by what is expected",
    keys: &["send", "expect"],
    read: |options, _| Tcp::read(options).map(|tcp| Check::Bytes(Arc::new(tcp))),
};

#[derive(Debug)]
struct Tcp {
    send: Option<Bytes>,
    expect: Option<Bytes>,
}

impl Probe for Tcp {
    fn hello(&self, _authority: &str) -> Option<Bytes> {
        self.send.clone()
    }

    fn judge(&self, received: &[u8], closed: bool) -> Judgement {
        let Some(expected) = &self.expect else { return Judgement::Pass };
        let searched = received.get(..SEARCHED).unwrap_or(received);
        if memmem::find(searched, expected).is_some() {
            return Judgement::Pass;
        }
        if received.is_empty() && closed {
            return Judgement::Fail("the connection was closed without an answer".to_owned());
        }
        if closed || received.len() >= SEARCHED {
            return Judgement::Fail(format!("the answer {} lacks {}", shown(received), shown(expected)));
        }
        Judgement::More
    }
}

impl Tcp {
    fn read(options: &Options<'_>) -> Option<Self> {
        let (send, expect) = (payload(options, "send"), payload(options, "expect"));
        Some(Self { send: send?, expect: expect? })
    }
}

#[cfg(test)]
mod tests {
    use crate::health::probe::tests::{answer, faults, fed, probe};

    #[test]
    fn without_expectation_a_connection_will_do() {
        let probe = probe("kind = \"tcp\"\nsend = \"PING\\r\\n\"");
        assert_eq!(probe.hello("h").unwrap(), "PING\r\n");
        assert_eq!(answer(&*probe, b"", false), Ok(true));
    }

    #[test]
    fn what_is_expected_may_stand_anywhere() {
        let probe = probe("kind = \"tcp\"\nexpect = { hex = \"2b50 4f4e 47\" }");
        assert_eq!(probe.hello("h"), None);
        for (received, closed, verdict) in [
            (&b"+PONG\r\n"[..], false, Ok(true)),
            (b"220 hello\r\n+PONG", false, Ok(true)),
            (b"+PON", false, Ok(false)),
            (b"+PON", true, Err("the answer \"+PON\" lacks \"+PONG\"")),
            (b"-NOAUTH\xff\r\n", true, Err("the answer \"-NOAUTH\\xff\\r\\n\" lacks \"+PONG\"")),
            (b"", true, Err("the connection was closed without an answer")),
        ] {
            assert_eq!(answer(&*probe, received, closed), verdict.map_err(str::to_owned), "{received:?}");
            let _ = fed(&*probe, received);
        }
        let endless = answer(&*probe, &[b'a'; 65_536], false).unwrap_err();
        assert!(endless.starts_with("the answer \"aaaa") && endless.contains("…\" lacks"), "{endless}");
    }

    #[test]
    fn what_is_no_payload_is_named() {
        for (options, fault) in [
            ("send = \"\"", "send: there is nothing in `send`"),
            ("expect = { hex = \"abc\" }", "expect.hex: \"abc\" is not made of pairs of hexadecimal digits"),
            ("expect = { hex = \"xy\" }", "expect.hex: \"xy\" is not made of pairs of hexadecimal digits"),
            ("expect = {}", "expect.hex: `hex` is missing"),
            ("send = 1", "send: expected a string, found a whole number"),
        ] {
            assert_eq!(faults(&format!("kind = \"tcp\"\n{options}")), [fault]);
        }
    }
}
