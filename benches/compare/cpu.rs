//! What a process and its descendants have used so far, read from `/proc`: CPU time in
//! nanoseconds, user and kernel together, and resident memory.

use std::collections::VecDeque;
use std::fs;
use std::time::Duration;

use crate::Failure;

/// CPU time of a process, its threads and all of its living descendants, from the scheduler's
/// own clock (`schedstat`), which is finer than the ticks of `stat`.
///
/// # Errors
/// Where the process is gone or the kernel keeps no scheduler statistics.
pub(crate) fn used(root: u32) -> Result<Duration, Failure> {
    let mut total = Duration::ZERO;
    for thread in threads(root)? {
        total += thread.used;
    }
    Ok(total)
}

/// One thread of a measured process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    /// CPU time since it started.
    pub(crate) used: Duration,
}

/// The threads of a process and of all its living descendants.
///
/// # Errors
/// As [`used`].
pub(crate) fn threads(root: u32) -> Result<Vec<Thread>, Failure> {
    let mut found = Vec::new();
    for process in family(root)? {
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let path = format!("/proc/{process}/task/{id}/schedstat");
            let line = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
            let nanoseconds = line.split_whitespace().next().and_then(|field| field.parse().ok());
            let used =
                nanoseconds.map(Duration::from_nanos).ok_or_else(|| format!("{path}: no time in it"))?;
            found.push(Thread { id, used });
        }
    }
    Ok(found)
}

/// Memory of a process and its descendants, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident, files mapped included; pages that processes share are counted in each.
    pub(crate) resident: u64,
    /// Resident and not backed by a file: heap and stacks.
    pub(crate) anonymous: u64,
}

/// # Errors
/// Where the process is gone.
pub(crate) fn memory(root: u32) -> Result<Memory, Failure> {
    let mut total = Memory::default();
    for process in family(root)? {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        total.resident += kib(&status, "VmRSS:");
        total.anonymous += kib(&status, "RssAnon:");
    }
    Ok(total)
}

fn kib(status: &str, field: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A process and its descendants, by id.
///
/// # Errors
/// Where the process is gone.
pub(crate) fn family(root: u32) -> Result<Vec<u32>, Failure> {
    let mut family = Vec::new();
    let mut waiting = VecDeque::from([root]);
    while let Some(process) = waiting.pop_front() {
        family.push(process);
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            let children = fs::read_to_string(task?.path().join("children"))?;
            waiting.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    Ok(family)
}
