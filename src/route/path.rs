//! Makes paths safe to match: a path is taken as routes and endpoints both will understand it, or
//! not at all. Removes dot segments and needless escapes, and refuses what no path may hold. Other
//! escapes stay as they are and slashes are not merged, since endpoints may tell them apart.

/// What [`normalise`] makes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// It is fine as it is.
    Unchanged,
    /// It had dot segments or needless escapes; this is the path without them.
    Rewritten(Vec<u8>),
    /// No route may see it: 400.
    Refused,
}

/// Removes `.` and `..` segments (RFC 3986 §5.2.4) and the escapes of characters that need none
/// (§6.2.2.2), so that `/%61` is `/a`, from a path without its query. Refuses a path that climbs above the root, does not begin with `/` (`*`, for
/// `OPTIONS`, excepted), or holds a control character, a space or a `#`.
#[must_use]
pub fn normalise(path: &[u8]) -> Normalised {
    if path == b"*" {
        return Normalised::Unchanged;
    }
    if path.first() != Some(&b'/') || path.iter().fold(false, |bad, byte| bad | is_refused(*byte)) {
        return Normalised::Refused;
    }
    let unescaped = memchr::memchr(b'%', path).and_then(|_| without_needless_escapes(path));
    let plain = unescaped.as_deref().unwrap_or(path);
    if has_dot_segment(plain) {
        return without_dot_segments(plain);
    }
    unescaped.map_or(Normalised::Unchanged, Normalised::Rewritten)
}

/// `None` when there is no such escape.
fn without_needless_escapes(path: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        match unreserved(rest) {
            // After a `%` that is no escape, this would make one.
            Some(byte) if !ends_in_half_an_escape(&kept) => {
                kept.push(byte);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                kept.push(*first);
                rest = after;
            }
        }
    }
    (kept.len() < path.len()).then_some(kept)
}

/// The unreserved character (RFC 3986 §2.3) that `text` begins with the escape of.
fn unreserved(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then_some(byte)
}

fn ends_in_half_an_escape(text: &[u8]) -> bool {
    match text {
        [.., b'%'] => true,
        [.., b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    }
}

fn is_refused(byte: u8) -> bool {
    byte <= b' ' || byte == b'#' || byte == 0x7F
}

fn has_dot_segment(path: &[u8]) -> bool {
    memchr::memchr_iter(b'.', path).any(|at| {
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
        match segment {
            b"." => Self::Here,
            b".." => Self::Up,
            _ => Self::Plain,
        }
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
            "/%2f%25",
            "/%%361",
            "/%6%31",
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
    fn needless_escapes_go() {
        for (path, wanted) in [
            ("/%61dm%69n", "/admin"),
            ("/%7Ea%2Db%5fc%30", "/~a-b_c0"),
            ("/%2e%2e%2e", "/..."),
            ("/%2E.x", "/..x"),
            ("/a%/%2e%2e/b", "/b"),
            ("/%2%61%2f", "/%2%61%2f"),
            ("/%2f%61%/", "/%2fa%/"),
        ] {
            match normalise(path.as_bytes()) {
                Normalised::Unchanged => assert_eq!(path, wanted),
                rewritten => assert_eq!(rewritten, Normalised::Rewritten(wanted.into()), "{path}"),
            }
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

    #[test]
    fn what_was_unescaped_holds_no_further_escape() {
        let pieces = ["/", "%", "2", "6", "1", "e", "%2", "%61", "%36", "%2e", "%25", "."];
        for seed in 0..50_000_usize {
            let (mut rest, mut path) = (seed.wrapping_mul(2_654_435_761), String::from("/"));
            for _ in 0..seed % 9 {
                path.push_str(pieces[rest % pieces.len()]);
                rest /= pieces.len();
            }
            if let Normalised::Rewritten(kept) = normalise(path.as_bytes()) {
                assert_eq!(normalise(&kept), Normalised::Unchanged, "seed {seed}: {path}");
            }
        }
    }

    /// The algorithm of RFC 3986 §5.2.4 in its own steps; `None` where it would climb above the root.
    fn literally(path: &str) -> Option<String> {
        let mut input = path.replace("%2e", ".").replace("%2E", ".");
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
