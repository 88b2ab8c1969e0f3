//! Query parameters as HTML forms write them: `name=value` joined by `&`, `+` for a space, percent
//! escapes. Reads in place; nothing is built up front.

use std::borrow::Cow;

use super::ValueMatch;

/// Whether one of the parameters of `query` is called `name` and has a value that fits.
pub(super) fn has(query: &[u8], name: &[u8], wanted: &ValueMatch) -> bool {
    query.split(|byte| *byte == b'&').any(|pair| {
        let (key, value) = match memchr::memchr(b'=', pair) {
            Some(at) => (pair.get(..at).unwrap_or_default(), pair.get(at + 1..).unwrap_or_default()),
            None => (pair, &[][..]),
        };
        decoded(key).eq(name.iter().copied()) && fits(value, wanted)
    })
}

fn fits(value: &[u8], wanted: &ValueMatch) -> bool {
    match wanted {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => decoded(value).eq(text.bytes()),
        ValueMatch::Regex(pattern) => pattern.matches(&plain(value)),
    }
}

/// The decoded bytes in one piece; a copy only when there is something to decode.
fn plain(value: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', value) {
        Some(_) => Cow::Owned(decoded(value).collect()),
        None => Cow::Borrowed(value),
    }
}

/// Decodes byte by byte. A `%` without two hexadecimal digits stands for itself.
fn decoded(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'+' => Some(b' '),
            b'%' => match after {
                [high, low, after @ ..] => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => {
                        rest = after;
                        Some(high << 4 | low)
                    }
                    _ => Some(b'%'),
                },
                _ => Some(b'%'),
            },
            byte => Some(*byte),
        }
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Pattern;

    #[test]
    fn parameters_are_decoded_and_compared() {
        let exact = |text: &str| ValueMatch::Exact(text.to_owned());
        let regex = |text: &str| ValueMatch::Regex(Pattern::new(text).unwrap());
        for (query, name, wanted, found) in [
            ("", "a", ValueMatch::Present, false),
            ("a", "a", ValueMatch::Present, true),
            ("a", "a", exact(""), true),
            ("b=1&a=2", "a", exact("2"), true),
            ("a=1&a=2", "a", exact("2"), true),
            ("A=1", "a", ValueMatch::Present, false),
            ("ab=1", "a", ValueMatch::Present, false),
            ("%61=1", "a", exact("1"), true),
            ("a=x+y%20z", "a", exact("x y z"), true),
            ("a=b=c", "a", exact("b=c"), true),
            ("a=%2", "a", exact("%2"), true),
            ("a=%zz%4", "a", exact("%zz%4"), true),
            ("a=%", "a", exact("%"), true),
            ("a=%C3%BC", "a", exact("ü"), true),
            ("a=1;b=2", "b", ValueMatch::Present, false),
            ("a=v%31%0a", "a", regex("v1."), true),
            ("a=v12", "a", regex("v1"), false),
        ] {
            assert_eq!(has(query.as_bytes(), name.as_bytes(), &wanted), found, "{query} {name} {wanted:?}");
        }
    }
}
