//! What `top` shows: rates between two moments, by pool and endpoint, in an order and with a selection.
//! Asks nobody and draws nothing.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::super::running::path_of;
use super::sample::{Endpoint, Sample, Times};
use crate::model::json;

/// What is shown.
#[derive(Debug)]
pub(super) struct View {
    before: Sample,
    now: Sample,
    order_by: usize,
    selected: usize,
    /// A question that waits for an answer, and for which endpoint.
    asking: Option<(Asking, String, String)>,
    /// An order that was confirmed.
    confirmed: Option<(String, &'static str)>,
    /// What there is to tell, until the next sample.
    said: Option<String>,
}

/// What has to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    Drain,
    Undrain,
}

/// A line: a pool, or one of its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) pool: String,
    /// Nothing for the pool itself.
    pub(super) endpoint: Option<String>,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) in_flight: u64,
    /// Requests and errors a second.
    pub(super) rates: (f64, f64),
    /// Times to the first byte in seconds, of half and of 99 %.
    pub(super) percentiles: (Option<f64>, Option<f64>),
}

/// How lines can be ordered.
pub(super) const ORDERS: [&str; 5] = ["name", "requests/s", "errors/s", "p99", "in flight"];

impl View {
    pub(super) fn new(first: Sample) -> Self {
        Self {
            before: first.clone(),
            now: first,
            order_by: 0,
            selected: 0,
            asking: None,
            confirmed: None,
            said: None,
        }
    }

    /// Goes on to the next moment.
    pub(super) fn take(&mut self, sample: Sample) {
        self.before = std::mem::replace(&mut self.now, sample);
        self.said = None;
        self.select(0);
    }

    /// As `/v1/status` has it.
    pub(super) fn status(&self) -> &Value {
        &self.now.status
    }

    /// Requests of clients a second, and answers from 500 on, in all.
    pub(super) fn rates(&self) -> (f64, f64) {
        let (before, now) = (self.before.requests, self.now.requests);
        (self.rate(before.0, now.0), self.rate(before.1, now.1))
    }

    /// Connections and flows a second that were passed on unread, where there are such.
    pub(super) fn passed_on(&self) -> Option<f64> {
        Some(self.rate(self.before.passed_on.unwrap_or_default(), self.now.passed_on?))
    }

    /// Every pool with its endpoints after it, in the order that is wanted.
    pub(super) fn rows(&self) -> Vec<Row> {
        let key = |own: &Endpoint| (own.pool.clone(), own.name.clone());
        let before: HashMap<_, _> = self.before.endpoints.iter().map(|own| (key(own), own)).collect();
        let mut pools: Vec<(Row, Vec<Row>)> = Vec::new();
        for shown in json::list(&self.now.status, "pools") {
            let name = json::text(shown, "pool").unwrap_or_default();
            let own: Vec<_> = self.now.endpoints.iter().filter(|own| own.pool == name).collect();
            let mut all = Times::default();
            let mut rows: Vec<_> = own
                .into_iter()
                .map(|own| {
                    let nothing = Endpoint::default();
                    let earlier = before.get(&key(own)).copied().unwrap_or(&nothing);
                    let times = own.times.since(&earlier.times);
                    all.add(&times);
                    self.endpoint(earlier, own, &times)
                })
                .collect();
            self.arrange(&mut rows, |row| row);
            pools.push((pool(shown, &rows, &all), rows));
        }
        self.arrange(&mut pools, |(pool, _)| pool);
        pools.into_iter().flat_map(|(pool, rows)| std::iter::once(pool).chain(rows)).collect()
    }

    fn endpoint(&self, before: &Endpoint, now: &Endpoint, times: &Times) -> Row {
        Row {
            pool: now.pool.clone(),
            endpoint: Some(now.name.clone()),
            state: now.state.clone(),
            reason: now.reason.clone(),
            in_flight: now.in_flight,
            rates: (self.rate(before.requests, now.requests), self.rate(before.errors, now.errors)),
            percentiles: (times.quantile(0.5), times.quantile(0.99)),
        }
    }

    fn rate(&self, before: u64, now: u64) -> f64 {
        let seconds = self.now.at.saturating_duration_since(self.before.at).max(LEAST).as_secs_f64();
        now.saturating_sub(before) as f64 / seconds
    }

    /// The greatest first, or by name. Equals keep their places.
    fn arrange<T>(&self, rows: &mut [T], row: impl Fn(&T) -> &Row) {
        let weight = |row: &Row| match self.order_by {
            1 => row.rates.0,
            2 => row.rates.1,
            3 => row.percentiles.1.unwrap_or_default(),
            4 => row.in_flight as f64,
            _ => 0.0,
        };
        rows.sort_by(|a, b| weight(row(b)).total_cmp(&weight(row(a))));
    }

    /// By what lines are ordered.
    pub(super) fn ordered_by(&self) -> &'static str {
        ORDERS.get(self.order_by).copied().unwrap_or_default()
    }

    /// Orders by another column.
    pub(super) fn sort(&mut self, steps: isize) {
        self.order_by = self.order_by.wrapping_add_signed(steps).wrapping_add(ORDERS.len()) % ORDERS.len();
    }

    /// Which line is selected.
    pub(super) fn selected(&self) -> usize {
        self.selected
    }

    /// Moves the selection, as far as there are lines.
    pub(super) fn select(&mut self, steps: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(steps).min(last);
    }

    /// Asks whether an order is to be given for the selected endpoint.
    pub(super) fn ask(&mut self, asking: Asking) {
        let row = self.rows().into_iter().nth(self.selected);
        match row.and_then(|row| Some((row.pool, row.endpoint?))) {
            Some((pool, endpoint)) => self.asking = Some((asking, pool, endpoint)),
            None => self.say("select an endpoint first".to_owned()),
        }
    }

    /// What is to be confirmed, if there is something.
    pub(super) fn asking(&self) -> Option<Asking> {
        self.asking.as_ref().map(|(asking, ..)| *asking)
    }

    /// The answer to what was asked.
    pub(super) fn answer(&mut self, yes: bool) {
        let Some((asking, pool, endpoint)) = self.asking.take().filter(|_| yes) else { return };
        self.confirmed = Some((path_of((&pool, &endpoint)), asking.word()));
    }

    /// An order that was confirmed, once: the endpoint's path and the word.
    pub(super) fn order(&mut self) -> Option<(String, &'static str)> {
        self.confirmed.take()
    }

    /// Tells something until the next moment.
    pub(super) fn say(&mut self, text: String) {
        self.said = Some(text.lines().collect::<Vec<_>>().join(" "));
    }

    /// The question, or what there is to tell, or what is known of the selected line.
    pub(super) fn line(&self) -> String {
        if let Some((asking, pool, endpoint)) = &self.asking {
            return format!("{} {pool}/{endpoint}? y/n", asking.word());
        }
        if let Some(said) = &self.said {
            return said.clone();
        }
        let row = self.rows().into_iter().nth(self.selected);
        row.map(|row| row.reason).unwrap_or_default()
    }
}

impl Asking {
    fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        }
    }
}

/// A pool as its endpoints have it together.
fn pool(shown: &Value, rows: &[Row], times: &Times) -> Row {
    let number = |name: &str| json::number::<u64>(shown, name).unwrap_or_default();
    let text = |name: &str| json::text(shown, name).unwrap_or_default();
    let rung = shown.get("rung").and_then(|rung| json::text(rung, "name")).unwrap_or("own");
    let mut reasons = Vec::new();
    if text("breaker") != "closed" {
        reasons.push(format!("its breaker is {}", text("breaker")));
    }
    if rung != "own" {
        reasons.push(format!("{rung} answers for it"));
    }
    for (name, reason) in [
        ("failed_open", "too few endpoints are available, all are used"),
        ("correlated_failure", "its endpoints degrade together"),
    ] {
        if shown.get(name).and_then(Value::as_bool) == Some(true) {
            reasons.push(reason.to_owned());
        }
    }
    Row {
        pool: text("pool").to_owned(),
        endpoint: None,
        state: format!("{}/{}", number("available"), number("total")),
        reason: reasons.join("; "),
        in_flight: number("in_flight"),
        rates: rows.iter().fold((0.0, 0.0), |(r, e), row| (r + row.rates.0, e + row.rates.1)),
        percentiles: (times.quantile(0.5), times.quantile(0.99)),
    }
}

/// The least time between two moments, so that rates are finite.
const LEAST: Duration = Duration::from_millis(1);
