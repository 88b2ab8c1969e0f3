//! Where a proxy's CPU time goes under load: `perf` samples its processes by the CPU clock, which
//! works on virtual machines without hardware counters, and the samples are told by symbol, by
//! crate or library, and as the kernel's share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, LOAD_CORE, PROXY_CORE};
use crate::launch::{self, Running};
use crate::load;
use crate::options::{Dressing, Options, Work};
use crate::peers::{Proxy, Serving, Start};
use crate::speed::WARM_UP;

/// Samples the first proxy asked for under the first case asked for, and tells it as Markdown.
///
/// # Errors
/// Where the proxy, the load or `perf` fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let proxy = options.proxies.first().copied().unwrap_or(Proxy::Forebay);
    let case = options.cases.first().copied().unwrap_or(Case::H1);
    let start = Start { work: Work::Requests(Dressing::Added), workers: 1, cores: PROXY_CORE };
    let serving = Serving::start(ground, proxy, start)?;
    let shape = case.shape();
    let listener = serving.address(shape.door);
    load::run(ground, &shape, listener, WARM_UP)?;
    let data = ground.dir().join("perf.data");
    let sampling = sample(ground, serving.id(), options.window(), &data)?;
    // Load lasts a second longer than the sampling, which begins and ends within it.
    load::run(ground, &shape, listener, options.window() + WARM_UP)?;
    sampling.finish(GRACE)?;
    let mut text = tell(proxy, case, &symbols(&data)?);
    let counting = count_calls(ground, serving.id(), options.window())?;
    let counted = load::run(ground, &shape, listener, options.window())?;
    text += &tell_calls(&counting.finish(options.window() + GRACE)?, counted.requests);
    Ok(text)
}

/// Counts system calls for longer than the load that follows lasts.
fn count_calls(ground: &Ground, process: u32, window: Duration) -> Result<Running, Failure> {
    let mut command = launch::command(LOAD_CORE, "perf");
    let processes = family(process)?;
    command.args(["stat", "-x", "\t", "-e", "syscalls:sys_enter_*", "-p", &processes]);
    command.args(["--", "sleep", &(window + WARM_UP * 3).as_secs().to_string()]);
    let counting = Running::start(&mut command, &ground.dir().join("perf.out"))?;
    // Opening hundreds of events takes it a moment.
    sleep(WARM_UP);
    Ok(counting)
}

/// Calls made at least once in a hundred requests, per request.
fn tell_calls(printed: &str, requests: u64) -> String {
    let mut calls: Vec<(f64, &str)> = Vec::new();
    for line in printed.lines() {
        let count = line.split('\t').next().and_then(|field| field.parse::<f64>().ok());
        let call = line.split('\t').find_map(|field| field.strip_prefix("syscalls:sys_enter_"));
        if let (Some(count), Some(call)) = (count, call) {
            calls.push((count / requests.max(1) as f64, call));
        }
    }
    calls.retain(|(each, _)| *each >= 0.01);
    calls.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    let calls: Vec<String> = calls.iter().map(|(each, call)| format!("{each:.2} `{call}`")).collect();
    format!("\nSystem calls per request: {}.\n", calls.join(", "))
}

fn family(process: u32) -> Result<String, Failure> {
    Ok(cpu::family(process)?.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

fn sample(ground: &Ground, process: u32, window: Duration, data: &Path) -> Result<Running, Failure> {
    let mut command = launch::command(LOAD_CORE, "perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", &family(process)?, "-o"]);
    command.arg(data).args(["--", "sleep", &window.as_secs().to_string()]);
    Running::start(&mut command, &ground.dir().join("perf.out"))
}

/// One line of perf's report.
struct Symbol {
    /// Percent of all samples.
    share: f64,
    name: String,
    kernel: bool,
    /// The file it is from.
    object: String,
}

fn symbols(data: &Path) -> Result<Vec<Symbol>, Failure> {
    let mut perf = Command::new("perf");
    perf.args(["report", "--stdio", "-q", "--no-children", "-F", "overhead,dso,symbol", "-t", "\t", "-i"]);
    let output = perf.arg(data).stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let symbols: Vec<Symbol> = printed.lines().filter_map(symbol).collect();
    if symbols.is_empty() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("perf reports no samples: {complaint}").into());
    }
    Ok(symbols)
}

fn symbol(line: &str) -> Option<Symbol> {
    let mut fields = line.splitn(3, '\t').map(str::trim);
    let share = fields.next()?.strip_suffix('%')?.parse().ok()?;
    let object = fields.next()?.to_owned();
    let name = fields.next()?;
    let kernel = name.starts_with("[k]");
    let name = name.trim_start_matches("[k] ").trim_start_matches("[.] ");
    // Newer versions of perf append columns that were not asked for.
    let name = name.split('\t').next().unwrap_or(name).trim().to_owned();
    Some(Symbol { share, name, kernel, object })
}

fn tell(proxy: Proxy, case: Case, symbols: &[Symbol]) -> String {
    let kernel: f64 = symbols.iter().filter(|symbol| symbol.kernel).map(|symbol| symbol.share).sum();
    let mut parts: BTreeMap<String, f64> = BTreeMap::new();
    for symbol in symbols {
        *parts.entry(part(symbol)).or_default() += symbol.share;
    }
    let mut parts: Vec<_> = parts.into_iter().filter(|(_, share)| *share >= 0.5).collect();
    parts.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    let mut text = format!(
        "{} under `{}`: {kernel:.0} % of its CPU time is the kernel's, {:.0} % its own.\n\n\
         | part | % |\n|---|---|\n",
        proxy.name(),
        case.name(),
        100.0 - kernel,
    );
    for (part, share) in parts {
        text += &format!("| {part} | {share:.1} |\n");
    }
    for (title, kernel, most) in [("own symbol", false, TOP), ("kernel symbol", true, TOP / 2)] {
        text += &format!("\n| {title} | % |\n|---|---|\n");
        for symbol in symbols.iter().filter(|symbol| symbol.kernel == kernel).take(most) {
            text += &format!("| `{}` | {:.1} |\n", symbol.name, symbol.share);
        }
    }
    text
}

/// The kernel, a crate, or else the file that a symbol is from.
fn part(symbol: &Symbol) -> String {
    if symbol.kernel {
        return "kernel".into();
    }
    if let Some((_, library)) = STATIC.iter().find(|(prefix, _)| symbol.name.starts_with(prefix)) {
        return format!("`{library}`");
    }
    let path = symbol.name.trim_start_matches(['<', '&', '(']);
    match path.split_once("::") {
        Some((root, _)) if root.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
            format!("`{root}`")
        }
        _ => format!("`{}`", symbol.object),
    }
}

/// Libraries in C that are linked into the binary, by how their symbols begin.
const STATIC: [(&str, &str); 3] = [("mi_", "mimalloc"), ("_mi_", "mimalloc"), ("aws_lc", "aws-lc")];
/// What `perf` may take to start and stop.
const GRACE: Duration = Duration::from_secs(15);
/// Symbols told one by one; of the kernel's, half as many.
const TOP: usize = 24;
