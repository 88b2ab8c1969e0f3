//! A cgroup that holds processes to a share of the machine's CPU time, under either version of
//! cgroups. It is removed when dropped, for which its processes must be gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::Failure;
use crate::cpu;

/// A cgroup of our own.
#[derive(Debug)]
pub(crate) struct Quota {
    dir: PathBuf,
}

impl Quota {
    /// Grants `percent` of one core, 200 being two cores.
    ///
    /// # Errors
    /// Where no cgroup with the cpu controller can be made: it takes root, or a delegated cgroup.
    pub(crate) fn grant(percent: u32) -> Result<Self, Failure> {
        let (base, version) = cpu_hierarchy()?;
        let explain = |error: io::Error| {
            format!("{}: {error}; limiting CPU takes root or a delegated cgroup", base.display())
        };
        let dir = base.join(format!("forebay-compare-{}", std::process::id()));
        if version == Version::Two {
            fs::write(base.join("cgroup.subtree_control"), "+cpu").map_err(explain)?;
        }
        fs::create_dir(&dir).map_err(explain)?;
        let quota = Self { dir };
        let micros = PERIOD_MICROS / 100 * percent;
        match version {
            Version::One => {
                fs::write(quota.dir.join("cpu.cfs_period_us"), PERIOD_MICROS.to_string())?;
                fs::write(quota.dir.join("cpu.cfs_quota_us"), micros.to_string())?;
            }
            Version::Two => fs::write(quota.dir.join("cpu.max"), format!("{micros} {PERIOD_MICROS}"))?,
        }
        Ok(quota)
    }

    /// Moves a process and its descendants in.
    ///
    /// # Errors
    /// Where a process is gone.
    pub(crate) fn hold(&self, process: u32) -> Result<(), Failure> {
        for member in cpu::family(process)? {
            fs::write(self.dir.join("cgroup.procs"), member.to_string())?;
        }
        Ok(())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The directory to make cgroups in, beside or below our own.
fn cpu_hierarchy() -> Result<(PathBuf, Version), Failure> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split(' ').collect();
        let [_, at, kind, options, ..] = fields.as_slice() else { continue };
        if *kind == "cgroup" && options.split(',').any(|option| option == "cpu") {
            let path = own.lines().find_map(|line| own_path(line, "cpu")).unwrap_or("/");
            return Ok((below(at, path), Version::One));
        }
        let controllers = fs::read_to_string(Path::new(at).join("cgroup.controllers")).unwrap_or_default();
        if *kind == "cgroup2" && controllers.split_whitespace().any(|controller| controller == "cpu") {
            // A cgroup with processes may have no children under control: ours goes beside our own.
            let path = own.lines().find_map(|line| own_path(line, "")).unwrap_or("/");
            let own = below(at, path);
            let parent = if path == "/" { own } else { own.parent().unwrap_or(&own).into() };
            return Ok((parent, Version::Two));
        }
    }
    Err("no cgroup hierarchy with the cpu controller is mounted".into())
}

/// The path in a line of `/proc/self/cgroup`, when the line is of that controller.
fn own_path<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let mut fields = line.splitn(3, ':').skip(1);
    let controllers = fields.next()?;
    let path = fields.next()?;
    controllers.split(',').any(|name| name == controller).then_some(path)
}

fn below(mount: &str, path: &str) -> PathBuf {
    Path::new(mount).join(path.trim_start_matches('/'))
}

/// The kernel's default. Within it a process may use its share at once.
const PERIOD_MICROS: u32 = 100_000;
