//! Showing problems: each under its line of the source, as compilers do. Knows the source's text
//! and nothing of what is wrong with it.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use super::source::{Source, Text};
pub use crate::model::options::{Problem, Related, Severity};

/// A source with all its problems. As text, it names file, line and column of each.
#[derive(Debug)]
pub struct Report {
    source: Source,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(source: Source, problems: Vec<Problem>) -> Self {
        Self { source, problems }
    }

    /// What the source is called, such as the path of the file.
    #[must_use]
    pub fn source_name(&self) -> &str {
        self.source.name()
    }

    /// The problems, in the order of the source.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many problems keep the configuration from being used.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many problems do not.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// The report as text with terminal colours.
    #[must_use]
    pub fn coloured(&self) -> String {
        Shown { report: self, paint: &COLOURS }.to_string()
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }
}

impl Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown { report: self, paint: &PLAIN }.fmt(f)
    }
}

struct Shown<'a> {
    report: &'a Report,
    paint: &'a Paint,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.report.problems {
            self.problem(f, problem)?;
            writeln!(f)?;
        }
        let counts = [(self.report.errors(), "error"), (self.report.warnings(), "warning")];
        let counts: Vec<_> = counts.into_iter().filter(|(count, _)| *count > 0).map(counted).collect();
        let summary = if counts.is_empty() { "no problems".to_owned() } else { counts.join(" and ") };
        writeln!(f, "{}: {summary}", self.report.source.name())
    }
}

impl Shown<'_> {
    fn problem(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        let Paint { error, warning, bold, blue, green, end } = self.paint;
        let (word, colour) = match problem.severity {
            Severity::Error => ("error", error),
            Severity::Warning => ("warning", warning),
        };
        writeln!(f, "{colour}{word}{end}{bold}: {}{end}", printable(&problem.fault))?;
        match &problem.span {
            Some(span) => {
                let path =
                    if problem.path.is_empty() { String::new() } else { format!(" in {}", problem.path) };
                self.excerpt(f, span, &path, colour)?;
            }
            None => writeln!(f, " {blue}-->{end} {}", self.report.source.name())?,
        }
        if let Some(related) = &problem.related {
            writeln!(f, "{green}note{end}: {}", printable(&related.note))?;
            self.excerpt(f, &related.span, "", green)?;
        }
        match &problem.hint {
            Some(hint) => writeln!(f, "{green}help{end}: {}", printable(hint)),
            None => Ok(()),
        }
    }

    /// File, line and column, then the line with the span underlined, to the line's end at most.
    fn excerpt(
        &self,
        f: &mut fmt::Formatter<'_>,
        span: &Range<usize>,
        path: &str,
        colour: &str,
    ) -> fmt::Result {
        let Paint { blue, end, .. } = self.paint;
        let Some((text, span)) = self.report.source.find(span) else { return Ok(()) };
        let (name, place) = (&text.name, Place::of(text, &span));
        let gutter = place.line.to_string().len();
        writeln!(f, "{:gutter$}{blue}-->{end} {name}:{}:{}{path}", "", place.line, place.column)?;
        writeln!(f, "{:gutter$} {blue}|{end}", "")?;
        writeln!(f, "{blue}{} |{end} {}", place.line, place.shown)?;
        writeln!(f, "{:gutter$} {blue}|{end} {:2$}{colour}{3}{end}", "", "", place.indent, place.underline)
    }
}

/// Where a span stands and how its line is shown.
#[derive(Debug, PartialEq)]
struct Place {
    /// From 1.
    line: usize,
    /// In characters, from 1.
    column: usize,
    /// The line as printed: tabs as spaces, control characters replaced.
    shown: String,
    /// Printed columns before the span.
    indent: usize,
    underline: String,
}

impl Place {
    fn of(text: &Text, span: &Range<usize>) -> Self {
        let start = floor_boundary(&text.text, span.start);
        let end = floor_boundary(&text.text, span.end).max(start);
        let line = text.line_of(start);
        let (first, whole) = text.line(line);
        let (lead, rest) = whole.split_at_checked(start - first).unwrap_or((whole, ""));
        let marked = text.text.get(start..end).unwrap_or_default().lines().next().unwrap_or_default();
        let shown_lead = printable(lead);
        Self {
            line: line + 1,
            column: lead.chars().count() + 1,
            indent: shown_lead.chars().count(),
            underline: "^".repeat(printable(marked).chars().count().max(1)),
            shown: (shown_lead + &printable(rest)).trim_end().to_owned(),
        }
    }
}

/// The greatest character boundary up to `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let index = index.min(text.len());
    (0..=index).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

/// `text` as a terminal may show it: what a file holds must not move the cursor.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\n' => shown.push('\n'),
            c if c.is_control() => shown.push(char::REPLACEMENT_CHARACTER),
            c => shown.push(c),
        }
    }
    shown
}

fn counted((count, noun): (usize, &str)) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Escape sequences around the parts of a report.
struct Paint {
    error: &'static str,
    warning: &'static str,
    bold: &'static str,
    blue: &'static str,
    green: &'static str,
    end: &'static str,
}

const PLAIN: Paint = Paint { error: "", warning: "", bold: "", blue: "", green: "", end: "" };

/// ECMA-48 select graphic rendition.
const COLOURS: Paint = Paint {
    error: "\x1b[1;31m",
    warning: "\x1b[1;33m",
    bold: "\x1b[1m",
    blue: "\x1b[1;34m",
    green: "\x1b[1;32m",
    end: "\x1b[0m",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, problem: Problem) -> Report {
        Report::new(Source::new("f.toml", text), vec![problem])
    }

    #[test]
    fn a_problem_stands_under_its_line() {
        let text = "a = 1\n\tpool = \"äp\" # x\n";
        let start = text.find('"').unwrap();
        let problem =
            Problem::new("pool", Some(start..start + 5), "there is no pool `äp`").hint("write `app`");
        assert_eq!(
            report(text, problem).to_string(),
            "error: there is no pool `äp`\n \
             --> f.toml:2:9 in pool\n  \
             |\n\
             2 |     pool = \"äp\" # x\n  \
             |            ^^^^\n\
             help: write `app`\n\n\
             f.toml: 1 error\n"
        );
    }

    #[test]
    fn a_span_may_be_empty_long_or_off() {
        for (span, line, column, underline) in [
            (3..3, 1, 4, "^"),
            (4..99, 2, 1, "^^^^^"),
            (0..6, 1, 1, "^^^"),
            (99..100, 3, 1, "^"),
            (5..6, 2, 1, "^"),
        ] {
            let source = Source::new("f.toml", "a=1\nß=1;2\n");
            let (text, span) = source.find(&span).unwrap();
            let place = Place::of(text, &span);
            assert_eq!(
                (place.line, place.column, place.underline.as_str()),
                (line, column, underline),
                "{span:?}"
            );
        }
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let shown = report("a = \x1b[2J\n", Problem::new("", Some(4..5), "bad \x07")).to_string();
        assert!(!shown.contains(['\x1b', '\x07']), "{shown:?}");
    }

    #[test]
    fn colours_come_when_asked_for() {
        let report = report("a", Problem::new("", Some(0..1), "x").warning());
        assert!(report.coloured().contains('\x1b'));
        assert!(!report.to_string().contains('\x1b'));
        assert!(report.to_string().ends_with("f.toml: 1 warning\n"));
    }
}
