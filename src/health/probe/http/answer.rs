//! An answer over HTTP/1.1, read from the bytes that have come so far: its head, as much of its body
//! as is there, and whether that is all.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Judgement, Question, SEARCHED};
use crate::model::ResponseHead;
use crate::wire::chunked::{Decoder, Event};
use crate::wire::parse::{self, HeadLimits};
use crate::wire::{Length, Malformed, framing};

/// Judges what has come; `closed` when no more will.
pub(super) fn judge(question: &Question, received: &[u8], closed: bool) -> Judgement {
    let answer = match Answer::read(&question.method, received, closed) {
        Ok(Some(answer)) => answer,
        Ok(None) if !closed => return Judgement::More,
        Ok(None) if received.is_empty() => {
            return Judgement::Fail("the connection was closed without an answer".to_owned());
        }
        Ok(None) => return Judgement::Fail("the answer ends within its head".to_owned()),
        Err(Malformed::Version | Malformed::StatusLine) => {
            return Judgement::Fail(format!("the answer {} is not HTTP/1", super::shown(received)));
        }
        Err(malformed) => return Judgement::Fail(format!("the answer is not HTTP: {malformed}")),
    };
    match (question.judge(answer.status, &answer.body, answer.whole), answer.broken) {
        (Judgement::More, Some(malformed)) => Judgement::Fail(format!("the answer is not HTTP: {malformed}")),
        (Judgement::More, None) if closed => Judgement::Fail("the answer ends within its body".to_owned()),
        (judgement, _) => judgement,
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    /// As much as is there, without its coding.
    body: Bytes,
    whole: bool,
    /// Why no more of the body can be read. A verdict on what came before it stands, as it would have
    /// had the rest come later.
    broken: Option<Malformed>,
}

impl Answer {
    /// The final answer, once its head is there.
    fn read(method: &Method, received: &[u8], closed: bool) -> Result<Option<Self>, Malformed> {
        let mut head = ResponseHead::default();
        let mut rest = received;
        loop {
            let Some(length) = parse::response(rest, &mut head, LIMITS)? else { return Ok(None) };
            rest = rest.get(length..).unwrap_or_default();
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                break;
            }
        }
        let status = head.status.as_u16();
        let mut answer = Self { status, body: Bytes::new(), whole: false, broken: None };
        match framing::of_response(method, &head)? {
            Length::Exact(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                answer.body = Bytes::copy_from_slice(rest.get(..length).unwrap_or(rest));
                answer.whole = rest.len() >= length;
            }
            Length::UntilClose => {
                answer.body = Bytes::copy_from_slice(rest);
                answer.whole = closed;
            }
            Length::Chunked => answer.take_chunks(Bytes::copy_from_slice(rest)),
        }
        Ok(Some(answer))
    }

    /// Takes as much of a chunked body as will be searched.
    fn take_chunks(&mut self, mut coded: Bytes) {
        let mut decoder = Decoder::default();
        let mut body = Vec::new();
        while body.len() <= SEARCHED {
            match decoder.decode(&mut coded) {
                Ok(Some(Event::Data(data))) => body.extend_from_slice(&data),
                Ok(Some(Event::End(_))) => {
                    self.whole = true;
                    break;
                }
                Ok(None) => break,
                Err(malformed) => {
                    self.broken = Some(malformed);
                    break;
                }
            }
        }
        self.body = body.into();
    }
}

/// Checks are answered by short heads.
const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, fields: 100 };
