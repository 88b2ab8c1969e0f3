//! `[listener.socket]` and `[pool.NAME.socket]`: what is set of sockets, and where connections to
//! endpoints come from.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::options::{Data, Fault, FromValue, Given, Options, Value};
use crate::model::settings::{KeepAlive, SocketOptions, UpstreamSocket};

/// Reads `socket` of a listener.
pub(super) fn listener(listener: &Options<'_>) -> SocketOptions {
    let options = listener.section("socket");
    for (key, remedy) in OUTWARD_ONLY {
        options.misplaced(key, format!("a listener has no `{key}`"), remedy);
    }
    let socket = shared(&options);
    options.finish();
    socket
}

/// Reads `socket` of a pool; `None` when everything is as it is by default.
pub(super) fn upstream(pool: &Options<'_>) -> Option<UpstreamSocket> {
    let options = pool.section("socket");
    let socket = UpstreamSocket {
        options: shared(&options),
        sources: options.list::<IpAddr>("bind_source").unwrap_or_default(),
        fast_open: options.get_or("fast_open", false),
    };
    if let Some(source) = socket.sources.iter().find(|source| source.is_unspecified()) {
        let hint = "leave `bind_source` out, or name an address of this machine";
        options.problem("bind_source", format!("{source} is no address to come from"), Some(hint.into()));
    }
    options.finish();
    Some(socket).filter(|socket| *socket != UpstreamSocket::default())
}

fn shared(options: &Options<'_>) -> SocketOptions {
    let default = SocketOptions::default();
    let socket = SocketOptions {
        no_delay: options.get_or("nodelay", default.no_delay),
        keep_alive: options.given("keep_alive").map_or(default.keep_alive, |given| keep_alive(&given)),
        user_timeout: options.given("user_timeout").and_then(|given| given.within(USER_TIMEOUT)),
        mark: options.get("mark").or(default.mark),
        dscp: options.get::<Dscp>("dscp").map(|Dscp(class)| class),
        transparent: options.get_or("transparent", default.transparent),
    };
    // A mark of 0 is none.
    SocketOptions { mark: socket.mark.filter(|mark| *mark != 0), ..socket }
}

/// A table, the time after which the peer is asked first, or whether it is.
fn keep_alive(given: &Given<'_>) -> Option<KeepAlive> {
    let default = KeepAlive::default();
    match &given.value().data {
        Data::Boolean(on) => on.then_some(default),
        Data::Table(_) => {
            let options = given.table()?;
            let keep_alive = KeepAlive {
                idle: whole_seconds(&options, "idle", default.idle),
                interval: whole_seconds(&options, "interval", default.interval),
                count: options.within("count", COUNT, default.count),
            };
            options.finish();
            Some(keep_alive)
        }
        _ => {
            let idle = given.within(SECONDS)?;
            is_whole(given, idle).then_some(KeepAlive { idle, ..default })
        }
    }
}

fn whole_seconds(options: &Options<'_>, key: &'static str, default: Duration) -> Duration {
    let Some(given) = options.given(key) else { return default };
    given.within(SECONDS).filter(|time| is_whole(&given, *time)).unwrap_or(default)
}

fn is_whole(given: &Given<'_>, time: Duration) -> bool {
    let whole = time.subsec_nanos() == 0;
    if !whole {
        given.fault("the kernel counts this in whole seconds", Some("write it as \"30s\"".into()));
    }
    whole
}

/// A class of traffic: a number, or a name of RFC 2474, 2597, 3246, 5865 or 8622.
struct Dscp(u8);

impl FromValue for Dscp {
    fn from_value(value: &Value) -> Result<Self, Fault> {
        let hint = "a number from 0 to 63, or a name such as \"ef\", \"af41\" or \"cs1\"";
        if let Data::Integer(number) = value.data {
            let class = u8::try_from(number).ok().filter(|class| *class < 64).map(Self);
            return class.ok_or_else(|| Fault::new(format_args!("{number} is not a DSCP")).hint(hint));
        }
        let text = value.text("a DSCP")?.to_ascii_lowercase();
        let class = match text.as_bytes() {
            [b'c', b's', class @ b'0'..=b'7'] => Some((class - b'0') << 3),
            [b'a', b'f', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
                Some(((class - b'0') << 3) | ((drop - b'0') << 1))
            }
            b"ef" => Some(46),
            b"va" => Some(44),
            b"le" => Some(1),
            _ => text.parse().ok().filter(|class| value.expanded && *class < 64),
        };
        class.map(Self).ok_or_else(|| Fault::new(format_args!("{text:?} is not a DSCP")).hint(hint))
    }
}

/// Keys of pools that mean nothing, or something else, on listeners; and what to do instead.
const OUTWARD_ONLY: &[(&str, &str)] = &[
    ("bind_source", "`bind` says where it listens; `bind_source` belongs into [pool.NAME.socket]"),
    (
        "fast_open",
        "`sysctl net.ipv4.tcp_fastopen=0x403` lets clients of every listener of the machine use it",
    ),
];
/// What times of keep-alive may be: the kernel takes no more.
const SECONDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);
/// Likewise.
const COUNT: RangeInclusive<u32> = 1..=127;
const USER_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
