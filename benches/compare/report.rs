//! Tells measurements as Markdown tables, and puts them into the marked sections of
//! `benches/README.md`. Ratios are to the better of the peers in the same round.

use std::fs;
use std::path::Path;

use crate::Failure;
use crate::options::Options;
use crate::peers::Proxy;
use crate::quiet::DISTURBED;
use crate::speed::{Reading, Series};
use crate::statistics::median;

/// How the numbers below it were made.
pub(crate) fn speed_preface(options: &Options) -> String {
    format!(
        "{} rounds, windows of {} s; figures are medians over rounds. \"Ratio\" is Forebay's median over that \
         of the better peer; \"per round\" is the median of the ratios within each round, with the least and \
         the greatest.\n",
        options.rounds(),
        options.window().as_secs(),
    )
}

/// The tables of one setting.
pub(crate) fn speed_tables(title: &str, proxies: &[Proxy], all: &[Series]) -> String {
    let mut text = format!("\n### {title}\n");
    text += &table(proxies, all, &CPU);
    text += &table(proxies, all, &RATE);
    text += &table(proxies, all, &P99);
    text += &table(proxies, all, &BUSY);
    text + &remarks(proxies, all)
}

/// One kind of figure and how it is judged.
struct Figure {
    title: &'static str,
    of: fn(&Reading) -> f64,
    decimals: usize,
    /// Of two peers' figures, the better; without it there is no ratio.
    better: Option<fn(f64, f64) -> f64>,
    /// The ratio aimed at.
    target: fn(&Series) -> Option<f64>,
}

const CPU: Figure = Figure {
    title: "CPU, µs per request",
    of: Reading::cpu_per_request,
    decimals: 1,
    better: Some(f64::min),
    target: |series| series.case.shape().target,
};

const RATE: Figure =
    Figure { title: "requests/s", of: Reading::rate, decimals: 0, better: Some(f64::max), target: |_| None };

const P99: Figure =
    Figure { title: "p99, ms", of: Reading::p99, decimals: 2, better: Some(f64::min), target: |_| Some(1.0) };

/// Below 100, the load's core was what limited the requests/s.
const BUSY: Figure = Figure {
    title: "share of its core used by the proxy, %",
    of: |reading| reading.busy() * 100.0,
    decimals: 0,
    better: None,
    target: |_| None,
};

fn table(proxies: &[Proxy], all: &[Series], figure: &Figure) -> String {
    let names: Vec<&str> = proxies.iter().map(|proxy| proxy.name()).collect();
    let mut text = format!("\n| {} | {} | ratio | per round | target |\n", figure.title, names.join(" | "));
    text += &format!("|---|{}---|---|---|\n", "---|".repeat(names.len()));
    for series in all {
        text += &row(proxies, series, figure);
    }
    text
}

fn row(proxies: &[Proxy], series: &Series, figure: &Figure) -> String {
    let mut cells = vec![format!("`{}`: {}", series.case.name(), series.case.shape().words)];
    let mut medians = Vec::new();
    for place in 0..proxies.len() {
        let values: Vec<f64> =
            series.rounds.iter().filter_map(|round| round.get(place)).map(figure.of).collect();
        let middle = median(&values).unwrap_or(f64::NAN);
        cells.push(format!("{middle:.*}", figure.decimals));
        medians.push(middle);
    }
    let target = (figure.target)(series);
    if let Some(ratio) = ratio_to_better_peer(proxies, &medians, figure) {
        let mark = if target.is_some_and(|target| ratio > target) { " (missed)" } else { "" };
        cells.push(format!("**{ratio:.2}**{mark}"));
    }
    let ratios: Vec<f64> = series
        .rounds
        .iter()
        .map(|round| round.iter().map(figure.of).collect::<Vec<_>>())
        .filter_map(|values| ratio_to_better_peer(proxies, &values, figure))
        .collect();
    if let Some(middle) = median(&ratios) {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = ratios.iter().copied().fold(0.0, f64::max);
        cells.push(format!("{middle:.2} ({least:.2}–{greatest:.2})"));
        cells.push(target.map_or("–".into(), |target| format!("≤ {target:.2}")));
    }
    cells.resize(proxies.len() + 4, "–".into());
    format!("| {} |\n", cells.join(" | "))
}

/// Forebay's figure over the better peer's; `None` when either took no part.
fn ratio_to_better_peer(proxies: &[Proxy], values: &[f64], figure: &Figure) -> Option<f64> {
    let better = figure.better?;
    let mut ours = None;
    let mut best: Option<f64> = None;
    for (proxy, value) in proxies.iter().zip(values) {
        if *proxy == Proxy::Forebay {
            ours = Some(*value);
        } else {
            best = Some(best.map_or(*value, |best| better(best, *value)));
        }
    }
    Some(ours? / best?)
}

/// What qualifies the tables, if anything does.
fn remarks(proxies: &[Proxy], all: &[Series]) -> String {
    let mut text = String::new();
    for series in all {
        for (place, proxy) in proxies.iter().enumerate() {
            let readings = series.rounds.iter().filter_map(|round| round.get(place));
            let errors: u64 = readings.map(|reading| reading.counted.errors).sum();
            if errors > 0 {
                let (proxy, case) = (proxy.name(), series.case.name());
                text += &format!("\n{proxy} failed {errors} requests of `{case}`.\n");
            }
        }
    }
    let left_out: usize = all.iter().map(|series| series.left_out).sum();
    if left_out > 0 {
        let share = DISTURBED * 100.0;
        text += &format!(
            "\nLeft out: {left_out} rounds, while other work used more than {share:.0} % of a core.\n"
        );
    }
    for series in all {
        let most = series.rounds.iter().flatten().map(|reading| reading.others).fold(0.0, f64::max);
        if most >= DISTURBED {
            let (case, most) = (series.case.name(), most * 100.0);
            text += &format!(
                "\nEvery round of `{case}` was disturbed: other work used up to {most:.0} % of a core.\n"
            );
        }
    }
    text
}

/// Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->` in `benches/README.md`.
///
/// # Errors
/// Where the file or its markers are missing.
pub(crate) fn replace_section(name: &str, text: &str) -> Result<(), Failure> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/README.md");
    let page = fs::read_to_string(&path)?;
    let (start, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let missing = || format!("benches/README.md has no section {start}");
    let (head, rest) = page.split_once(&start).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(&end).ok_or_else(missing)?;
    fs::write(&path, format!("{head}{start}\n{}\n{end}{tail}", text.trim()))?;
    Ok(())
}
