//! How the demo looks: lines of text from numbers, for a live screen, for a plain log and for the
//! end. Pure; where the lines go is the screen's business.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::load::{CLIENTS, RATE};
use super::origin::CAST;
use super::tally::Tally;
use crate::control::health::journal::Entry;
use crate::health::journal::What;
use crate::observe::civil;
use crate::server::EndpointReading;

/// One origin: what the proxy says of it and how long its clients waited.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: &'static str,
    endpoint: String,
    state: &'static str,
    requests: u64,
    errors: u64,
    in_flight: u32,
    p50: Option<Duration>,
    p99: Option<Duration>,
}

/// Where to look besides the table.
#[derive(Clone, Debug)]
pub(super) struct Doors {
    /// Where the proxy listens.
    pub(super) proxy: SocketAddr,
    /// Where the admin listener is.
    pub(super) admin: SocketAddr,
}

/// Whether terminal attributes are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Colours and bold.
    Colour,
    /// Text only.
    Plain,
}

/// One row for each origin, in the order of [`CAST`]. An origin whose address the proxy does not
/// report has no row.
pub(super) fn rows(addresses: &[SocketAddr], readings: &[EndpointReading], tally: &Tally) -> Vec<Row> {
    let row = |(place, (temper, address)): (usize, (&super::origin::Temper, &SocketAddr))| {
        let endpoint = address.to_string();
        let reading = readings.iter().find(|reading| reading.endpoint == endpoint)?;
        let totals = &reading.totals;
        Some(Row {
            name: temper.name,
            endpoint,
            state: reading.state,
            requests: totals.requests,
            errors: totals.responses.last().copied().unwrap_or_default() + totals.failures,
            in_flight: totals.in_flight,
            p50: tally.quantile(place, 50),
            p99: tally.quantile(place, 99),
        })
    };
    CAST.iter().zip(addresses).enumerate().filter_map(row).collect()
}

/// What stands above the table, and in a log before everything.
pub(super) fn heading(doors: &Doors, ends: Option<Duration>, ink: Ink) -> Vec<String> {
    let Doors { proxy, admin } = doors;
    let end =
        ends.map_or_else(|| "Ctrl-C".to_owned(), |length| format!("Ctrl-C, or by itself after {length:?}"));
    vec![
        format!("{}  {CLIENTS} clients, {RATE} requests a second, 3 origins", ink.bold("Forebay demo")),
        String::new(),
        format!("  your own request   curl -i http://{proxy}/"),
        format!("  what is seen       http://{admin}/ in a browser, the dashboard"),
        format!("  what is measured   curl http://{admin}/metrics"),
        format!("  what ends it       {end}"),
        String::new(),
    ]
}

/// The table with its titles.
pub(super) fn table(rows: &[Row], ink: Ink) -> Vec<String> {
    let titles = format!(
        "  {:<7} {:<21} {:<9} {:>8} {:>7} {:>9} {:>9} {:>9}",
        "ORIGIN", "ENDPOINT", "STATE", "REQUESTS", "ERRORS", "IN FLIGHT", "P50", "P99"
    );
    let line = |row: &Row| {
        format!(
            "  {:<7} {:<21} {} {:>8} {} {:>9} {:>9} {:>9}",
            row.name,
            row.endpoint,
            ink.state(&format!("{:<9}", row.state)),
            row.requests,
            ink.errors(row.errors, &format!("{:>7}", row.errors)),
            row.in_flight,
            shown(row.p50),
            shown(row.p99),
        )
    };
    std::iter::once(ink.dim(&titles)).chain(rows.iter().map(line)).collect()
}

/// One thing that happened to an origin.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The time of day, in UTC.
    time: String,
    /// The origin's name; the pool's for what happened to all.
    name: String,
    /// What happened.
    words: String,
}

/// What the journal tells of the origins, the oldest first; that they joined is no news.
pub(super) fn told(addresses: &[SocketAddr], journal: &[Arc<Entry>]) -> Vec<Told> {
    let news = journal.iter().filter(|entry| !matches!(entry.event.what, What::Joined));
    let told = news.map(|entry| {
        let place = addresses.iter().position(|own| entry.endpoint.as_deref() == Some(&own.to_string()));
        let name = place.and_then(|place| CAST.get(place)).map_or(entry.pool.as_str(), |temper| temper.name);
        let time = civil::rfc3339(entry.at);
        let time = time.get(11..19).unwrap_or_default().to_owned();
        Told { time, name: name.to_owned(), words: entry.words() }
    });
    told.collect()
}

/// The last of what happened, at most `most` lines.
pub(super) fn events(told: &[Told], most: usize, ink: Ink) -> Vec<String> {
    let from = told.len().saturating_sub(most);
    let line = |told: &Told| {
        let words: String = told.words.chars().take(WIDTH).collect();
        let cut = if words.len() < told.words.len() { "…" } else { "" };
        format!("  {}  {:<7} {words}{cut}", ink.dim(&told.time), told.name)
    };
    told.get(from..).unwrap_or_default().iter().map(line).collect()
}

/// Characters of an event's words that are shown.
const WIDTH: usize = 120;

/// What the clients saw, in one line.
pub(super) fn clients(tally: &Tally, elapsed: Duration) -> String {
    let Tally { sent, answered, failed, .. } = tally;
    format!("  clients: {sent} sent, {answered} answered, {failed} failed in {:.0} s", elapsed.as_secs_f64())
}

/// Everything in one line, for logs.
pub(super) fn line(rows: &[Row], elapsed: Duration) -> String {
    let mut line = format!("{:>4.0}s", elapsed.as_secs_f64());
    for row in rows {
        // Writing to a string does not fail.
        let _ = write!(
            line,
            "  {} {} requests={} errors={} in_flight={} p50={} p99={}",
            row.name,
            row.state,
            row.requests,
            row.errors,
            row.in_flight,
            shown(row.p50),
            shown(row.p99),
        );
    }
    line
}

/// What the columns mean, where that is not obvious.
pub(super) const LEGEND: [&str; 2] = [
    "  requests, errors (5xx and attempts that failed), in flight: as the proxy counts them",
    "  p50, p99: as its clients measured them since the start, to the last byte",
];

impl Ink {
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn state(self, text: &str) -> String {
        let colour = match text.trim_end() {
            "up" => "32",
            "warming" | "degraded" | "on_trial" => "33",
            _ => "31",
        };
        self.with(colour, text)
    }

    fn errors(self, count: u64, text: &str) -> String {
        if count == 0 { text.to_owned() } else { self.with("33", text) }
    }

    /// `text` under an SGR attribute (ECMA-48 §8.3.117).
    fn with(self, attribute: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{attribute}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// A duration with three figures or so; a dash when there is none.
fn shown(duration: Option<Duration>) -> String {
    match duration.map(|d| d.as_secs_f64() * 1e3) {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2}ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1}ms"),
        Some(ms) => format!("{ms:.0}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Gauge;
    use crate::demo::tally::Ending;
    use crate::model::Name;
    use crate::observe::Shard;
    use crate::observe::metrics::{FailureKind, Registry};

    /// Two requests to the good origin, one of them with a 503 and one still under way; a reset by
    /// the flaky one. Nothing is known of the slow one.
    fn sample() -> Vec<Row> {
        let registry = Registry::new(1);
        let shard = Shard::worker(0);
        let pool = Name::new("app").unwrap();
        let reading = |endpoint: &str| {
            let gauge = Arc::new(Gauge::new(1, crate::ambient::now()));
            let metrics = registry.endpoint(&pool, endpoint, &gauge);
            if endpoint.ends_with(":1") {
                gauge.begin(crate::ambient::now());
                metrics.requested(shard);
                metrics.requested(shard);
                metrics.responded(shard, 503, Duration::from_millis(3));
            } else {
                metrics.requested(shard);
                metrics.failed(shard, FailureKind::Reset);
            }
            let (pool, endpoint) = (pool.clone(), endpoint.to_owned());
            EndpointReading { pool, endpoint, state: "up", totals: metrics.totals() }
        };
        let readings = ["127.0.0.1:3", "127.0.0.1:1"].map(reading);
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut tally = Tally::default();
        tally.end(Ending { origin: Some(0), good: true, took: Duration::from_millis(12) });
        rows(&addresses, &readings, &tally)
    }

    #[test]
    fn the_table_lines_up_and_shows_what_was_counted() {
        let shown = table(&sample(), Ink::Plain);
        assert_eq!(
            shown,
            [
                "  ORIGIN  ENDPOINT              STATE     REQUESTS  ERRORS IN FLIGHT       P50       P99",
                "  good    127.0.0.1:1           up               2       1         1    12.3ms    12.3ms",
                "  flaky   127.0.0.1:3           up               1       1         0         -         -",
            ]
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let bare = |line: String| {
            let parts = line.split("\x1b[").enumerate();
            parts
                .map(|(i, part)| if i == 0 { part } else { part.split_once('m').unwrap().1 })
                .collect::<String>()
        };
        let coloured: Vec<_> = table(&sample(), Ink::Colour).into_iter().map(bare).collect();
        assert_eq!(coloured, table(&sample(), Ink::Plain));
    }

    #[test]
    fn a_log_line_says_the_same() {
        assert_eq!(
            line(&sample(), Duration::from_millis(2900)),
            "   3s  good up requests=2 errors=1 in_flight=1 p50=12.3ms p99=12.3ms  \
             flaky up requests=1 errors=1 in_flight=0 p50=- p99=-"
        );
    }

    #[test]
    fn durations_keep_about_three_figures() {
        let texts =
            [800, 12_345, 250_400, 1_500_000].map(|micros| shown(Some(Duration::from_micros(micros))));
        assert_eq!(texts, ["0.80ms", "12.3ms", "250ms", "1500ms"]);
    }
}
