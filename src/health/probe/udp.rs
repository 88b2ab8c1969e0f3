//! `udp`: a datagram that is sent, and one that answers it. Knows no protocol: what to ask a DNS server
//! or a game is the user's to say.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use super::payload::payload;
use super::{Check, Judgement, Kind, shown};
use crate::model::options::{Fault, FromValue, Options, Value};

pub(super) const KIND: Kind = Kind {
    name: Datagram::KIND,
    summary: "a datagram is answered, by what is expected",
    keys: &["send", "expect", "silence"],
    read: |options, _| Datagram::read(options).map(|datagram| Check::Datagram(Arc::new(datagram))),
};

/// A check over one datagram each way.
#[derive(Debug)]
pub struct Datagram {
    send: Bytes,
    expect: Option<Bytes>,
    silence: Silence,
}

/// What it means when no answer comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Fails,
    /// For what never answers (logs, metrics): then only ICMP says that nobody is there.
    Passes,
}

impl Datagram {
    /// What such checks are called in the configuration.
    pub const KIND: &str = "udp";

    /// What is sent.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.send
    }

    /// Judges the first datagram that comes back, which may be empty. Always a verdict.
    #[must_use]
    pub fn judge(&self, answer: &[u8]) -> Judgement {
        match &self.expect {
            Some(expected) if memmem::find(answer, expected).is_none() => {
                Judgement::Fail(format!("the answer {} lacks {}", shown(answer), shown(expected)))
            }
            _ => Judgement::Pass,
        }
    }

    /// Whether all is well when nothing at all comes back in time.
    #[must_use]
    pub fn is_well_without_answer(&self) -> bool {
        self.silence == Silence::Passes
    }

    fn read(options: &Options<'_>) -> Option<Self> {
        let (send, expect) = (payload(options, "send"), payload(options, "expect"));
        let silence = options.get("silence").unwrap_or(Silence::Fails);
        if send == Some(None) {
            let hint = "add `send`, as text or as { hex = \"0a 0b\" }: something the endpoint answers";
            options.missing("send", "it is not said what to send", Some(hint.into()));
        }
        let (send, expect) = (send??, expect?);
        let is_short = |key, bytes: &Bytes| {
            let is_short = bytes.len() <= LONGEST;
            if !is_short {
                let fault = format!("{} bytes are more than a datagram takes ({LONGEST})", bytes.len());
                options.problem(key, fault, None);
            }
            is_short
        };
        let are_short = is_short("send", &send) & expect.as_ref().is_none_or(|e| is_short("expect", e));
        let is_contradiction = silence == Silence::Passes && expect.is_some();
        if is_contradiction {
            let hint = "leave one of the two out";
            options.problem("silence", "an answer is expected, by `expect`", Some(hint.into()));
        }
        (are_short && !is_contradiction).then_some(Self { send, expect, silence })
    }
}

impl FromValue for Silence {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        match value.text("\"fail\" or \"pass\"")? {
            "fail" => Ok(Self::Fails),
            "pass" => Ok(Self::Passes),
            other => Err(Fault::unknown("meaning of silence", other, &["fail", "pass"])),
        }
    }
}

/// The most payload that a datagram of IPv4 carries, in bytes: 65,535 less its headers (RFC 768, RFC 791).
const LONGEST: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::probe::tests::{check, faults};

    #[track_caller]
    fn datagram(options: &str) -> Arc<Datagram> {
        match check(&format!("kind = \"udp\"\n{options}")) {
            (Some(Check::Datagram(datagram)), faults) if faults.is_empty() => datagram,
            other => panic!("{options}: {other:?}"),
        }
    }

    #[test]
    fn an_answer_has_to_hold_what_is_expected() {
        let lacks = |why: &str| Judgement::Fail(why.to_owned());
        for (options, answer, judged) in [
            ("send = \"ping\"", &b"anything"[..], Judgement::Pass),
            ("send = \"ping\"", b"", Judgement::Pass),
            ("send = \"ping\"\nexpect = \"pong\"", b"a pong\n", Judgement::Pass),
            ("send = \"ping\"\nexpect = \"pong\"", b"pon", lacks("the answer \"pon\" lacks \"pong\"")),
            ("send = \"ping\"\nexpect = { hex = \"80 00\" }", b"\x12\x80\x00", Judgement::Pass),
            ("send = \"ping\"\nexpect = { hex = \"80\" }", b"", lacks("the answer \"\" lacks \"\\x80\"")),
        ] {
            assert_eq!(datagram(options).judge(answer), judged, "{options}");
        }
        assert_eq!(datagram("send = { hex = \"0001\" }").payload(), [0, 1]);
    }

    #[test]
    fn silence_passes_only_where_that_is_said() {
        assert!(!datagram("send = \"a\"").is_well_without_answer());
        assert!(!datagram("send = \"a\"\nsilence = \"fail\"").is_well_without_answer());
        assert!(datagram("send = \"a\"\nsilence = \"pass\"").is_well_without_answer());
    }

    #[test]
    fn what_is_no_question_is_named() {
        let long = format!("send = \"{}\"", "a".repeat(LONGEST + 1));
        for (options, fault) in [
            ("", "send: it is not said what to send"),
            ("send = \"\"", "send: there is nothing in `send`"),
            (&long, "send: 65508 bytes are more than a datagram takes (65507)"),
            ("send = \"a\"\nsilence = \"ok\"", "silence: there is no meaning of silence `ok`"),
            (
                "send = \"a\"\nexpect = \"b\"\nsilence = \"pass\"",
                "silence: an answer is expected, by `expect`",
            ),
        ] {
            assert_eq!(faults(&format!("kind = \"udp\"\n{options}")), [fault]);
        }
    }
}
