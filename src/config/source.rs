//! The texts of a configuration, laid end to end, so that one offset says in which file something stands
//! and where. Knows nothing of what the texts mean.

use std::ops::Range;
use std::path::PathBuf;

/// One or more texts, the first of which gives the whole its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    texts: Vec<Text>,
}

/// One text and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// As shown, such as the path of the file.
    pub(super) name: String,
    pub(super) text: String,
    /// The offset of its first byte.
    start: usize,
    /// Where its lines begin, within it.
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let mut source = Self::default();
        source.add(name, text);
        source
    }

    /// Lays another text at the end; the offset of its first byte.
    pub(super) fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        // One byte between two texts, so that the end of one is not the beginning of the next.
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        let text: String = text.into();
        let lines = std::iter::once(0).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
        let lines = lines.collect();
        self.texts.push(Text { name: name.into(), text, start, lines });
        start
    }

    /// What the whole is called.
    pub(super) fn name(&self) -> &str {
        self.texts.first().map_or("", |text| &text.name)
    }

    /// Every text by name, in order.
    pub(super) fn into_texts(self) -> Vec<(PathBuf, String)> {
        self.texts.into_iter().map(|text| (text.name.into(), text.text)).collect()
    }

    /// The text in which `span` begins, and the span within it.
    pub(super) fn find(&self, span: &Range<usize>) -> Option<(&Text, Range<usize>)> {
        let after = self.texts.partition_point(|text| text.start <= span.start);
        let text = self.texts.get(after.checked_sub(1)?)?;
        Some((text, span.start - text.start..span.end.saturating_sub(text.start)))
    }
}

impl Text {
    /// Which line an offset within the text is in, from 0.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The whole line, without what ends it.
    pub(super) fn line(&self, line: usize) -> (usize, &str) {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        (start, self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_says_which_text_and_which_line() {
        let mut source = Source::new("a", "x\ny");
        let second = source.add("b", "1\n22\n");
        let found = |span: Range<usize>| {
            let (text, span) = source.find(&span).unwrap();
            (text.name.clone(), text.line_of(span.start), text.line(text.line_of(span.start)).1, span)
        };
        assert_eq!(found(0..1), ("a".into(), 0, "x", 0..1));
        assert_eq!(found(2..3), ("a".into(), 1, "y", 2..3));
        assert_eq!(found(3..3), ("a".into(), 1, "y", 3..3), "the end of a text is its own");
        assert_eq!(found(second..second + 1), ("b".into(), 0, "1", 0..1));
        assert_eq!(found(second + 3..second + 4), ("b".into(), 1, "22", 3..4));
        assert_eq!(found(second + 5..second + 5), ("b".into(), 2, "", 5..5));
        assert_eq!(found(99..100).1, 2, "what is off is in the last line");
    }
}
