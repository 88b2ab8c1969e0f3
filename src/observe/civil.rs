//! Dates in UTC, as log lines write them. Pure arithmetic; the time comes from the caller.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment in UTC, to the second. Its [`Display`](fmt::Display) is RFC 3339's, without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// From 1970.
    pub year: u64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Civil {
    /// The date and time of day, `seconds` after the Unix epoch.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        let (year, month, day) = date(seconds / 86_400);
        let rest = seconds % 86_400;
        Self {
            year,
            month: small(month),
            day: small(day),
            hour: small(rest / 3600),
            minute: small(rest / 60 % 60),
            second: small(rest % 60),
        }
    }

    /// The month in English, in three letters.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    }
}

/// Seconds of the Unix epoch, and milliseconds past them. What is before the epoch counts as it.
#[must_use]
pub fn unix(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_millis())
}

/// `time` as RFC 3339 writes it, in UTC with milliseconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let (seconds, millis) = unix(time);
    format!("{}.{millis:03}Z", Civil::from_unix(seconds))
}

/// The moment that `text` names as RFC 3339 §5.6 writes it: in UTC (`Z`) or with an offset, with any
/// number of decimals. `None` when it is anything else, is before 1970 or does not exist; leap seconds
/// are not known.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    let (day, rest) = text.split_at_checked(10)?;
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = split_zone(time)?;
    let mut day = day.splitn(3, '-');
    let (year, month, date) = (digits(day.next()?, 4)?, digits(day.next()?, 2)?, digits(day.next()?, 2)?);
    let days = days(year, month, date)?;
    let midnight = UNIX_EPOCH + Duration::from_secs(days * 86_400);
    let local = midnight + time_of_day(time)?;
    match offset {
        Offset::East(ahead) => local.checked_sub(ahead).filter(|time| *time >= UNIX_EPOCH),
        Offset::West(behind) => local.checked_add(behind),
    }
}

/// The time since midnight that `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction` names.
#[must_use]
pub fn time_of_day(text: &str) -> Option<Duration> {
    let (text, nanos) = match text.split_once('.') {
        Some((text, fraction)) => (text, nanos(fraction)?),
        None => (text, 0),
    };
    let mut parts = text.splitn(3, ':');
    let (hour, minute) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let second = match parts.next() {
        Some(second) => digits(second, 2)?,
        None if nanos == 0 => 0,
        None => return None,
    };
    let real = hour < 24 && minute < 60 && second < 60;
    real.then(|| Duration::new(hour * 3600 + minute * 60 + second, nanos))
}

/// How far local time is ahead of UTC, or behind.
enum Offset {
    East(Duration),
    West(Duration),
}

fn split_zone(time: &str) -> Option<(&str, Offset)> {
    if let Some(time) = time.strip_suffix(['Z', 'z']) {
        return Some((time, Offset::East(Duration::ZERO)));
    }
    let (time, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
    if let Some(ahead) = offset.strip_prefix('+') {
        return Some((time, Offset::East(time_of_day(ahead)?)));
    }
    Some((time, Offset::West(time_of_day(offset.strip_prefix('-')?)?)))
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let plain = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

fn nanos(fraction: &str) -> Option<u32> {
    let plain = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nine: String = fraction.chars().chain(std::iter::repeat_n('0', 9)).take(9).collect();
    nine.parse().ok().filter(|_| plain)
}

/// The number of a day, counted from 1970-01-01; the inverse of [`date`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let shifted = if month > 2 { year } else { year.checked_sub(1)? };
    let (era, within) = (shifted / 400, shifted % 400);
    let before = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let number = (era * 146_097 + within * 365 + within / 4 - within / 100 + before).checked_sub(719_468)?;
    // What is no date is another one.
    (date(number) == (year, month, day)).then_some(number)
}

/// Year, month and day of the day with this number, counted from 1970-01-01. After Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so that
/// the leap day is a year's last, and 400 years are 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // From 0000-03-01.
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // 0 is March.
    let day = day - (153 * month + 2) / 5 + 1;
    let (carry, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (era * 400 + year + carry, month, day)
}

fn small(n: u64) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_are_known() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_000_000_000, "2001-09-09T01:46:40"),
            (2_147_483_648, "2038-01-19T03:14:08"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (253_402_300_799, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(Civil::from_unix(seconds).to_string(), shown);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let leap =
            |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for n in 0..200_000 {
            assert_eq!(date(n), (year, month, day), "day {n}");
            let last = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, d) if d == last => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn milliseconds_are_kept_and_the_past_is_the_epoch() {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_micros(1_234_567)), "1970-01-01T00:00:01.234Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
        assert_eq!(Civil::from_unix(951_782_400).month_name(), "Feb");
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for seconds in (0..4_000_000_000_u64).step_by(86_400 * 17 + 4321) {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time));
        }
        let noon = UNIX_EPOCH + Duration::from_secs(951_825_600);
        for text in
            ["2000-02-29T12:00:00Z", "2000-02-29t14:30:00+02:30", "2000-02-29 06:59:59.999999999-05:00"]
        {
            let off = noon.duration_since(parse_rfc3339(text).unwrap()).unwrap();
            assert!(off <= Duration::from_secs(1), "{text}");
        }
        assert_eq!(parse_rfc3339("2000-02-29T12:00:00.5z"), Some(noon + Duration::from_millis(500)));
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "2001-02-29T12:00:00Z",
            "2000-13-01T12:00:00Z",
            "2000-00-01T12:00:00Z",
            "2000-01-00T12:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T12:60:00Z",
            "2000-01-01T12:00:00",
            "2000-01-01T12:00:00.Z",
            "2000-01-01",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "20000-1-01T12:00:00Z",
            "2000-01-01T12:00:00+1:00",
            "2000-01-01T1:00:00Z",
            "ü000-01-01T12:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
