//! What it costs a request to be seen: Forebay with access logs and traces beside Forebay without, nginx with
//! its access log beside nginx without; and what requests notice when nobody takes the lines and the spans.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, PROXY_CORE};
use crate::load::{self, Pace};
use crate::options::{Dressing, Options, Work};
use crate::peers::{Edited, Proxy, Serving, Start};
use crate::quiet;
use crate::sink::{self, Sink};
use crate::speed::WARM_UP;
use crate::statistics::median;

/// Measures all of it and tells it as Markdown.
///
/// # Errors
/// Where a proxy, a load generator or the stand-in for a collector fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let sinks = Sinks { takes: sink::start(Sink::Takes)?, stalls: sink::start(Sink::Stalls)? };
    let taken_part = |seen: &&Seen| options.proxies.contains(&seen.proxy);
    let costs: Vec<_> = COSTS.iter().filter(taken_part).collect();
    let stalls: Vec<_> = STALLS.iter().filter(taken_part).collect();
    Ok(cost(ground, options, &costs, &sinks)? + &stalled(ground, options, &stalls, &sinks)?)
}

/// A proxy, and what is seen of its requests.
#[derive(Debug)]
struct Seen {
    proxy: Proxy,
    words: &'static str,
    /// What its files are called.
    name: &'static str,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Nothing, but for Forebay's metrics, which are always on.
    Unseen,
    /// An access log in this format, into a file.
    Log(&'static str),
    /// The same, with 1 % of the lines and all that failed.
    Sampled,
    /// Traces of this share, to a collector.
    Traced(&'static str),
    /// An access log into a pipe that nobody empties.
    LogStalls,
    /// Traces of all requests, to a collector that never answers.
    CollectorStalls,
}

const fn forebay(words: &'static str, name: &'static str, how: How) -> Seen {
    Seen { proxy: Proxy::Forebay, words, name, how }
}

const COSTS: [Seen; 9] = [
    forebay("Forebay, metrics only", "seen-not", How::Unseen),
    forebay("Forebay, text access log", "seen-text", How::Log("text")),
    forebay("Forebay, JSON access log", "seen-json", How::Log("json")),
    forebay("Forebay, JSON access log, 1 % and errors", "seen-sampled", How::Sampled),
    forebay("Forebay, traces of 1 %", "seen-traced-1", How::Traced("1%")),
    forebay("Forebay, traces of 100 %", "seen-traced-100", How::Traced("100%")),
    Seen { proxy: Proxy::Nginx, words: "nginx", name: "seen-nginx", how: How::Unseen },
    Seen { proxy: Proxy::Nginx, words: "nginx, access log", name: "seen-nginx-log", how: How::Log(NGINX) },
    Seen {
        proxy: Proxy::Nginx,
        words: "nginx, access log, `buffer=64k`",
        name: "seen-nginx-buffered",
        how: How::Log(NGINX_BUFFERED),
    },
];

const STALLS: [Seen; 3] = [
    forebay("Forebay, metrics only", "stall-none", How::Unseen),
    forebay("Forebay, JSON access log into a pipe that nobody empties", "stall-log", How::LogStalls),
    forebay(
        "Forebay, traces of 100 % to a collector that never answers",
        "stall-traces",
        How::CollectorStalls,
    ),
];

/// Collectors, by their address.
#[derive(Debug)]
struct Sinks {
    takes: std::net::SocketAddr,
    stalls: std::net::SocketAddr,
}

/// A proxy that runs.
struct Subject {
    serving: Serving,
    /// The pipe's other end, which has to be open for a log to be written to it.
    _pipe: Option<File>,
}

impl Subject {
    fn start(ground: &Ground, seen: &Seen, sinks: &Sinks) -> Result<Self, Failure> {
        let file = ground.dir().join(format!("{}.log", seen.name));
        let mut pipe = None;
        let edits = match seen.how {
            How::Unseen => Vec::new(),
            How::Log(format) if seen.proxy == Proxy::Nginx => {
                let log = format!("access_log {} {format};", file.display());
                vec![("access_log off;", log)]
            }
            How::Log(format) => vec![logged(format!("format = {format:?}, path = {file:?}"))],
            How::Sampled => vec![logged(format!("format = \"json\", path = {file:?}, sample = \"1%\""))],
            How::Traced(share) => vec![traced(share, sinks.takes)],
            How::CollectorStalls => vec![traced("100%", sinks.stalls)],
            How::LogStalls => {
                pipe = Some(full_pipe(&file)?);
                vec![logged(format!("format = \"json\", path = {file:?}"))]
            }
        };
        let start = Start { work: Work::Requests(Dressing::Added), workers: 1, cores: PROXY_CORE };
        let edited = Edited { name: seen.name, edits: &edits };
        let serving = Serving::start_edited(ground, seen.proxy, start, edited)?;
        Ok(Self { serving, _pipe: pipe })
    }

    /// The sum of a metric's samples with these words in their labels.
    fn count(&self, metric: &str, label: &str) -> Result<f64, Failure> {
        let page = self.serving.metrics()?;
        let own = page.lines().filter(|line| line.starts_with(metric) && line.contains(label));
        Ok(own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }
}

/// The edit that gives the plain listener an access log.
fn logged(log: String) -> (&'static str, String) {
    ("name = \"plain\"\n", format!("name = \"plain\"\naccess_log = {{ {log} }}\n"))
}

/// The edit that has requests traced.
fn traced(share: &str, collector: std::net::SocketAddr) -> (&'static str, String) {
    let table = format!(
        "[tracing]\nsample = \"{share}\"\n[tracing.otlp]\nendpoint = \"http://{collector}\"\nprotocol = \"http\"\n\n"
    );
    ("[admin]\n", table + "[admin]\n")
}

/// A pipe by that name, open for reading, from which nobody will read.
fn full_pipe(path: &PathBuf) -> Result<File, Failure> {
    if !path.exists() {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// One figure of a round: microseconds of CPU time and requests a second, or p50 and p99 in milliseconds.
type Figure = (f64, f64);

/// What was found of one proxy: a figure for each round, and what became of lines and spans in the last one.
#[derive(Clone, Debug, Default)]
struct Found {
    figures: Vec<Figure>,
    fate: String,
}

impl Found {
    fn all(&self, pick: fn(&Figure) -> f64) -> Vec<f64> {
        self.figures.iter().map(pick).collect()
    }

    fn median(&self, pick: fn(&Figure) -> f64) -> f64 {
        median(&self.all(pick)).unwrap_or(f64::NAN)
    }

    fn least(&self, pick: fn(&Figure) -> f64) -> f64 {
        self.all(pick).into_iter().fold(f64::INFINITY, f64::min)
    }

    /// The median of the differences to another one's first figure of the same round.
    fn beside(&self, base: &Self) -> f64 {
        let pairs = self.figures.iter().zip(&base.figures);
        median(&pairs.map(|(own, base)| own.0 - base.0).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }
}

fn cost(ground: &Ground, options: &Options, all: &[&Seen], sinks: &Sinks) -> Result<String, Failure> {
    let mut found = vec![Found::default(); all.len()];
    for round in 0..options.rounds() as usize {
        let turns = cost_round(ground, options, (all, sinks), round)?;
        for ((seen, found), (figure, fate)) in all.iter().zip(&mut found).zip(turns) {
            eprintln!(
                "observing, round {}: {:6.2} us {:6.0}/s {}",
                round + 1,
                figure.0,
                figure.1,
                seen.words
            );
            found.figures.push(figure);
            found.fate = fate;
        }
    }
    let mut text = format!(
        "CPU per request of 64 kept HTTP/1.1 connections, {} interleaved rounds, two slices of {} s of each in every \
         round. The difference is to the same proxy unseen in the same round; logs go to files, spans by OTLP over \
         HTTP to a stand-in in the load's process. The last column is of the last round.\n\n\
         | | µs per request, median | least | difference, median | requests/s | what became of it |\n\
         |---|---|---|---|---|---|\n",
        options.rounds(),
        options.window().as_secs_f64() / 2.0,
    );
    for (seen, own) in all.iter().zip(&found) {
        let base = all.iter().zip(&found).find(|(other, _)| other.proxy == seen.proxy);
        writeln!(
            text,
            "| {} | **{:.2}** | {:.2} | {:+.2} | {:.0} | {} |",
            seen.words,
            own.median(|figure| figure.0),
            own.least(|figure| figure.0),
            base.map_or(f64::NAN, |(_, base)| own.beside(base)),
            own.median(|figure| figure.1),
            own.fate,
        )?;
    }
    Ok(text)
}

/// All of them, started afresh, in slices there and back again, beginning with another one in each round.
fn cost_round(
    ground: &Ground,
    options: &Options,
    (all, sinks): (&[&Seen], &Sinks),
    round: usize,
) -> Result<Vec<(Figure, String)>, Failure> {
    let mut subjects = Vec::new();
    for seen in all {
        let subject = Subject::start(ground, seen, sinks)?;
        load::run(ground, &Case::H1.shape(), address(&subject), WARM_UP)?;
        subjects.push((subject, Duration::ZERO, 0_u64, Duration::ZERO));
    }
    let there = (0..all.len()).map(|turn| (turn + round) % all.len());
    for place in there.clone().chain(there.rev()) {
        let Some((subject, used, requests, time)) = subjects.get_mut(place) else { continue };
        quiet::wait(options.patience())?;
        let before = cpu::used(subject.serving.id())?;
        let counted = load::run(ground, &Case::H1.shape(), address(subject), options.window() / 2)?;
        *used += cpu::used(subject.serving.id())?.saturating_sub(before);
        *requests += counted.requests;
        *time += counted.time;
    }
    let mut turns = Vec::new();
    for (seen, (subject, used, requests, time)) in all.iter().zip(&subjects) {
        let requests = (*requests).max(1) as f64;
        let figure = (used.as_secs_f64() * 1e6 / requests, requests / time.as_secs_f64());
        turns.push((figure, fate_of(seen, subject)?));
    }
    Ok(turns)
}

fn address(subject: &Subject) -> std::net::SocketAddr {
    subject.serving.address(Case::H1.shape().door)
}

/// What became of lines and spans, as the proxy counts them.
fn fate_of(seen: &Seen, subject: &Subject) -> Result<String, Failure> {
    let lines = || -> Result<String, Failure> {
        let written = subject.count("forebay_access_log_lines_total", "")?;
        let lost = subject.count("forebay_access_log_lines_lost_total", "")?;
        Ok(format!("{written:.0} lines written, {lost:.0} lost"))
    };
    let spans = || -> Result<String, Failure> {
        let of = |result: &str| subject.count("forebay_spans_total", &format!("result=\"{result}\""));
        let (exported, dropped) = (of("exported")?, of("dropped")? + of("failed")?);
        Ok(format!("{exported:.0} spans exported, {dropped:.0} dropped"))
    };
    match seen.how {
        _ if seen.proxy != Proxy::Forebay => Ok(String::new()),
        How::Unseen => Ok(String::new()),
        How::Log(_) | How::Sampled | How::LogStalls => lines(),
        How::Traced(_) | How::CollectorStalls => spans(),
    }
}

fn stalled(ground: &Ground, options: &Options, all: &[&Seen], sinks: &Sinks) -> Result<String, Failure> {
    let mut found = vec![Found::default(); all.len()];
    for round in 0..options.rounds() as usize {
        for turn in 0..all.len() {
            let place = (turn + round) % all.len();
            let (Some(seen), Some(found)) = (all.get(place), found.get_mut(place)) else { continue };
            let subject = Subject::start(ground, seen, sinks)?;
            load::paced(ground, &Case::H1.shape(), address(&subject), (PACE, WARM_UP))?;
            quiet::wait(options.patience())?;
            let (p50, p99) =
                load::paced(ground, &Case::H1.shape(), address(&subject), (PACE, options.window()))?;
            eprintln!("observing, stalled, round {}: p50 {p50:?} p99 {p99:?} {}", round + 1, seen.words);
            found.figures.push((p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3));
            found.fate = fate_of(seen, &subject)?;
        }
    }
    let mut text = format!(
        "\nHow long requests take at {} requests/s when nobody takes what is written of them; {} interleaved rounds of \
         {} s.\n\n| | p50, ms | p99, ms | least p99 | what became of it |\n|---|---|---|---|---|\n",
        PACE.rate,
        options.rounds(),
        options.window().as_secs(),
    );
    for (seen, own) in all.iter().zip(&found) {
        writeln!(
            text,
            "| {} | {:.2} | **{:.2}** | {:.2} | {} |",
            seen.words,
            own.median(|figure| figure.0),
            own.median(|figure| figure.1),
            own.least(|figure| figure.1),
            own.fate,
        )?;
    }
    Ok(text)
}

/// What nginx writes a line as, at once or from a buffer.
const NGINX: &str = "combined";
const NGINX_BUFFERED: &str = "combined buffer=64k";

/// The load while nobody takes anything: about half of what a core can carry.
const PACE: Pace = Pace { connections: 64, streams: 1, http1: true, rate: 15_000 };
