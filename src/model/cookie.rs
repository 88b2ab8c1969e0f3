//! Cookies in requests, as clients send them and not only as they should (RFC 6265 §5.4): found in
//! place, nothing is built. Knows no cookie in particular.

use super::Fields;
use super::field::Known;

/// The value of the first cookie of this name; names tell case apart. Quotes belong to the value.
#[must_use]
pub fn find<'a>(fields: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    if !fields.has(Known::Cookie) {
        return None;
    }
    // HTTP/2 clients may send each cookie in a field of its own (RFC 9113 §8.2.3).
    fields.get_all(Known::Cookie).find_map(|line| {
        line.split(|byte| *byte == b';').find_map(|pair| {
            let (key, value) = split(pair)?;
            (key == name).then_some(value)
        })
    })
}

/// Whether `name` can be the name of a cookie: a token (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(fits)
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'=', pair)?;
    Some((pair.get(..at)?.trim_ascii(), pair.get(at + 1..)?.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_whatever_else_there_is() {
        for (lines, found) in [
            (&["a=1"][..], Some("1")),
            (&["b=2; a=1"], Some("1")),
            (&["b=2;a=1;"], Some("1")),
            (&["b=2", "c=3; a=1"], Some("1")),
            (&["a=1; a=2"], Some("1")),
            (&["a = 1 ;b=2"], Some("1")),
            (&["a; =; ; a=b=c"], Some("b=c")),
            (&["a=\"1\""], Some("\"1\"")),
            (&["a="], Some("")),
            (&["A=1; aa=1; xa=1"], None),
            (&["a"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut fields = Fields::default();
            lines.iter().for_each(|line| fields.append(b"Cookie", line.as_bytes()));
            assert_eq!(find(&fields, b"a"), found.map(str::as_bytes), "{lines:?}");
        }
    }
}
