//! Durations, sizes and shares as people write them: `1m30s`, `64KiB`, `20%`. Exact arithmetic on
//! whole numbers; what does not fit is refused rather than rounded.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Why a string is no duration, size or share.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadUnit {
    /// No duration.
    #[error("{0:?} is not a duration, such as \"250ms\", \"5s\", \"1m30s\" or \"2h\"")]
    Duration(String),
    /// No size.
    #[error("{0:?} is not a size, such as \"512B\", \"64KiB\" or \"10MB\"")]
    Size(String),
    /// No share.
    #[error("{0:?} is not a share, such as \"20%\"")]
    Share(String),
    /// Greater than can be counted.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A part of a whole, from 0 to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

/// Takes `text` as a duration: whole numbers with units, the larger unit first, each at most once.
///
/// # Errors
/// When it is anything else, or longer than 2^64 ns (584 years).
pub fn duration(text: &str) -> Result<Duration, BadUnit> {
    let bad = || BadUnit::Duration(text.to_owned());
    let too_large = || BadUnit::TooLarge(text.to_owned());
    let (mut rest, mut total, mut below) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        let (_, size) = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        if number.is_empty() || *size >= below {
            return Err(bad());
        }
        let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*size)).ok_or_else(too_large)?;
        total = total.checked_add(part).ok_or_else(too_large)?;
        (rest, below) = (after, *size);
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_nanos(total)) }
}

/// A duration as it would be written, to the nanosecond.
#[must_use]
pub fn show(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, size) in DURATIONS.iter().skip(1) {
        let size = u128::from(*size);
        let (count, left) = (rest.div_euclid(size), rest.rem_euclid(size));
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
        rest = left;
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

impl FromStr for ByteSize {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (number, unit) = split(text, |c| c.is_ascii_digit());
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let size = SIZES.iter().find(|(name, _)| *name == unit).filter(|_| !number.is_empty());
        let (_, size) = size.ok_or_else(|| BadUnit::Size(text.to_owned()))?;
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*size));
        bytes.map(Self).ok_or_else(|| BadUnit::TooLarge(text.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, size): &&(&str, u64)| self.0 != 0 && self.0.checked_rem(*size) == Some(0);
        match SIZES.iter().filter(whole).max_by_key(|(_, size)| *size) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0.div_euclid(*size)),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Share {
    /// The share as a fraction, from 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0
    }
}

impl FromStr for Share {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit::Share(text.to_owned());
        let number = text.strip_suffix('%').ok_or_else(bad)?;
        let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let percent = number.parse::<f64>().ok().filter(|p| plain && (0.0..=100.0).contains(p));
        percent.map(|percent| Self(percent / 100.0)).ok_or_else(bad)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0 * 100.0)
    }
}

/// `text` up to the first character that does not fit, and the rest.
fn split(text: &str, fits: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !fits(c)).unwrap_or(text.len()))
}

/// Units in nanoseconds, largest first; the first is read but not written.
const DURATIONS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units in bytes: powers of 1024 (IEC 80000-13) and of 1000.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_parts() {
        let ms = Duration::from_millis;
        for (text, wanted) in [
            ("250ms", ms(250)),
            ("5s", ms(5000)),
            ("1m30s", ms(90_000)),
            ("2h", ms(7_200_000)),
            ("1d", ms(86_400_000)),
            ("1s1ns", Duration::from_nanos(1_000_000_001)),
            ("0s", Duration::ZERO),
        ] {
            assert_eq!(duration(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "30s1m", "1s1s", "5sec", "٣s", "1s2"] {
            assert_eq!(duration(text), Err(BadUnit::Duration(text.into())), "{text}");
        }
        for text in ["99999999999999999999s", "999999999999h"] {
            assert_eq!(duration(text), Err(BadUnit::TooLarge(text.into())), "{text}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back() {
        for (text, shown) in [("90s", "1m30s"), ("1d", "24h"), ("1500ms", "1s500ms"), ("0ms", "0s")] {
            let read = duration(text).unwrap();
            assert_eq!(show(read), shown);
            assert_eq!(duration(shown), Ok(read));
        }
    }

    #[test]
    fn sizes_know_both_thousands() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            ("10MB", 10_000_000),
            ("1 GiB", 1 << 30),
            ("3kB", 3000),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "64", "KiB", "64kib", "1.5MB", "-1B", "1  B"] {
            assert_eq!(text.parse::<ByteSize>(), Err(BadUnit::Size(text.into())), "{text}");
        }
        assert_eq!("99999999999GiB".parse::<ByteSize>(), Err(BadUnit::TooLarge("99999999999GiB".into())));
    }

    #[test]
    fn a_shown_size_is_short() {
        for (bytes, shown) in [(65_536, "64KiB"), (0, "0B"), (1_000_000, "1MB"), (1025, "1025B")] {
            assert_eq!(ByteSize(bytes).to_string(), shown);
        }
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!("20%".parse::<Share>().unwrap().fraction(), 0.2);
        assert_eq!("0.5%".parse::<Share>().unwrap().to_string(), "0.5%");
        for text in ["20", "101%", "-1%", "%", "NaN%", "1e1%", "inf%"] {
            assert_eq!(text.parse::<Share>(), Err(BadUnit::Share(text.into())), "{text}");
        }
    }
}
