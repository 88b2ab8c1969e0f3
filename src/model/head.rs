//! Message heads, laid out flat: one buffer of bytes, and where each field stands in it. Reading a
//! head copies it once; forwarding it copies each field once more; order and spelling survive.
//! Knows HTTP's words, not how they are framed on the wire.

use std::ops::Range;

use http::{Method, StatusCode, Version};

use super::field::Known;

/// A run of bytes in a head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

/// Header fields in the order in which they were received or added.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    buf: Vec<u8>,
    entries: Vec<Entry>,
    present: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
}

impl Fields {
    /// Empties the fields, keeps the memory, and starts over from `raw`, into which
    /// [`Self::push_span`] then points.
    pub fn load(&mut self, raw: &[u8]) {
        self.clear();
        self.buf.extend_from_slice(raw);
    }

    /// Empties the fields and keeps the memory, unless an unusual head made it large.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.buf.shrink_to(KEPT);
        self.entries.clear();
        self.present = 0;
    }

    /// Adds a field whose name and value stand in the loaded bytes.
    pub fn push_span(&mut self, name: Span, value: Span) {
        let known = Known::of(self.bytes(name));
        self.push_entry(Entry { name, value, known });
    }

    /// Adds a field after all others.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        self.append_line(name, value, known);
    }

    /// Adds a known field after all others, by its name in lower case.
    pub fn append_known(&mut self, known: Known, value: &[u8]) {
        self.append_line(known.name().as_bytes(), value, known);
    }

    /// Replaces every field of this name by one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.append(name, value);
    }

    /// Replaces every field of this known name by one.
    pub fn set_known(&mut self, known: Known, value: &[u8]) {
        self.remove_known(known);
        self.append_known(known, value);
    }

    /// Removes every field of this name, in whatever case; says whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        match Known::of(name) {
            Known::Other => {
                let before = self.entries.len();
                self.retain(|known, n, _| known != Known::Other || !n.eq_ignore_ascii_case(name));
                self.entries.len() != before
            }
            known => self.remove_known(known),
        }
    }

    /// Removes every field of this known name; says whether there was one.
    pub fn remove_known(&mut self, known: Known) -> bool {
        let had = self.has(known);
        if had {
            self.entries.retain(|e| e.known != known);
            self.present &= !known.bit();
        }
        had
    }

    /// Keeps the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Known, &[u8], &[u8]) -> bool) {
        let buf = &self.buf;
        let mut present = 0;
        self.entries.retain(|e| {
            let kept = keep(e.known, slice(buf, e.name), slice(buf, e.value));
            present |= if kept { e.known.bit() } else { 0 };
            kept
        });
        self.present = present;
    }

    /// Whether there is a field of this known name.
    #[must_use]
    pub fn has(&self, known: Known) -> bool {
        self.present & known.bit() != 0
    }

    /// Whether there is a field of any of the known names whose bits are set.
    #[must_use]
    pub fn has_any(&self, bits: u32) -> bool {
        self.present & bits != 0
    }

    /// The first value of this known name.
    #[must_use]
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        if self.has(known) { self.get_all(known).next() } else { None }
    }

    /// Every value of this known name, in order.
    pub fn get_all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().filter(move |e| e.known == known).map(|e| self.bytes(e.value))
    }

    /// Every value of this name, in whatever case, in order.
    pub fn get_named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(_, n, _)| n.eq_ignore_ascii_case(name)).map(|(_, _, value)| value)
    }

    /// Every field as known name, name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.entries.iter().map(|e| (e.known, self.bytes(e.name), self.bytes(e.value)))
    }

    /// Appends the fields to `out` as the lines of HTTP/1. Lines that stand next to each other in the
    /// buffer, which is the usual case, are copied together.
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let mut run = 0..0;
        for entry in &self.entries {
            match self.line(entry) {
                Some(line) if line.start == run.end => run.end = line.end,
                Some(line) => {
                    out.extend_from_slice(self.buf.get(run).unwrap_or_default());
                    run = line;
                }
                None => {
                    out.extend_from_slice(self.buf.get(run).unwrap_or_default());
                    run = 0..0;
                    for part in [self.bytes(entry.name), b": ", self.bytes(entry.value), b"\r\n"] {
                        out.extend_from_slice(part);
                    }
                }
            }
        }
        out.extend_from_slice(self.buf.get(run).unwrap_or_default());
    }

    /// The number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where the field stands in the buffer as `name: value` with its line end, if it stands so.
    fn line(&self, entry: &Entry) -> Option<Range<usize>> {
        let start = entry.name.start as usize;
        let colon = start + entry.name.len as usize;
        let value = entry.value.start as usize;
        let end = value + entry.value.len as usize;
        let is_line = value == colon + 2
            && self.buf.get(colon..value) == Some(b": ")
            && self.buf.get(end..end + 2) == Some(b"\r\n");
        is_line.then_some(start..end + 2)
    }

    /// Stores a field as the line that it will be on the wire.
    fn append_line(&mut self, name: &[u8], value: &[u8], known: Known) {
        self.buf.reserve(name.len() + value.len() + 4);
        let name = self.store(name);
        self.store(b": ");
        let value = self.store(value);
        self.store(b"\r\n");
        self.push_entry(Entry { name, value, known });
    }

    fn push_entry(&mut self, entry: Entry) {
        self.present |= entry.known.bit();
        self.entries.push(entry);
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.buf.len();
        self.buf.extend_from_slice(bytes);
        Span::new(start, bytes.len())
    }

    fn bytes(&self, span: Span) -> &[u8] {
        slice(&self.buf, span)
    }
}

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version in which it was received.
    pub version: Version,
    /// The header fields; `Host` is among them only until [`Self::set_authority`] took it.
    pub fields: Fields,
    target: Span,
    path_len: u32,
    authority: Option<Span>,
}

impl RequestHead {
    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        self.version = Version::HTTP_11;
        self.fields.clear();
        self.target = Span::default();
        self.path_len = 0;
        self.authority = None;
    }

    /// Path and query as they go into a request line; `*` for `OPTIONS *`.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.fields.bytes(self.target)
    }

    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.fields.bytes(Span { len: self.path_len, ..self.target })
    }

    /// What stands after the `?`, when there is one.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.target().get(self.path_len as usize + 1..)
    }

    /// Host and port as the client wrote them; `None` only for HTTP/1.0 requests without `Host`.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|span| self.fields.bytes(span))
    }

    /// Takes path and query.
    pub fn set_target(&mut self, target: &[u8]) {
        let span = self.fields.store(target);
        self.set_target_span(span);
    }

    /// Takes path and query from bytes already in the fields' buffer.
    pub fn set_target_span(&mut self, span: Span) {
        self.target = span;
        let path_len = memchr::memchr(b'?', self.target()).map_or(span.len, to_u32);
        self.path_len = path_len;
    }

    /// Takes host and port; what is sent upstream as `Host` or `:authority`.
    pub fn set_authority(&mut self, authority: &[u8]) {
        self.authority = Some(self.fields.store(authority));
    }

    /// Adds a field whose value is the authority, if there is one.
    pub fn append_authority(&mut self, known: Known) {
        if let Some(value) = self.authority {
            // Shares the value's bytes: it is no line yet, and becomes one when it is written.
            let name = self.fields.store(known.name().as_bytes());
            self.fields.push_entry(Entry { name, value, known });
        }
    }

    /// Takes the authority from the `Host` field, which is removed from the fields: the authority
    /// is kept in one place.
    pub fn take_host(&mut self) {
        if self.fields.has(Known::Host) {
            let host = self.fields.entries.iter().find(|e| e.known == Known::Host).map(|e| e.value);
            self.authority = self.authority.or(host);
            self.fields.remove_known(Known::Host);
        }
    }
}

/// What an endpoint answers.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: StatusCode,
    /// The version in which it was received.
    pub version: Version,
    /// The header fields.
    pub fields: Fields,
    reason: Span,
}

impl ResponseHead {
    /// A head without fields.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }

    /// Empties the head and keeps its memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.reason = Span::default();
    }

    /// The reason phrase as received, or the status's usual one.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        match self.fields.bytes(self.reason) {
            [] => self.status.canonical_reason().unwrap_or_default().as_bytes(),
            reason => reason,
        }
    }

    /// Takes the reason phrase from bytes already in the fields' buffer.
    pub fn set_reason_span(&mut self, span: Span) {
        self.reason = span;
    }
}

impl Span {
    /// The span of `len` bytes from `start`. Heads are limited to far below 4 GiB when read.
    #[must_use]
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: to_u32(start), len: to_u32(len) }
    }

    /// Where `part` stands in `whole`, of which it must be a part.
    #[must_use]
    pub fn within(whole: &[u8], part: &[u8]) -> Self {
        Self::new((part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize), part.len())
    }
}

fn slice(buf: &[u8], span: Span) -> &[u8] {
    let start = span.start as usize;
    buf.get(start..start + span.len as usize).unwrap_or_default()
}

fn to_u32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Bytes of buffer that a cleared head keeps for the next one.
const KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in list {
            fields.append(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn shown(fields: &Fields) -> Vec<String> {
        fields
            .iter()
            .map(|(_, n, v)| format!("{}: {}", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    #[test]
    fn order_and_spelling_survive() {
        let mut f = fields(&[("X-One", "1"), ("HOST", "a"), ("x-one", "2"), ("Via", "1.1 b")]);
        assert_eq!(f.get(Known::Host), Some(&b"a"[..]));
        assert_eq!(f.get_named(b"x-ONE").count(), 2);
        assert!(f.remove(b"host") && !f.remove(b"host"));
        assert!(!f.has(Known::Host) && f.has(Known::Via));
        f.set(b"x-one", b"3");
        assert_eq!(shown(&f), ["Via: 1.1 b", "x-one: 3"]);
    }

    #[test]
    fn lines_are_the_same_together_and_one_by_one() {
        let raw = b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\nC: 3 \r\nD: \r\nE: 5\r\n\r\n";
        let mut f = Fields::default();
        f.load(raw);
        for (name, value) in [
            ((17, 1), (20, 1)),
            ((23, 1), (25, 1)),
            ((28, 1), (31, 1)),
            ((35, 1), (38, 0)),
            ((40, 1), (43, 1)),
        ] {
            f.push_span(Span::new(name.0, name.1), Span::new(value.0, value.1));
        }
        f.append(b"via", b"1.1 x");
        f.append_known(Known::Te, b"trailers");
        f.remove(b"d");
        let mut out = Vec::new();
        f.write_lines(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "A: 1\r\nB: 2\r\nC: 3\r\nE: 5\r\nvia: 1.1 x\r\nte: trailers\r\n"
        );
    }

    #[test]
    fn a_loaded_head_points_into_its_bytes() {
        let raw = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
        let mut head = RequestHead::default();
        head.fields.load(raw);
        head.set_target_span(Span::within(raw, &raw[4..8]));
        head.fields.push_span(Span::new(19, 4), Span::new(25, 1));
        head.take_host();
        assert_eq!((head.path(), head.query()), (&b"/a"[..], Some(&b"b"[..])));
        assert_eq!(head.authority(), Some(&b"h"[..]));
        assert!(head.fields.is_empty());
        head.set_target(b"/c");
        assert_eq!((head.path(), head.query()), (&b"/c"[..], None));
    }

    #[test]
    fn the_usual_reason_stands_in_for_none() {
        assert_eq!(ResponseHead::new(StatusCode::NOT_FOUND).reason(), b"Not Found");
    }
}
