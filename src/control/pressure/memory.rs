//! How much memory is used and how much there is: of the process where a limit was given, of its
//! cgroup otherwise, version 2 or 1. What a cgroup's files are read for is in the kernel's
//! `admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where memory is read.
#[derive(Debug)]
pub(super) struct Memory(Source);

/// Bytes in use, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) used: u64,
    pub(super) limit: u64,
}

#[derive(Debug)]
enum Source {
    /// Against a limit that was given.
    Process(u64),
    /// The cgroup with a limit that is nearest to us.
    Cgroup(PathBuf, &'static Files),
    Nothing,
}

/// What a version calls its files.
#[derive(Debug)]
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The key in `memory.stat` for what the kernel gives back when it is needed.
    reclaimable: &'static str,
}

impl Memory {
    /// Memory against `limit`, or against that of the cgroup.
    pub(super) fn new(limit: Option<u64>) -> Self {
        let cgroup = || {
            let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
            let (folder, files) = limited(&groups, Path::new("/sys/fs/cgroup"))?;
            tracing::debug!(folder = %folder.display(), "memory is watched");
            Some(Source::Cgroup(folder, files))
        };
        Self(match limit {
            Some(limit) => Source::Process(limit),
            None => cgroup().unwrap_or(Source::Nothing),
        })
    }

    /// What is used now; `None` where that is not watched, or cannot be read at the moment.
    pub(super) fn read(&self) -> Option<Used> {
        match &self.0 {
            Source::Process(limit) => Some(Used { used: resident()?, limit: *limit }),
            Source::Cgroup(folder, files) => read_cgroup(folder, files),
            Source::Nothing => None,
        }
    }
}

fn resident() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The first cgroup with a limit from our own upwards, in the hierarchy mounted at `root`. A
/// container may see its own as the root, whatever `groups` says (`/proc/self/cgroup`).
fn limited(groups: &str, root: &Path) -> Option<(PathBuf, &'static Files)> {
    let entries = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.split_once(':')
    });
    for (controllers, path) in entries {
        let (mount, files) = match controllers {
            "" => (root.to_owned(), &VERSION_2),
            list if list.split(',').any(|name| name == "memory") => (root.join("memory"), &VERSION_1),
            _ => continue,
        };
        let own = path.trim_start_matches('/');
        for folder in Path::new(own).ancestors() {
            let folder = mount.join(folder);
            if limit_of(&folder, files).is_some() {
                return Some((folder, files));
            }
        }
    }
    None
}

fn limit_of(folder: &Path, files: &Files) -> Option<u64> {
    number(&folder.join(files.limit)).filter(|limit| *limit < UNLIMITED)
}

/// What the kernel would give back anyway is not counted: pages of files that were not used lately.
fn read_cgroup(folder: &Path, files: &Files) -> Option<Used> {
    let limit = limit_of(folder, files)?;
    let used = number(&folder.join(files.used))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == files.reclaimable { value.trim().parse::<u64>().ok() } else { None }
    });
    Some(Used { used: used.saturating_sub(reclaimable.unwrap_or(0)), limit })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

const VERSION_2: Files = Files { limit: "memory.max", used: "memory.current", reclaimable: "inactive_file" };
const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};
/// Version 1 says the greatest number of whole pages where there is no limit; nobody has a 64th of it.
const UNLIMITED: u64 = 1 << 57;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy with these files.
    fn hierarchy(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(groups: &str, root: &Path) -> Option<Used> {
        let (folder, files) = limited(groups, root)?;
        read_cgroup(&folder, files)
    }

    #[test]
    fn the_own_cgroup_of_version_2_is_read() {
        let root = hierarchy(&[
            ("a/b/memory.max", "1000\n"),
            ("a/b/memory.current", "700\n"),
            ("a/b/memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n"),
            ("a/memory.max", "5000\n"),
        ]);
        assert_eq!(read("0::/a/b\n", root.path()), Some(Used { used: 550, limit: 1000 }));
    }

    #[test]
    fn without_a_limit_its_parents_count() {
        let root = hierarchy(&[
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "5000\n"),
            ("a/memory.current", "70\n"),
        ]);
        assert_eq!(read("0::/a/b\n", root.path()), Some(Used { used: 70, limit: 5000 }));
        assert_eq!(read("0::/c\n", root.path()), None);
    }

    #[test]
    fn a_container_sees_its_own_as_the_root() {
        let root = hierarchy(&[("memory.max", "1000\n"), ("memory.current", "1\n")]);
        for groups in ["0::/\n", "0::/system.slice/container\n"] {
            assert_eq!(read(groups, root.path()), Some(Used { used: 1, limit: 1000 }), "{groups}");
        }
    }

    #[test]
    fn version_1_is_read_too() {
        let root = hierarchy(&[
            ("memory/x/memory.limit_in_bytes", "1000\n"),
            ("memory/x/memory.usage_in_bytes", "900\n"),
            ("memory/x/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n"),
            ("memory/y/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let groups = |own| format!("5:cpu:/\n4:cpuset,memory:/{own}\n0::/\n");
        assert_eq!(read(&groups("x"), root.path()), Some(Used { used: 800, limit: 1000 }));
        assert_eq!(read(&groups("y"), root.path()), None);
    }

    #[test]
    fn a_limit_that_is_given_is_the_process_s() {
        let used = Memory::new(Some(1 << 40)).read().unwrap();
        assert!(used.used > 1 << 16 && used.used < used.limit, "{used:?}");
    }
}
