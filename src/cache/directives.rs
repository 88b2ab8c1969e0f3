//! `Cache-Control` (RFC 9111 §5.2), read for what matters to somebody who keeps responses for bad
//! times. Where a directive is written in a doubtful way, it is read in the way that keeps less.

use std::time::Duration;

use crate::model::Fields;

/// What `Cache-Control` says, of a request or a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Nothing may be kept.
    pub no_store: bool,
    /// Nothing may be used without asking.
    pub no_cache: bool,
    /// Meant for one user. Also when only some fields are: they are not told apart.
    pub private: bool,
    /// Meant for everybody.
    pub public: bool,
    /// `must-revalidate` or `proxy-revalidate`: nothing stale may be used.
    pub must_revalidate: bool,
    /// `s-maxage`: how long a cache of many users may take it for fresh.
    pub shared_max_age: Option<Duration>,
    /// `max-age`: how long a response is fresh.
    pub max_age: Option<Duration>,
    /// `stale-if-error` (RFC 5861 §4): how long past that it may stand in for an error.
    pub stale_if_error: Option<Duration>,
}

impl Directives {
    /// Reads every `Cache-Control` field.
    #[must_use]
    pub fn of(fields: &Fields) -> Self {
        let mut directives = Self::default();
        for (name, value) in fields.get_named(b"cache-control").flat_map(split) {
            directives.take(name, value);
        }
        directives
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("no-cache") => self.no_cache = true,
            () if is("private") => self.private = true,
            () if is("public") => self.public = true,
            () if is("must-revalidate") || is("proxy-revalidate") => self.must_revalidate = true,
            () if is("s-maxage") => self.shared_max_age = shorter(self.shared_max_age, value),
            () if is("max-age") => self.max_age = shorter(self.max_age, value),
            () if is("stale-if-error") => self.stale_if_error = shorter(self.stale_if_error, value),
            () => {}
        }
    }
}

/// The least of `before` and what `value` says; a value that is no number is zero (RFC 9111 §4.2.1).
fn shorter(before: Option<Duration>, value: Option<&[u8]>) -> Option<Duration> {
    let said = value.and_then(seconds).unwrap_or_default();
    Some(before.map_or(said, |before| before.min(said)))
}

/// A number of seconds (RFC 9111 §1.2.2); what is too great for the type is 2^31.
#[must_use]
pub fn seconds(digits: &[u8]) -> Option<Duration> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse::<u32>();
    Some(Duration::from_secs(number.map_or(1 << 31, u64::from)))
}

/// The directives of one field: names, and values without quotes.
fn split(field: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut quoted = false;
    let parts = field.split(move |&byte| {
        quoted ^= byte == b'"';
        byte == b',' && !quoted
    });
    parts.map(|part| {
        let mut halves = part.splitn(2, |&byte| byte == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().map(|value| {
            let value = value.trim_ascii();
            let inside = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
            inside.unwrap_or(value)
        });
        (name, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Directives {
        let mut fields = Fields::default();
        for value in values {
            fields.append(b"Cache-Control", value.as_bytes());
        }
        Directives::of(&fields)
    }

    #[test]
    fn directives_are_read_from_all_fields_in_any_case() {
        let read =
            read(&["Public, MAX-AGE=\"60\" ,s-maxage = 5", "private=\"a, no-store\", stale-if-error=7"]);
        let secs = |n| Some(Duration::from_secs(n));
        assert!(read.public && read.private && !read.no_store && !read.no_cache);
        assert_eq!((read.max_age, read.shared_max_age, read.stale_if_error), (secs(60), secs(5), secs(7)));
    }

    #[test]
    fn doubtful_values_keep_less() {
        let zero = Some(Duration::ZERO);
        for value in
            ["max-age", "max-age=", "max-age=x", "max-age=-1", "max-age=60, max-age=0", "max-age=1.5"]
        {
            assert_eq!(read(&[value]).max_age, zero, "{value}");
        }
        assert_eq!(read(&["max-age=99999999999"]).max_age, Some(Duration::from_secs(1 << 31)));
        assert!(read(&["no-cache=\"set-cookie\""]).no_cache);
        assert!(read(&["\"no-store"]) == Directives::default());
    }
}
