//! What is measured of the process as a whole, most of it read from the kernel at every scrape. Where there is
//! no `/proc`, what comes from it is left out.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::exposition::{Exposition, Title, labels};
use crate::observe::panics;

/// Adds what the kernel says of this process.
pub(super) fn expose(out: &mut Exposition) {
    let read = |path| fs::read_to_string(path).ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let stat = read("/proc/self/stat");
    let stat = stat.as_deref().and_then(Stat::parse);
    let boot = read("/proc/stat").and_then(|text| boot_time(&text));
    let status = read("/proc/self/status").unwrap_or_default();
    let kibibytes = |key| status_kibibytes(&status, key).map(|n| n as f64 * 1024.0);
    // The directory that is being read is open as well.
    let open = fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count().saturating_sub(1) as f64);

    let sample = |value: Option<f64>| value.map(|value| (Vec::new(), value));
    out.counter(CPU, sample(stat.map(|stat| stat.cpu as f64 / ticks)));
    out.gauge(START, sample(stat.zip(boot).map(|(stat, boot)| boot as f64 + stat.start as f64 / ticks)));
    out.gauge(THREADS, sample(stat.map(|stat| stat.threads as f64)));
    out.gauge(RESIDENT, sample(kibibytes("VmRSS:")));
    out.gauge(VIRTUAL, sample(kibibytes("VmSize:")));
    out.gauge(OPEN_FDS, sample(open));
    out.gauge(MAX_FDS, sample(getrlimit(Resource::Nofile).current.map(|limit| limit as f64)));
}

/// Adds what went wrong in this program itself.
pub(super) fn expose_panics(out: &mut Exposition) {
    out.counter(PANICS, panics::counts().map(|(place, n)| (labels([("where", place.name())]), n as f64)));
}

/// Adds what was built.
pub(super) fn expose_build(out: &mut Exposition) {
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("arch", std::env::consts::ARCH),
        ("os", std::env::consts::OS),
    ];
    out.gauge(BUILD, [(labels(build), 1.0)]);
}

/// What is read of `/proc/self/stat`; see proc_pid_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// Time spent in user and kernel mode, in clock ticks.
    cpu: u64,
    threads: u64,
    /// When the process started, in clock ticks after boot.
    start: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is a name in parentheses that may itself contain spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { cpu: field(14)? + field(15)?, threads: field(20)?, start: field(22)? })
    }
}

/// When the system was booted, in seconds of the epoch, from `/proc/stat`.
fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The number of kibibytes after `key` in `/proc/self/status`.
fn status_kibibytes(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

const BUILD: Title = Title("forebay_build_info", "Always 1; the labels say what was built.");
const CPU: Title = Title("process_cpu_seconds_total", "Processor time spent, user and kernel.");
const START: Title =
    Title("process_start_time_seconds", "When the process started, in seconds of the Unix epoch.");
const PANICS: Title =
    Title("forebay_panics_total", "Panics, which are mistakes in Forebay, by what each of them ended.");
const THREADS: Title = Title("process_threads", "Threads of the process.");
const RESIDENT: Title = Title("process_resident_memory_bytes", "Memory held in RAM.");
const VIRTUAL: Title = Title("process_virtual_memory_bytes", "Address space reserved.");
const OPEN_FDS: Title = Title("process_open_fds", "File descriptors that are open.");
const MAX_FDS: Title = Title("process_max_fds", "Greatest number of file descriptors that may be open.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        let stat = "42 (a) R (b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 12345 1000000 250 184";
        assert_eq!(Stat::parse(stat), Some(Stat { cpu: 200, threads: 7, start: 12345 }));
        assert_eq!(Stat::parse("42 (a) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn lines_are_found_by_their_key() {
        let status = "Name:\tforebay\nVmSize:\t  123456 kB\nVmRSS:\t    4096 kB\n";
        assert_eq!(status_kibibytes(status, "VmRSS:"), Some(4096));
        assert_eq!(status_kibibytes(status, "VmSwap:"), None);
        assert_eq!(boot_time("cpu 1 2 3\nbtime 1700000000\n"), Some(1_700_000_000));
    }
}
