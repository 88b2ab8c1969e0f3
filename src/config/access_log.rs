//! `access_log` of a `[[listener]]`: what is logged of requests, of which of them, and where to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cx;
use super::plan::{AccessLogPlan, LogField, LogFormat, LogSample, LogTarget};
use crate::model::options::{Given, OneOf, Options};
use crate::model::settings::{Facility, Syslog, SyslogPeer};
use crate::model::units::Share;
use crate::model::{Address, Target};

/// `"off"`, a format, or a table with more.
pub(super) fn plan(given: &Given<'_>, cx: &Cx<'_>) -> Option<AccessLogPlan> {
    let default = AccessLogPlan::default();
    if !given.is_table() {
        let AccessLog(format) = given.read()?;
        return Some(AccessLogPlan { format: format?, ..default });
    }
    let options = given.table()?;
    let plan = AccessLogPlan {
        format: options.get_or("format", default.format),
        fields: fields(&options),
        sample: options.given("sample").and_then(|given| sample(&given)),
        to: target(&options, cx),
        queue: options.within("queue", QUEUE, default.queue),
    };
    options.finish();
    Some(plan)
}

/// Each at most once; `None` where it is not said.
fn fields(options: &Options<'_>) -> Option<Vec<LogField>> {
    let given = options.given("fields")?;
    let mut fields = Vec::new();
    for item in given.items() {
        let Some(field) = item.read::<LogField>() else { continue };
        if fields.contains(&field) {
            item.fault(format!("`{}` stands here twice", field.name()), None);
        } else {
            fields.push(field);
        }
    }
    if given.items().is_empty() {
        given.fault("a line needs a field", Some("leave `fields` out for the usual ones".into()));
    }
    Some(fields)
}

/// A share of what is neither faulty nor slow, or a table with more.
fn sample(given: &Given<'_>) -> Option<LogSample> {
    let default = LogSample::default();
    if !given.is_table() {
        return Some(LogSample { share: given.read::<Share>()?.fraction(), ..default });
    }
    let options = given.table()?;
    let sample = LogSample {
        share: options.get::<Share>("share").map_or(default.share, Share::fraction),
        errors: options.within("errors", ERRORS, default.errors),
        slow: options.given("slow").and_then(|given| given.within(SLOW)),
    };
    options.finish();
    Some(sample)
}

fn target(options: &Options<'_>, cx: &Cx<'_>) -> LogTarget {
    let path = options.get::<String>("path").map(|path| cx.path(&path));
    let given = options.given("syslog");
    if let (Some(_), Some(given)) = (&path, &given) {
        given.fault("lines go to one place", Some("write `path` or `syslog`, not both".into()));
    }
    let syslog = given.and_then(|given| syslog(&given, cx)).map(LogTarget::Syslog);
    syslog.or(path.map(LogTarget::File)).unwrap_or_default()
}

/// Where the syslog is, or a table with more.
fn syslog(given: &Given<'_>, cx: &Cx<'_>) -> Option<Syslog> {
    let (facility, app_name) = (Facility::LOCAL0, APP_NAME.to_owned());
    if !given.is_table() {
        return Some(Syslog { to: peer(given, cx)?, facility, app_name });
    }
    let options = given.table()?;
    let to = options.required("to").and_then(|given| peer(&given, cx));
    let facility = options.get_or("facility", facility);
    let app_name = options.get_or("app_name", app_name);
    // RFC 5424 §6: printable US-ASCII without spaces, at most 48 of it.
    let fits = (1..=48).contains(&app_name.len()) && app_name.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        let hint = "it has 1 to 48 printable ASCII characters and no space";
        options.problem(
            "app_name",
            format!("{app_name:?} cannot be the name of an application"),
            Some(hint.into()),
        );
    }
    options.finish();
    Some(Syslog { to: to?, facility, app_name })
}

/// `unix:/path`, `udp://HOST:PORT` or `tcp://HOST:PORT`.
fn peer(given: &Given<'_>, cx: &Cx<'_>) -> Option<SyslogPeer> {
    let text = given.read::<String>()?;
    if text.starts_with("unix:") {
        return match cx.address(given)? {
            Address::Unix(path) => Some(SyslogPeer::Unix(path)),
            Address::Inet(_) | Address::Udp(_) => None,
        };
    }
    let (kind, rest): (fn(Target) -> SyslogPeer, _) = match text.split_once("://") {
        Some(("udp", rest)) => (SyslogPeer::Udp, rest),
        Some(("tcp", rest)) => (SyslogPeer::Tcp, rest),
        _ => {
            let hint =
                "write it as in \"unix:/dev/log\", \"udp://10.0.0.1:514\" or \"tcp://logs.internal:601\"";
            given.fault(format!("{text:?} is no syslog"), Some(hint.into()));
            return None;
        }
    };
    match rest.parse() {
        Ok(Target::Address(Address::Unix(_) | Address::Udp(_))) => {
            given.fault("a Unix socket is written without `udp://` or `tcp://`", None);
            None
        }
        Ok(target) => Some(kind(target)),
        Err(bad) => {
            given.fault(bad.to_string(), None);
            None
        }
    }
}

/// A log format, or none for `off`.
#[derive(Clone, Copy)]
struct AccessLog(Option<LogFormat>);

impl OneOf for AccessLog {
    const NOUN: &'static str = "access log format";
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self(None)), ("text", Self(Some(LogFormat::Text))), ("json", Self(Some(LogFormat::Json)))];
}

const QUEUE: RangeInclusive<usize> = 1..=1_000_000;
/// What the least status of a faulty request may be.
const ERRORS: RangeInclusive<u16> = 400..=600;
const SLOW: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const APP_NAME: &str = "forebay";
