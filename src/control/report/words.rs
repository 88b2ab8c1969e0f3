//! How numbers, times and names read in a report: short, with their units, and such that Markdown takes
//! nothing of them for its own. Pure.

use std::time::{Duration, SystemTime};

use crate::observe::civil::{self, Civil};

/// A count, with a comma before every three digits: `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in three digits or so: `0.04`, `2.8`, `28`, `1,234`.
pub(super) fn number(n: f64) -> String {
    match n {
        n if n.fract() == 0.0 => count(n as u64),
        n if n < 0.01 => "under 0.01".to_owned(),
        n if n < 1.0 => format!("{n:.2}"),
        n if n < 10.0 => format!("{n:.1}"),
        n => count(n.round() as u64),
    }
}

/// A share in percent. What is not nothing does not read as nothing.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        n if n > 0.0 && n < 0.01 => "under 0.01 %".to_owned(),
        0.0 => "0 %".to_owned(),
        n if n < 10.0 => format!("{n:.2} %"),
        n if n < 100.0 => format!("{n:.1} %"),
        n => format!("{} %", count(n.round() as u64)),
    }
}

/// A share of what went well in percent, rounded down: what is not all does not read as all.
pub(super) fn availability(share: f64) -> String {
    let thousandths = (share * 100_000.0 + 1e-6).floor();
    let text = format!("{:.3}", thousandths / 1000.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// How long something took, in three digits or so.
pub(super) fn took(time: Option<Duration>) -> String {
    match time.map(|time| time.as_secs_f64()) {
        None => "–".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

/// How long something was so, in its two greatest units.
pub(super) fn lasted(time: Duration) -> String {
    match time.as_secs() {
        0 => took(Some(time)),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds @ 3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        seconds => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A time of day in UTC: `14:05:30`.
pub(super) fn clock(at: SystemTime) -> String {
    let Civil { hour, minute, second, .. } = Civil::from_unix(civil::unix(at).0);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// A date and a time of day in UTC: `2026-01-31 14:05:30`.
pub(super) fn date(at: SystemTime) -> String {
    Civil::from_unix(civil::unix(at).0).to_string().replace('T', " ")
}

/// So many of something.
pub(super) fn many(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n as u64)) }
}

/// Text that may come from anywhere, in one line in which Markdown finds nothing of its own.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '<' | '[' | ']' => plain.extend(['\\', c]),
            c if c.is_control() => plain.push(' '),
            c => plain.push(c),
        }
    }
    plain
}

/// A name as code.
pub(super) fn code(name: &str) -> String {
    let kept = |c: &char| !c.is_control() && !matches!(c, '`' | '|');
    format!("`{}`", name.chars().filter(kept).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_never_round_a_fault_away() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.001, 0.25, 2.84, 27.6, 1234.0].map(number),
            ["0", "under 0.01", "0.25", "2.8", "28", "1,234"]
        );
        assert_eq!(
            [0.0, 0.00001, 0.0028, 0.123, 2.8].map(percent),
            ["0 %", "under 0.01 %", "0.28 %", "12.3 %", "280 %"]
        );
        assert_eq!(
            [1.0, 0.999_999_9, 0.9972, 0.999, 0.5].map(availability),
            ["100 %", "99.999 %", "99.72 %", "99.9 %", "50 %"]
        );
    }

    #[test]
    fn times_have_their_unit() {
        let times = [0.000_25, 0.0042, 0.25, 2.5].map(|s| took(Some(Duration::from_secs_f64(s))));
        assert_eq!(times, ["250 µs", "4.2 ms", "250 ms", "2.5 s"]);
        assert_eq!(
            [5, 65, 3700, 90_000].map(|s| lasted(Duration::from_secs(s))),
            ["5 s", "1 min 05 s", "1 h 01 min", "1 d 01 h"]
        );
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(951_782_399);
        assert_eq!((clock(at), date(at)), ("23:59:59".to_owned(), "2000-02-28 23:59:59".to_owned()));
    }

    #[test]
    fn markdown_finds_nothing_of_its_own() {
        assert_eq!(plain("a|b\n*c* `d` <e>"), "a\\|b \\*c\\* \\`d\\` \\<e>");
        assert_eq!(code("a`|\nb"), "`ab`");
        assert_eq!((many(1, "reload"), many(2, "reload")), ("1 reload".to_owned(), "2 reloads".to_owned()));
    }
}
