//! One check from its connection to its verdict, all within its time limit. What is said and how the
//! answer is judged is the probe's; that a fault is our own, and nobody's verdict, is seen here.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::client::Connection;
use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{call, datagram};
use crate::ambient;
use crate::health::check::CheckResult;
use crate::health::probe::{Check, Judgement, Probe};
use crate::model::units;
use crate::net::connect::{Dial, DialError, DialTimeouts, Onward, Steps, dial};
use crate::net::stream::Stream;

/// A check of one endpoint.
pub(super) struct Question {
    pub(super) dial: Dial,
    /// What is sent before anything else.
    pub(super) preface: Vec<u8>,
    pub(super) check: Check,
    /// From the start to the verdict.
    pub(super) timeout: Duration,
    /// The endpoint as a `Host` field has it.
    pub(super) authority: String,
}

/// What came of a check.
pub(super) enum Answer {
    /// A verdict.
    Judged(CheckResult),
    /// None: there is not enough of something on this side.
    Unable(io::Error),
}

/// Why a check did not pass.
#[derive(Debug)]
pub(super) enum Failed {
    /// In words, without the endpoint's name.
    Endpoint(String),
    /// It is not the endpoint's fault.
    Ours(io::Error),
}

/// How far a check has come, for words when its time is over, and what is left to be closed.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) connected: bool,
    /// Whether an answer has begun.
    pub(super) answered: bool,
    /// The answer to a probe of bytes so far.
    received: Vec<u8>,
    pub(super) open: Option<Open>,
}

/// A connection after the verdict.
pub(super) enum Open {
    Stream(Stream),
    Http2(Box<Connection<Stream, Bytes>>),
}

/// Asks once.
pub(super) async fn ask(question: &Question) -> Answer {
    let began = ambient::now();
    let mut progress = Progress::default();
    let verdict = match timeout(question.timeout, question.carry_out(&mut progress)).await {
        Ok(verdict) => verdict,
        Err(_) if question.is_well_without_answer(&progress) => Ok(()),
        Err(_) => Err(Failed::Endpoint(question.too_late(&progress))),
    };
    let took = ambient::now().saturating_duration_since(began);
    progress.close().await;
    match verdict {
        Ok(()) => Answer::Judged(CheckResult { failure: None, took }),
        Err(Failed::Endpoint(why)) => Answer::Judged(CheckResult { failure: Some(why), took }),
        Err(Failed::Ours(error)) => Answer::Unable(error),
    }
}

impl Question {
    async fn carry_out(&self, progress: &mut Progress) -> Result<(), Failed> {
        if let Check::Datagram(check) = &self.check {
            return datagram::carry_out(&self.dial, &self.preface, check, progress).await;
        }
        let stream = self.connect().await?;
        progress.connected = true;
        match &self.check {
            Check::Bytes(probe) => self.converse(&**probe, stream, progress).await,
            Check::Call(call) => {
                let https = self.dial.tls.is_some();
                let request = call.request(&self.authority, https);
                // Boxed, because most checks need no room for it.
                Box::pin(call::carry_out(request, &**call, stream, progress)).await
            }
            // Asked above, without a connection.
            Check::Datagram(_) => Ok(()),
        }
    }

    async fn connect(&self) -> Result<Stream, Failed> {
        let limits = DialTimeouts { connect: self.timeout, tls_handshake: self.timeout };
        let steps = Steps::begin(ambient::now());
        dial(&self.dial, limits, &Onward { preface: &self.preface, source: None }, &steps)
            .await
            .map_err(|error| self.not_connected(error))
    }

    async fn converse(
        &self,
        probe: &dyn Probe,
        mut stream: Stream,
        progress: &mut Progress,
    ) -> Result<(), Failed> {
        let hello = probe.hello(&self.authority);
        let mut judgement = probe.judge(&[], false);
        if let Some(hello) = &hello {
            stream.write_all(hello).await.map_err(|error| failed("while asking", error))?;
            stream.flush().await.map_err(|error| failed("while asking", error))?;
        } else if judgement == Judgement::Pass {
            // Nothing was said: a reset leaves nothing behind on either side.
            stream.reset_on_drop();
        }
        while judgement == Judgement::More {
            progress.received.reserve(READ);
            let closed = match stream.read_buf(&mut progress.received).await {
                Ok(count) => count == 0,
                // The end of TLS without a farewell is an end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
                Err(error) => return Err(failed("before the end of the answer", error)),
            };
            judgement = probe.judge(&progress.received, closed);
            if judgement == Judgement::More && (closed || progress.received.len() > LONGEST_ANSWER) {
                return Err(Failed::Endpoint(format!("no verdict in {} bytes", progress.received.len())));
            }
        }
        if matches!(stream, Stream::Plain(_)) {
            // The verdict stands. A reset, as HAProxy's checks end, keeps no port in TIME_WAIT: with
            // thousands of endpoints these would add up to tens of thousands.
            stream.reset_on_drop();
        }
        progress.open = Some(Open::Stream(stream));
        match judgement {
            Judgement::Fail(why) => Err(Failed::Endpoint(why)),
            Judgement::Pass | Judgement::More => Ok(()),
        }
    }

    fn not_connected(&self, error: DialError) -> Failed {
        match error {
            DialError::Connect(error) if is_ours(&error) => Failed::Ours(error),
            DialError::Connect(error) => Failed::Endpoint(words(&error)),
            DialError::Tls(error) => Failed::Endpoint(format!("TLS handshake failed: {error}")),
            DialError::ConnectTimeout(_) | DialError::TlsTimeout(_) => {
                Failed::Endpoint(self.too_late(&Progress::default()))
            }
        }
    }

    fn is_well_without_answer(&self, progress: &Progress) -> bool {
        let is_well = |check: &Check| matches!(check, Check::Datagram(d) if d.is_well_without_answer());
        progress.connected && is_well(&self.check)
    }

    /// What was missing when the time was over.
    fn too_late(&self, progress: &Progress) -> String {
        let limit = units::show(self.timeout);
        if !progress.connected {
            let what = if self.dial.tls.is_some() { "TLS connection" } else { "connection" };
            return format!("no {what} within {limit}");
        }
        if let Check::Bytes(probe) = &self.check
            && !progress.received.is_empty()
            && let Judgement::Fail(why) = probe.judge(&progress.received, true)
        {
            return format!("{why}; no more came within {limit}");
        }
        let whole = if progress.answered || !progress.received.is_empty() { "whole " } else { "" };
        format!("no {whole}answer within {limit}")
    }
}

impl Progress {
    /// Takes leave where TLS or HTTP/2 has a way to: peers log what ends without.
    async fn close(self) {
        let leaving = async {
            match self.open {
                Some(Open::Stream(mut stream @ Stream::ClientTls(_))) => stream.shutdown().await.is_ok(),
                Some(Open::Http2(connection)) => connection.await.is_ok(),
                Some(Open::Stream(_)) | None => true,
            }
        };
        // Who does not listen any more misses nothing.
        let _ = timeout(PARTING, leaving).await;
    }
}

/// What `error` says of the endpoint, if it says anything.
pub(super) fn failed(when: &str, error: io::Error) -> Failed {
    if is_ours(&error) { Failed::Ours(error) } else { Failed::Endpoint(format!("{} {when}", words(&error))) }
}

pub(super) fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::TimedOut => error.kind().to_string(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether there is not enough of something on this side: descriptors, memory.
fn is_ours(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno))
}

/// How much is read at a time, in bytes: most answers whole.
const READ: usize = 2 * 1024;
/// Coded, 64 KiB of a body may be longer than that, but not without end.
const LONGEST_ANSWER: usize = 512 * 1024;
/// How long taking leave may take.
const PARTING: Duration = Duration::from_millis(200);
