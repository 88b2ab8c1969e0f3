//! Where a proxy's CPU time goes under load: `perf` samples its processes by the CPU clock, which
//! works on virtual machines without hardware counters, and the samples are told by symbol, by
//! crate or library, and as the kernel's share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::cases::Case;
use crate::cpu;
use crate::ground::{Ground, LOAD_CORE, PROXY_CORE};
use crate::launch::{self, Running};
use crate::load;
use crate::options::{Dressing, Options};
use crate::peers::{Proxy, Serving, Start};
use crate::speed::WARM_UP;

/// Samples the first proxy asked for under the first case asked for, and tells it as Markdown.
///
/// # Errors
/// Where the proxy, the load or `perf` fails.
pub(crate) fn section(ground: &Ground, options: &Options) -> Result<String, Failure> {
    let proxy = options.proxies.first().copied().unwrap_or(Proxy::Forebay);
    let case = options.cases.first().copied().unwrap_or(Case::H1);
    let start = Start { dressing: Dressing::Added, workers: 1, cores: PROXY_CORE };
    let serving = Serving::start(ground, proxy, start)?;
    let shape = case.shape();
    let listener = serving.address(shape.door);
    load::run(ground, &shape, listener, WARM_UP)?;
    let data = ground.dir().join("perf.data");
    let sampling = sample(ground, serving.id(), options.window(), &data)?;
    // Load lasts a second longer than the sampling, which begins and ends within it.
    load::run(ground, &shape, listener, options.window() + WARM_UP)?;
    sampling.finish(Duration::from_secs(15))?;
    let symbols = symbols(&data)?;
    Ok(tell(proxy, case, &symbols))
}

fn sample(ground: &Ground, process: u32, window: Duration, data: &Path) -> Result<Running, Failure> {
    let processes: Vec<String> = cpu::family(process)?.iter().map(u32::to_string).collect();
    let mut command = launch::command(LOAD_CORE, "perf");
    command.args(["record", "-q", "-e", "cpu-clock", "-F", "1999", "-p", &processes.join(","), "-o"]);
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
    text += "\n| symbol | % |\n|---|---|\n";
    for symbol in symbols.iter().take(TOP) {
        let mode = if symbol.kernel { "kernel: " } else { "" };
        text += &format!("| {mode}`{}` | {:.1} |\n", symbol.name, symbol.share);
    }
    text
}

/// The kernel, a crate, or else the file that a symbol is from.
fn part(symbol: &Symbol) -> String {
    if symbol.kernel {
        return "kernel".into();
    }
    let path = symbol.name.trim_start_matches(['<', '&', '(']);
    match path.split_once("::") {
        Some((root, _)) if root.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
            format!("`{root}`")
        }
        _ => format!("`{}`", symbol.object),
    }
}

/// Symbols told one by one.
const TOP: usize = 30;
