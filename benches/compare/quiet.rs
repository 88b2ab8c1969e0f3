//! Whether anything else ran while a window was measured. Other work on the machine costs a proxy
//! cache misses that no scheduler clock shows, so a window that was disturbed is measured again.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cpu;

/// CPU time spent so far by the machine, and of it by this program and its children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    at: Instant,
    machine: Duration,
    ours: Duration,
}

impl Watch {
    /// Starts to watch; `proxy` is the first of the proxy's processes, if one runs.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub(crate) fn start(proxy: Option<u32>) -> Result<Self, Failure> {
        let mut ours = own_and_ended_children()?;
        if let Some(proxy) = proxy {
            ours += cpu::used(proxy)?;
        }
        Ok(Self { at: Instant::now(), machine: machine_busy()?, ours })
    }

    /// What others have used since, as a share of one core.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub(crate) fn others(&self, proxy: Option<u32>) -> Result<f64, Failure> {
        let now = Self::start(proxy)?;
        let machine = now.machine.saturating_sub(self.machine);
        let ours = now.ours.saturating_sub(self.ours);
        Ok(machine.saturating_sub(ours).as_secs_f64() / (now.at - self.at).as_secs_f64())
    }
}

/// Waits until others leave the machine alone, for `patience` at most.
///
/// # Errors
/// As [`Watch::start`].
pub(crate) fn wait(patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let watch = Watch::start(None)?;
        sleep(Duration::from_millis(300));
        if watch.others(None)? < DISTURBED {
            return Ok(());
        }
    }
    Ok(())
}

/// The share of a core, used by others, from which a window counts as disturbed. Kernel threads
/// and the ticks' coarseness stay well below.
pub(crate) const DISTURBED: f64 = 0.08;

/// Time that all cores were not idle, theft by a hypervisor included.
fn machine_busy() -> Result<Duration, Failure> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks.as_slice() else {
        return Err("/proc/stat has no line for all cores".into());
    };
    Ok(from_ticks(user + nice + system + irq + softirq + steal))
}

/// This process and those of its children that it has waited for.
fn own_and_ended_children() -> Result<Duration, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in the second field may hold anything, a closing parenthesis last.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok());
    Ok(from_ticks(ticks.sum()))
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000) / TICKS_PER_SECOND)
}

/// `USER_HZ`, the same on every architecture that matters here.
const TICKS_PER_SECOND: u64 = 100;
