//! Text with placeholders such as `{host}`, taken apart when it is read so that a request only
//! copies. Whatever comes from the request is written in visible ASCII, other bytes escaped as in
//! a URL: nothing that a client sends can end a line.

use std::io::Write;

use super::FilterCx;
use crate::model::RequestHead;
use crate::model::options::{Fault, backticked, suggest};

/// Text, or text with placeholders.
#[derive(Debug)]
pub(super) enum Template {
    /// Always the same.
    Fixed(Box<[u8]>),
    Parts(Box<[Part]>),
}

#[derive(Debug)]
pub(super) enum Part {
    Text(Box<[u8]>),
    Of(Placeholder),
}

/// What a request puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    ClientIp,
    Host,
    Scheme,
    Path,
    Query,
}

impl Template {
    /// Takes `text` apart. `{{` stands for `{`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('{') {
                plain.push('{');
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                return Err(Fault::new("`{` is not closed by `}`").hint("write `{{` for a brace itself"));
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into_bytes().into()));
            }
            parts.push(Part::Of(placeholder(name)?));
            rest = after;
        }
        plain.push_str(rest);
        if parts.is_empty() {
            return Ok(Self::Fixed(plain.into_bytes().into()));
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into_bytes().into()));
        }
        Ok(Self::Parts(parts.into()))
    }

    /// Whether it has this placeholder.
    pub(super) fn uses(&self, wanted: Placeholder) -> bool {
        let same = |part: &Part| matches!(part, Part::Of(placeholder) if *placeholder == wanted);
        matches!(self, Self::Parts(parts) if parts.iter().any(same))
    }

    /// Writes the text for this request.
    pub(super) fn render(&self, head: &RequestHead, cx: &FilterCx<'_>) -> Vec<u8> {
        let parts = match self {
            Self::Fixed(text) => return text.to_vec(),
            Self::Parts(parts) => parts,
        };
        let mut out = Vec::with_capacity(128);
        for part in parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Of(placeholder) => placeholder.write(head, cx, &mut out),
            }
        }
        out
    }
}

impl Placeholder {
    fn write(self, head: &RequestHead, cx: &FilterCx<'_>, out: &mut Vec<u8>) {
        match self {
            Self::ClientIp => match cx.client.map(|address| address.to_canonical()) {
                Some(client) => write!(out, "{client}").expect("a Vec takes every write"),
                None => out.extend_from_slice(b"unknown"),
            },
            Self::Host => visible(cx.host.as_bytes(), out),
            Self::Scheme => visible(cx.scheme.as_bytes(), out),
            Self::Path => match head.path() {
                // The `*` of `OPTIONS *` is no path, and would become a part of the host in a URL.
                [b'/', ..] => visible(head.path(), out),
                _ => out.push(b'/'),
            },
            Self::Query => {
                if let Some(query) = head.query() {
                    out.push(b'?');
                    visible(query, out);
                }
            }
        }
    }
}

fn placeholder(name: &str) -> Result<Placeholder, Fault> {
    if let Some((_, found)) = PLACEHOLDERS.iter().find(|(known, _)| *known == name) {
        return Ok(*found);
    }
    let names: Vec<_> = PLACEHOLDERS.iter().map(|(known, _)| *known).collect();
    let hint = match suggest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{{{near}}}`?"),
        None => format!("known: {}; write `{{{{` for a brace itself", backticked(&names)),
    };
    Err(Fault::new(format_args!("there is no placeholder `{{{name}}}`")).hint(hint))
}

fn visible(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_graphic() {
            out.push(*byte);
        } else {
            write!(out, "%{byte:02X}").expect("a Vec takes every write");
        }
    }
}

/// `{query}` brings its `?` along, so that `{path}{query}` is right with and without one.
const PLACEHOLDERS: [(&str, Placeholder); 5] = [
    ("client_ip", Placeholder::ClientIp),
    ("host", Placeholder::Host),
    ("scheme", Placeholder::Scheme),
    ("path", Placeholder::Path),
    ("query", Placeholder::Query),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::filter::tests::Case;

    fn rendered(text: &str, case: Case<'_>) -> String {
        let template = Template::parse(text).unwrap();
        let (head, cx) = (case.head(), case.cx());
        String::from_utf8(template.render(&head, &cx)).unwrap()
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (text, wanted) in [
            ("", ""),
            ("plain }", "plain }"),
            ("{{host}", "{host}"),
            ("{{{host}}", "{app.example}"),
            ("{scheme}://{host}{path}{query}", "http://app.example/a/b?c=d"),
            ("<{client_ip}>", "<192.0.2.7>"),
        ] {
            assert_eq!(rendered(text, Case::default()), wanted, "{text}");
        }
        assert_eq!(rendered("{path}{query}", Case { target: b"/a", ..Case::default() }), "/a");
        assert_eq!(rendered("{path}{query}", Case { target: b"*", ..Case::default() }), "/");
        assert_eq!(rendered("{client_ip}", Case { client: None, ..Case::default() }), "unknown");
    }

    #[test]
    fn nothing_from_a_request_can_end_a_line() {
        let case = Case { host: "a\r\nb", target: b"/x\r\ny\0?z\n\xff \t", ..Case::default() };
        assert_eq!(rendered("{host}{path}{query}", case), "a%0D%0Ab/x%0D%0Ay%00?z%0A%FF%20%09");
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        let fault = |text: &str| Template::parse(text).unwrap_err();
        assert_eq!(fault("a{host").text, "`{` is not closed by `}`");
        assert_eq!(fault("{hots}").hint.as_deref(), Some("did you mean `{host}`?"));
        assert_eq!(fault("{}").text, "there is no placeholder `{}`");
    }
}
