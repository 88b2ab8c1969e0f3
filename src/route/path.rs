//! Makes paths safe to match: a path is taken as routes and endpoints both will understand it, or
//! not at all. Removes dot segments and refuses what no path may hold. Other escapes stay as they
//! are and slashes are not merged, since endpoints may tell them apart.

/// What [`normalise`] makes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// It is fine as it is.
    Unchanged,
    /// It had dot segments; this is the path without them.
    Rewritten(Vec<u8>),
    /// No route may see it: 400.
    Refused,
}

/// Removes `.` and `..` segments (RFC 3986 §5.2.4), their dots escaped as `%2e` or not, from a path
/// without its query. Refuses a path that climbs above the root, does not begin with `/` (`*`, for
/// `OPTIONS`, excepted), or holds a control character, a space or a `#`.
#[must_use]
pub fn normalise(path: &[u8]) -> Normalised {
    if path == b"*" {
        return Normalised::Unchanged;
    }
    if path.first() != Some(&b'/') || path.iter().fold(false, |bad, byte| bad | is_refused(*byte)) {
        return Normalised::Refused;
    }
    if has_dot_segment(path) { without_dot_segments(path) } else { Normalised::Unchanged }
}

fn is_refused(byte: u8) -> bool {
    byte <= b' ' || byte == b'#' || byte == 0x7F
}

fn has_dot_segment(path: &[u8]) -> bool {
    memchr::memchr2_iter(b'.', b'%', path).any(|at| {
        let (before, from) = path.split_at_checked(at).unwrap_or_default();
        let segment = from.split(|byte| *byte == b'/').next().unwrap_or_default();
        before.last() == Some(&b'/') && Segment::of(segment) != Segment::Plain
    })
}

fn without_dot_segments(path: &[u8]) -> Normalised {
    let mut kept = Vec::with_capacity(path.len());
    let mut open = false;
    for segment in path.split(|byte| *byte == b'/').skip(1) {
        open = true;
        match Segment::of(segment) {
            Segment::Here => {}
            Segment::Up => match memchr::memrchr(b'/', &kept) {
                Some(at) => kept.truncate(at),
                None => return Normalised::Refused,
            },
            Segment::Plain => {
                open = false;
                kept.push(b'/');
                kept.extend_from_slice(segment);
            }
        }
    }
    // `/a/.` and `/a/b/..` are the folder `/a/`.
    if open {
        kept.push(b'/');
    }
    Normalised::Rewritten(kept)
}

#[derive(PartialEq, Eq)]
enum Segment {
    /// `.`
    Here,
    /// `..`
    Up,
    Plain,
}

impl Segment {
    fn of(segment: &[u8]) -> Self {
        let Some(rest) = after_dot(segment) else { return Self::Plain };
        match after_dot(rest) {
            _ if rest.is_empty() => Self::Here,
            Some([]) => Self::Up,
            _ => Self::Plain,
        }
    }
}

fn after_dot(segment: &[u8]) -> Option<&[u8]> {
    match segment {
        [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_without_dot_segments_stand() {
        for path in [
            "/",
            "*",
            "//",
            "/a",
            "/a//b/",
            "/.well-known/x",
            "/...",
            "/a/..b",
            "/a../b",
            "/a.b/c.",
            "/%2e%2e%2e",
            "/%2E.x",
            "/%252e%252e/a",
            "/a%2f..%2fb",
            "/%",
            "/%2",
            "/\u{fc}",
            "/a;b=c,d:e@f!$&'()*+=~[]|\\\"<>^`{}",
        ] {
            assert_eq!(normalise(path.as_bytes()), Normalised::Unchanged, "{path}");
        }
    }

    #[test]
    fn dot_segments_go() {
        for (path, wanted) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e./b", "/b"),
            ("/.", "/"),
            ("/./", "/"),
            ("/%2e", "/"),
            ("/a/.", "/a/"),
            ("/a/./", "/a/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/b/..", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a//../b", "/a/b"),
            ("//../b", "/b"),
            ("/a/../..b", "/..b"),
            ("/a/..//b", "//b"),
        ] {
            assert_eq!(normalise(path.as_bytes()), Normalised::Rewritten(wanted.into()), "{path}");
        }
    }

    #[test]
    fn what_no_path_may_hold_is_refused() {
        for path in [
            "",
            "a",
            "a/b",
            "**",
            "*/",
            "http://h/",
            "/..",
            "/../a",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e/a",
            "/a b",
            "/a#b",
            "/a\0",
            "/a\r\nb",
            "/\t",
            "/\u{7f}",
        ] {
            assert_eq!(normalise(path.as_bytes()), Normalised::Refused, "{path:?}");
        }
    }

    #[test]
    fn what_is_normalised_stays_so_and_agrees_with_the_rfc_read_literally() {
        let pieces = ["/", "/", ".", "..", "%2e", "a", "b.", "%2E%2e"];
        for seed in 0..20_000_usize {
            let (mut rest, mut path) = (seed.wrapping_mul(2_654_435_761), String::from("/"));
            for _ in 0..seed % 11 {
                path.push_str(pieces[rest % pieces.len()]);
                rest /= pieces.len();
            }
            match (normalise(path.as_bytes()), literally(&path)) {
                (Normalised::Refused, None) => {}
                (Normalised::Unchanged, Some(out)) => assert_eq!(out, path),
                (Normalised::Rewritten(kept), Some(out)) => {
                    assert_eq!(String::from_utf8_lossy(&kept), out, "{path}");
                    assert_eq!(normalise(&kept), Normalised::Unchanged, "{path}");
                }
                (ours, theirs) => panic!("{path}: {ours:?}, {theirs:?}"),
            }
        }
    }

    /// The algorithm of RFC 3986 §5.2.4 in its own steps; `None` where it would climb above the root.
    fn literally(path: &str) -> Option<String> {
        let dot = |segment: &str| segment.replace("%2e", ".").replace("%2E", ".");
        let mut input = path.split('/').skip(1).map(|s| match dot(s).as_str() {
            "." => ".".to_owned(),
            ".." => "..".to_owned(),
            _ => s.to_owned(),
        });
        let mut input: String = input.by_ref().map(|s| format!("/{s}")).collect();
        let mut output: Vec<String> = Vec::new();
        while !input.is_empty() {
            if let Some(rest) = input.strip_prefix("/./") {
                input = format!("/{rest}");
            } else if input == "/." {
                input = "/".into();
            } else if let Some(rest) = input.strip_prefix("/../") {
                output.pop()?;
                input = format!("/{rest}");
            } else if input == "/.." {
                output.pop()?;
                input = "/".into();
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.push(input.drain(..end).collect());
            }
        }
        Some(output.concat())
    }
}
