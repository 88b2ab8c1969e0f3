//! How a line looks: in one of the formats, and in an envelope if it is for a syslog. Knows nothing of
//! where lines go.

use std::time::Duration;

use super::record::Record;
use super::{combined, json, pairs};
use crate::model::settings::{LogField, LogFormat, Syslog};
use crate::observe::civil::{self, Civil};
use crate::observe::ended::Fault;

/// How the lines of a log look.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    form: Form,
    fields: Box<[LogField]>,
    /// What lines of connections and flows say.
    of_connections: Box<[LogField]>,
    envelope: Option<Envelope>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Combined,
    Pairs,
    Json,
}

/// What stands before each message in a syslog (RFC 5424 §6.2).
#[derive(Clone, Debug)]
struct Envelope {
    to: Syslog,
    /// From the host to the structured data, which is the same in all.
    rest: Vec<u8>,
}

/// The second of the latest line, as the formats write it: most lines share theirs with others.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    civil: Vec<u8>,
    clf: Vec<u8>,
}

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub(super) struct When<'a> {
    stamp: &'a Stamp,
    millis: u32,
}

impl Shape {
    /// Lines of this format with these fields: all there is, or the combined format, where none are chosen.
    pub(super) fn new(format: LogFormat, fields: Option<Vec<LogField>>, syslog: Option<&Syslog>) -> Self {
        let form = match (format, &fields) {
            (LogFormat::Json, _) => Form::Json,
            (LogFormat::Text, Some(_)) => Form::Pairs,
            (LogFormat::Text, None) => Form::Combined,
        };
        let of_connections = fields.clone().unwrap_or_else(|| LogField::OF_CONNECTIONS.to_vec()).into();
        let fields = fields.unwrap_or_else(|| LogField::of_requests().collect()).into();
        Self { form, fields, of_connections, envelope: syslog.map(Envelope::new) }
    }

    /// Appends the line of `record`. The only line feed in it is its last byte.
    pub(super) fn line(&self, record: &Record<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) {
        let when = stamp.at(record);
        if let Some(envelope) = &self.envelope {
            envelope.open(record, when, out);
        }
        if record.passed.is_some() {
            return match self.form {
                Form::Combined | Form::Pairs => pairs::line(record, &self.of_connections, when, out),
                Form::Json => json::line(record, &self.of_connections, when, out),
            };
        }
        match self.form {
            Form::Combined => combined::line(record, &when.stamp.clf, out),
            Form::Pairs => pairs::line(record, &self.fields, when, out),
            Form::Json => json::line(record, &self.fields, when, out),
        }
    }
}

impl Envelope {
    fn new(to: &Syslog) -> Self {
        let host = rustix::system::uname();
        // RFC 5424 §6: printable US-ASCII, at most 255 of it.
        let host = host.nodename().to_string_lossy().into_owned();
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        let host = if host.is_empty() { "-" } else { &host };
        let rest = format!(" {host} {} {} access - ", to.app_name, std::process::id());
        Self { to: to.clone(), rest: rest.into_bytes() }
    }

    fn open(&self, record: &Record<'_>, when: When<'_>, out: &mut Vec<u8>) {
        out.push(b'<');
        decimal(self.to.facility.priority(severity(record)).into(), out);
        out.extend_from_slice(b">1 ");
        when.rfc3339(out);
        out.extend_from_slice(&self.rest);
    }
}

/// How bad it is (RFC 5424 §6.2.1): an error, a warning or information.
fn severity(record: &Record<'_>) -> u8 {
    if let Some(passed) = record.passed {
        return match passed.result.fault() {
            Some(Fault::Ours) => 3,
            Some(Fault::Theirs) => 4,
            None => 6,
        };
    }
    match record.status {
        500.. => 3,
        400.. => 4,
        _ => 6,
    }
}

impl Stamp {
    /// The moment of `record`.
    pub(super) fn at(&mut self, record: &Record<'_>) -> When<'_> {
        let (second, millis) = civil::unix(record.time);
        if self.second != Some(second) {
            self.second = Some(second);
            self.civil.clear();
            self.civil.extend_from_slice(Civil::from_unix(second).to_string().as_bytes());
            self.clf.clear();
            combined::stamp(second, &mut self.clf);
        }
        When { stamp: self, millis }
    }
}

impl When<'_> {
    /// Appends it as RFC 3339 has it, to the millisecond.
    pub(super) fn rfc3339(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp.civil);
        out.push(b'.');
        padded(self.millis, 3, out);
        out.push(b'Z');
    }
}

/// Appends a number.
pub(super) fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    loop {
        out.push(digit(number));
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(begin..) {
        digits.reverse();
    }
}

/// Appends a duration, in seconds to the microsecond.
pub(super) fn seconds(took: Duration, out: &mut Vec<u8>) {
    decimal(took.as_secs(), out);
    out.push(b'.');
    padded(took.subsec_micros(), 6, out);
}

/// Appends a number that has `width` digits, zeros before it included.
fn padded(number: u32, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(digit(u64::from(number / 10_u32.pow(place))));
    }
}

/// The last digit of `number`.
fn digit(number: u64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}
