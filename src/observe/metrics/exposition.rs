//! Metric families as the Prometheus text format has them, built anew for every scrape. Knows how
//! families are written, not what is in them.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::histogram::Distribution;

/// Families in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Exposition(Vec<MetricFamily>);

/// The labels of one sample, in the order in which they are shown.
pub(super) type Labels = Vec<LabelPair>;

/// A family's name with its one-line help.
#[derive(Clone, Copy, Debug)]
pub(super) struct Title(pub(super) &'static str, pub(super) &'static str);

/// Families of one kind, each with the cell of `C` that it shows.
pub(super) type Table<C, T> = &'static [(Title, fn(&C) -> &T)];

/// Labels from names and values.
pub(super) fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.into_iter().map(pair).collect()
}

impl Exposition {
    /// Adds a counter; nothing when it has no samples.
    pub(super) fn counter(&mut self, title: Title, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let sample = |(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = Metric::from_label(labels);
            metric.set_counter(counter);
            metric
        };
        self.family(title, MetricType::COUNTER, samples.into_iter().map(sample).collect());
    }

    /// Adds a gauge; nothing when it has no samples.
    pub(super) fn gauge(&mut self, title: Title, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let sample = |(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = Metric::from_label(labels);
            metric.set_gauge(gauge);
            metric
        };
        self.family(title, MetricType::GAUGE, samples.into_iter().map(sample).collect());
    }

    /// Adds a histogram of durations; nothing when it has no samples.
    pub(super) fn histogram(
        &mut self,
        title: Title,
        samples: impl IntoIterator<Item = (Labels, Distribution)>,
    ) {
        let sample = |(labels, whole): (Labels, Distribution)| {
            let mut metric = Metric::from_label(labels);
            metric.set_histogram(histogram(&whole));
            metric
        };
        self.family(title, MetricType::HISTOGRAM, samples.into_iter().map(sample).collect());
    }

    fn family(&mut self, Title(name, help): Title, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// The families as text.
    pub(super) fn render(&self) -> Vec<u8> {
        let text = TextEncoder::new().encode_to_string(&self.0);
        text.expect("writing to memory cannot fail, and no family is empty or nameless").into_bytes()
    }
}

fn histogram(whole: &Distribution) -> Histogram {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(whole.cumulative().map(bucket).collect());
    histogram.set_sample_count(whole.count());
    histogram.set_sample_sum(whole.seconds());
    histogram
}
