//! What is logged of requests, of which of them, and to whom the lines go. Values only: how lines look
//! and how they get there is `observe::access_log`'s business.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::Target;
use crate::model::options::OneOf;

/// Something that a line may say of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words in the table below say it, and the reference what they mean")]
pub enum LogField {
    Time,
    Client,
    User,
    Method,
    Target,
    Version,
    Host,
    Referer,
    UserAgent,
    RequestId,
    TraceId,
    Status,
    SentBytes,
    ReceivedBytes,
    DurationSeconds,
    FirstByteSeconds,
    Listener,
    Route,
    Pool,
    Endpoint,
    Tries,
    Rung,
    Error,
    Details,
    Timer,
    Limit,
    ClosedBy,
    TlsVersion,
    Sni,
    Protocol,
    Result,
    ConnectSeconds,
    ReceivedDatagrams,
    SentDatagrams,
}

impl OneOf for LogField {
    const NOUN: &'static str = "access log field";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("time", Self::Time),
        ("client", Self::Client),
        ("user", Self::User),
        ("method", Self::Method),
        ("target", Self::Target),
        ("version", Self::Version),
        ("host", Self::Host),
        ("referer", Self::Referer),
        ("user_agent", Self::UserAgent),
        ("request_id", Self::RequestId),
        ("trace_id", Self::TraceId),
        ("status", Self::Status),
        ("sent_bytes", Self::SentBytes),
        ("received_bytes", Self::ReceivedBytes),
        ("duration_seconds", Self::DurationSeconds),
        ("first_byte_seconds", Self::FirstByteSeconds),
        ("listener", Self::Listener),
        ("route", Self::Route),
        ("pool", Self::Pool),
        ("endpoint", Self::Endpoint),
        ("tries", Self::Tries),
        ("rung", Self::Rung),
        ("error", Self::Error),
        ("details", Self::Details),
        ("timer", Self::Timer),
        ("limit", Self::Limit),
        ("closed_by", Self::ClosedBy),
        ("tls_version", Self::TlsVersion),
        ("sni", Self::Sni),
        ("protocol", Self::Protocol),
        ("result", Self::Result),
        ("connect_seconds", Self::ConnectSeconds),
        ("received_datagrams", Self::ReceivedDatagrams),
        ("sent_datagrams", Self::SentDatagrams),
    ];
}

impl LogField {
    /// Those of requests, in the order in which lines have them that do not choose.
    pub fn of_requests() -> impl Iterator<Item = Self> {
        Self::WORDS.iter().map(|(_, field)| *field).take_while(|field| *field != Self::Protocol)
    }

    /// The same of connections and flows that are passed on unread.
    pub const OF_CONNECTIONS: [Self; 18] = [
        Self::Time,
        Self::Client,
        Self::Protocol,
        Self::Listener,
        Self::Pool,
        Self::Endpoint,
        Self::Result,
        Self::ReceivedBytes,
        Self::SentBytes,
        Self::ReceivedDatagrams,
        Self::SentDatagrams,
        Self::DurationSeconds,
        Self::ConnectSeconds,
        Self::Tries,
        Self::Timer,
        Self::ClosedBy,
        Self::TlsVersion,
        Self::Sni,
    ];

    /// The key that it has in lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        // The table has the order of the variants, which a test holds it to.
        Self::WORDS.get(self as usize).map_or("", |(name, _)| name)
    }
}

/// Which requests are logged where not all are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSample {
    /// The share of those that are neither faulty nor slow, from 0.0 to 1.0.
    pub share: f64,
    /// The least status of a faulty request. So is one whose answer is cut short, or stands in for another.
    pub errors: u16,
    /// How long a slow one takes at least; none is slow when unset.
    pub slow: Option<Duration>,
}

/// What becomes of a request, as far as it decides on whether it is logged.
#[derive(Clone, Copy, Debug)]
pub struct Outline {
    /// The status that the client got.
    pub status: u16,
    /// How long it took.
    pub duration: Duration,
    /// Whether something went wrong, whatever the status.
    pub failed: bool,
}

impl Default for LogSample {
    fn default() -> Self {
        Self { share: 0.01, errors: 500, slow: None }
    }
}

impl LogSample {
    /// Whether a request is logged; `draw` is uniformly distributed.
    #[must_use]
    pub fn keeps(&self, request: &Outline, draw: u64) -> bool {
        let faulty = request.status >= self.errors || (request.failed && request.status < 400);
        let slow = || self.slow.is_some_and(|slow| request.duration >= slow);
        // The upper 53 bits are what a fraction has room for.
        faulty || slow() || ((draw >> 11) as f64) < self.share * (1_u64 << 53) as f64
    }
}

/// Where lines go.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LogTarget {
    /// To standard output.
    #[default]
    Stdout,
    /// To the end of a file, which is opened anew on SIGUSR1.
    File(PathBuf),
    /// To a syslog.
    Syslog(Syslog),
}

/// A syslog, and as what its messages come (RFC 5424 §6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it is.
    pub to: SyslogPeer,
    /// The facility.
    pub facility: Facility,
    /// The name of the application.
    pub app_name: String,
}

/// Where a syslog is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogPeer {
    /// A socket of this machine, of datagrams or of a stream.
    Unix(Arc<Path>),
    /// A message a datagram (RFC 5426).
    Udp(Target),
    /// Messages one after the other, each with its length before it (RFC 6587 §3.4.1).
    Tcp(Target),
}

/// What part of a system a message is from (RFC 5424 §6.2.1), by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// The first of those for local use.
    pub const LOCAL0: Self = Self(16);

    /// The number before a message of this severity, from 0 (emergency) to 7 (debug).
    #[must_use]
    pub const fn priority(self, severity: u8) -> u8 {
        self.0 * 8 + severity
    }
}

impl OneOf for Facility {
    const NOUN: &'static str = "syslog facility";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("user", Self(1)),
        ("daemon", Self(3)),
        ("local0", Self::LOCAL0),
        ("local1", Self(17)),
        ("local2", Self(18)),
        ("local3", Self(19)),
        ("local4", Self(20)),
        ("local5", Self(21)),
        ("local6", Self(22)),
        ("local7", Self(23)),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_the_order_of_their_names() {
        let all = LogField::WORDS.iter().map(|(_, field)| *field);
        assert!(all.enumerate().all(|(index, field)| field as usize == index));
        assert_eq!(LogField::ClosedBy.name(), "closed_by");
        assert_eq!(LogField::of_requests().last(), Some(LogField::Sni));
    }

    #[test]
    fn faulty_and_slow_requests_are_kept_and_a_share_of_the_rest() {
        let sample = LogSample { share: 0.25, errors: 500, slow: Some(Duration::from_secs(1)) };
        let fine = Outline { status: 200, duration: Duration::from_millis(999), failed: false };
        let never = u64::MAX;
        for (request, kept) in [
            (fine, false),
            (Outline { status: 404, failed: true, ..fine }, false),
            (Outline { status: 500, ..fine }, true),
            (Outline { failed: true, ..fine }, true),
            (Outline { duration: Duration::from_secs(1), ..fine }, true),
        ] {
            assert_eq!(sample.keeps(&request, never), kept, "{request:?}");
        }
        assert!(sample.keeps(&fine, u64::MAX / 4) && !sample.keeps(&fine, u64::MAX / 4 + (1 << 12)));
        assert!(!LogSample { share: 0.0, ..sample }.keeps(&fine, 0));
        assert!(LogSample { share: 1.0, ..sample }.keeps(&fine, never));
    }
}
