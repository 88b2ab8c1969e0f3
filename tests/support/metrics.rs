//! The samples of a scrape.

use std::collections::BTreeMap;

/// What `/metrics` said at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Metrics {
    /// Reads the Prometheus text format.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { samples: lines.map(sample).collect() }
    }

    /// The sum of all samples called `name` that have these labels, among others.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// Whether there is a sample called `name` with these labels, among others.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// All samples called `name` that have these labels, among others.
    pub(crate) fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let fits = |own: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| own.get(*label).is_some_and(|own| own == value))
        };
        let samples = self.samples.iter().filter(move |(own, labels, _)| own == name && fits(labels));
        samples.map(|(_, labels, value)| (labels, *value))
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
    let value = value.parse().expect("which is a number");
    let (name, inside) = series.split_once('{').unwrap_or((series, ""));
    (name.to_owned(), labels(inside.trim_end_matches('}')), value)
}

/// Labels, of which values may hold escaped quotes, commas and braces.
fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let mut value = String::new();
        let mut chars = rest.chars();
        loop {
            match chars.next() {
                Some('\\') => value.extend(chars.next().map(|c| if c == 'n' { '\n' } else { c })),
                Some('"') | None => break,
                Some(c) => value.push(c),
            }
        }
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = chars.as_str();
    }
    labels
}
