//! Metric families in the Prometheus text format, version 0.0.4, written anew for every scrape, straight into the
//! bytes that are sent: a page may have a hundred thousand lines. Knows how families are written, not what is
//! in them.

use std::io::Write as _;

use super::histogram::Distribution;

/// The media type of what is written here.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Families in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<u8>);

/// The labels of one sample, as they stand between the braces.
pub(super) type Labels = Vec<u8>;

/// A family's name with its one-line help.
#[derive(Clone, Copy, Debug)]
pub(super) struct Title(pub(super) &'static str, pub(super) &'static str);

/// Families of one kind, each with the cell of `C` that it shows.
pub(super) type Table<C, T> = &'static [(Title, fn(&C) -> &T)];

/// Labels from names and values.
pub(super) fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    // Most have two or three.
    let mut labels = Vec::with_capacity(96);
    for (name, value) in pairs {
        if !labels.is_empty() {
            labels.push(b',');
        }
        labels.extend_from_slice(name.as_bytes());
        labels.extend_from_slice(b"=\"");
        escape(value, true, &mut labels);
        labels.push(b'"');
    }
    labels
}

impl Exposition {
    /// With room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Adds a counter; nothing when it has no samples.
    pub(super) fn counter(&mut self, title: Title, samples: impl IntoIterator<Item = (Labels, f64)>) {
        self.numbers(title, "counter", samples);
    }

    /// Adds a gauge; nothing when it has no samples.
    pub(super) fn gauge(&mut self, title: Title, samples: impl IntoIterator<Item = (Labels, f64)>) {
        self.numbers(title, "gauge", samples);
    }

    /// Adds a histogram of durations; nothing when it has no samples.
    pub(super) fn histogram(
        &mut self,
        title: Title,
        samples: impl IntoIterator<Item = (Labels, Distribution)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(title, "histogram");
        }
        // The same for every sample, as a rule; fractions take long to write.
        let mut bounds: Vec<(f64, Vec<u8>)> = Vec::new();
        for (labels, whole) in samples {
            for (place, (seconds, count)) in whole.cumulative().enumerate() {
                if bounds.get(place).is_none_or(|(known, _)| *known != seconds) {
                    bounds.truncate(place);
                    let mut bound = Vec::new();
                    number(seconds, &mut bound);
                    bounds.push((seconds, bound));
                }
                if let Some((_, bound)) = bounds.get(place) {
                    self.bucket(title, &labels, bound, count);
                }
            }
            self.bucket(title, &labels, b"+Inf", whole.count());
            self.sample(title, "_sum", &labels, whole.seconds());
            self.sample(title, "_count", &labels, whole.count() as f64);
        }
    }

    /// The families as text.
    pub(super) fn render(self) -> Vec<u8> {
        self.0
    }

    fn numbers(&mut self, title: Title, kind: &str, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_some() {
            self.head(title, kind);
        }
        for (labels, value) in samples {
            self.sample(title, "", &labels, value);
        }
    }

    fn head(&mut self, Title(name, help): Title, kind: &str) {
        self.write(&[b"# HELP ", name.as_bytes(), b" "]);
        escape(help, false, &mut self.0);
        self.write(&[b"\n# TYPE ", name.as_bytes(), b" ", kind.as_bytes(), b"\n"]);
    }

    fn sample(&mut self, Title(name, _): Title, suffix: &str, labels: &[u8], value: f64) {
        let [open, close]: [&[u8]; 2] = if labels.is_empty() { [b"", b" "] } else { [b"{", b"} "] };
        self.write(&[name.as_bytes(), suffix.as_bytes(), open, labels, close]);
        number(value, &mut self.0);
        self.0.push(b'\n');
    }

    fn bucket(&mut self, Title(name, _): Title, labels: &[u8], bound: &[u8], count: u64) {
        let comma: &[u8] = if labels.is_empty() { b"" } else { b"," };
        self.write(&[name.as_bytes(), b"_bucket{", labels, comma, b"le=\"", bound, b"\"} "]);
        number(count as f64, &mut self.0);
        self.0.push(b'\n');
    }

    fn write(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }
}

/// Appends `text` with what would end its line escaped, and what would end a label's value too if it is one.
fn escape(text: &str, value: bool, to: &mut Vec<u8>) {
    if !text.bytes().any(|byte| matches!(byte, b'\\' | b'\n' | b'"')) {
        return to.extend_from_slice(text.as_bytes());
    }
    for byte in text.bytes() {
        match byte {
            b'\\' => to.extend_from_slice(b"\\\\"),
            b'\n' => to.extend_from_slice(b"\\n"),
            b'"' if value => to.extend_from_slice(b"\\\""),
            _ => to.push(byte),
        }
    }
}

/// Appends a value. Whole numbers are written as such, which takes a fraction of the time.
fn number(value: f64, to: &mut Vec<u8>) {
    let whole = value as u64;
    let written =
        if whole as f64 == value && whole < EXACT { write!(to, "{whole}") } else { write!(to, "{value}") };
    written.expect("writing to memory cannot fail");
}

/// Below this a double holds every whole number (IEEE 754 binary64).
const EXACT: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: f64) -> String {
        let mut to = Vec::new();
        number(value, &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn values_are_written_in_full() {
        for (value, text) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (1e20, "100000000000000000000"),
            (1_700_000_000.25, "1700000000.25"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    #[test]
    fn families_without_samples_are_left_out() {
        let mut out = Exposition::default();
        out.gauge(Title("a", "One.\nTwo \"three\" \\."), [(labels([("x", "1\n\"\\"), ("y", "")]), 2.0)]);
        out.counter(Title("b_total", "None."), []);
        out.histogram(Title("c_seconds", "None."), []);
        out.counter(Title("d_total", "Bare."), [(Vec::new(), 0.5)]);
        let text = String::from_utf8(out.render()).unwrap();
        let expected = "# HELP a One.\\nTwo \"three\" \\\\.\n# TYPE a gauge\na{x=\"1\\n\\\"\\\\\",y=\"\"} 2\n\
                        # HELP d_total Bare.\n# TYPE d_total counter\nd_total 0.5\n";
        assert_eq!(text, expected);
    }
}
