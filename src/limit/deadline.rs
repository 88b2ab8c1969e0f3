//! How long a client says that it waits: the fields that say it, read and written. Knows neither the
//! time nor who asks.

use std::time::Duration;

use crate::model::units;

/// Reads a `grpc-timeout`: up to eight digits and a unit (the gRPC protocol over HTTP/2, "Requests").
#[must_use]
pub fn read_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit)?;
    Some(Duration::from_nanos(number.saturating_mul(*nanos)))
}

/// Writes a `grpc-timeout` in the finest unit that has room for it, rounded down.
#[must_use]
pub fn write_grpc(left: Duration) -> String {
    let fits = |(name, nanos): &(u8, u64)| {
        let number = left.as_nanos() / u128::from(*nanos);
        (number < 10_u128.pow(DIGITS as u32)).then(|| format!("{number}{}", char::from(*name)))
    };
    UNITS.iter().rev().find_map(fits).unwrap_or_else(|| "99999999H".to_owned())
}

/// Reads a duration such as `250ms`, or plain milliseconds.
#[must_use]
pub fn read_plain(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    match text.parse() {
        Ok(millis) => Some(Duration::from_millis(millis)),
        Err(_) => units::duration(text).ok(),
    }
}

/// Writes it in whole milliseconds, rounded down, but never none, which some take for no limit; with the unit, unless `like`, what the client sent,
/// is without.
#[must_use]
pub fn write_plain(left: Duration, like: &[u8]) -> String {
    let unit = if like.trim_ascii().iter().all(u8::is_ascii_digit) { "" } else { "ms" };
    format!("{}{unit}", left.as_millis().max(1))
}

/// The greatest number of digits of a `grpc-timeout`.
const DIGITS: usize = 8;
/// Its units, in nanoseconds, the longest first.
const UNITS: [(u8, u64); 6] = [
    (b'H', 3_600_000_000_000),
    (b'M', 60_000_000_000),
    (b'S', 1_000_000_000),
    (b'm', 1_000_000),
    (b'u', 1_000),
    (b'n', 1),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_are_digits_and_a_unit() {
        for (text, expected) in [
            ("200m", Some(Duration::from_millis(200))),
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_nanos(u64::MAX))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("2M", Some(Duration::from_secs(120))),
            ("", None),
            ("S", None),
            ("123456789m", None),
            ("-1m", None),
            ("1.5S", None),
            ("10s", None),
        ] {
            assert_eq!(read_grpc(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same_and_never_longer() {
        let mut nanos: u128 = 1;
        while nanos < u128::from(u64::MAX) {
            let left = Duration::from_nanos(u64::try_from(nanos).unwrap());
            let read = read_grpc(write_grpc(left).as_bytes()).unwrap();
            assert!(read <= left && left - read <= left / 10_000, "{left:?} became {read:?}");
            nanos = nanos * 17 / 7 + 1;
        }
        assert_eq!(write_grpc(Duration::ZERO), "0n");
        assert_eq!(write_grpc(Duration::from_millis(200)), "200000u");
        assert_eq!(write_grpc(Duration::MAX), "99999999H");
    }

    #[test]
    fn plain_ones_are_milliseconds_or_have_units() {
        for (text, expected) in [
            ("250", Some(250)),
            (" 250ms ", Some(250)),
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
        ] {
            assert_eq!(read_plain(text.as_bytes()), expected.map(Duration::from_millis), "{text}");
        }
        let left = Duration::from_micros(1999);
        assert_eq!(write_plain(Duration::ZERO, b"5"), "1");
        assert_eq!((write_plain(left, b"250").as_str(), write_plain(left, b"2s").as_str()), ("1", "1ms"));
    }
}
