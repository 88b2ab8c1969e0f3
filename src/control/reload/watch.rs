//! Notices that the files of the configuration have changed. The system's events only wake it, and so does
//! time, for file systems that have none; whether anything has changed is for the contents to say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::{Cause, Reload, seen};
use crate::ambient;
use crate::config::plan::ReloadPlan;

/// Has `reload` begin whenever the files have changed; does not end.
pub(super) async fn run(reload: &Arc<Reload>) {
    if reload.source.file.is_none() {
        return pending().await;
    }
    let wake = Arc::new(Notify::new());
    let mut folders = Folders::new(&wake);
    // The files may have changed before they were watched, or while they were read.
    let (mut stamps, mut due) = (Vec::new(), true);
    loop {
        let ReloadPlan { watch, debounce } = reload.running.plan().0.reload;
        let files: Arc<[PathBuf]> = if watch { reload.files().into() } else { [].into() };
        let own = Arc::clone(&files);
        let any;
        (folders, any) = beside(move || folders.following(&own)).await;
        if !watch {
            due = true;
            reload.attempted.notified().await;
            continue;
        }
        due |= any;
        if !due {
            tokio::select! {
                () = wake.notified() => settle(&wake, debounce).await,
                () = reload.attempted.notified() => { stamps.clear(); continue }
                () = sleep(POLL) => {
                    if stamps == stamps_of(&files).await && !reload.status().is_stale() {
                        continue;
                    }
                }
            }
        }
        due = false;
        stamps = stamps_of(&files).await;
        look(reload).await;
    }
}

/// Waits until the files have been left alone for `debounce`; not forever, since someone may be writing a
/// line a moment.
async fn settle(wake: &Notify, debounce: Duration) {
    let quiet = async { while timeout(debounce, wake.notified()).await.is_ok() {} };
    let _ = timeout(debounce.saturating_mul(LONGEST_UNREST), quiet).await;
}

/// Reads the configuration, and begins a reload when it is not as it was when it was last read.
async fn look(reload: &Arc<Reload>) {
    let reading = {
        let reload = Arc::clone(reload);
        move || {
            let began = ambient::now();
            let found = reload.read().map(|reading| seen(&reading));
            (found, ambient::now().saturating_duration_since(began))
        }
    };
    let Ok((found, took)) = spawn_blocking(reading).await else { return };
    let before = reload.state().seen;
    if found.is_some_and(|found| found != before) {
        reload.reload(Cause::File).await;
    } else {
        // Much may be going on in the folder that is none of our business.
        sleep((took * REST).min(POLL)).await;
    }
}

/// Does what asks the file system on another thread, for the answer may be long in coming.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The process ends.
        Err(Err(_)) => pending().await,
    }
}

/// The folders that the system tells about.
struct Folders {
    /// `None` when the system has no more to give.
    watcher: Option<RecommendedWatcher>,
    concerned: Arc<Mutex<Concerned>>,
    /// Those that are watched, with their devices and inodes: another folder may take the name. Without
    /// these when watching failed.
    watched: BTreeMap<PathBuf, Option<(u64, u64)>>,
    /// Whether a failure to watch was logged.
    complained: bool,
}

/// What an event has to be about.
#[derive(Debug, Default)]
struct Concerned {
    /// Files, and the links on the way to them.
    paths: BTreeSet<PathBuf>,
    /// Folders of which every entry counts.
    folders: BTreeSet<PathBuf>,
}

impl Folders {
    fn new(wake: &Arc<Notify>) -> Self {
        let concerned = Arc::<Mutex<Concerned>>::default();
        let (wake, known) = (Arc::clone(wake), Arc::clone(&concerned));
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // An error says that events were lost.
            if event.map_or(true, |event| known.concerns(&event)) {
                wake.notify_one();
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, every = ?POLL, "cannot watch files, looking at them now and then");
        }
        Self { watcher: watcher.ok(), concerned, watched: BTreeMap::new(), complained: false }
    }

    /// Watches the folders of these files and of the links on the way to them, each once, and no others;
    /// with whether any was not watched before.
    fn following(mut self, files: &[PathBuf]) -> (Self, bool) {
        let any = self.follow(files);
        (self, any)
    }

    fn follow(&mut self, files: &[PathBuf]) -> bool {
        let concerned = Concerned::of(files);
        let parents = concerned.paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let wanted: BTreeSet<_> = parents.chain(concerned.folders.iter().cloned()).collect();
        *self.concerned.lock().unwrap_or_else(PoisonError::into_inner) = concerned;
        let Some(watcher) = &mut self.watcher else { return false };
        let mut any = false;
        self.watched.retain(|folder, was| {
            let kept = wanted.contains(folder) && *was == identity(folder);
            if !kept && was.is_some() {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
            kept
        });
        for folder in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            let is = identity(&folder);
            let done = watcher.watch(&folder, RecursiveMode::NonRecursive);
            if let (Err(error), true, false) = (&done, is.is_some(), self.complained) {
                self.complained = true;
                let folder = folder.display();
                tracing::warn!(%folder, %error, every = ?POLL, "cannot watch a folder, looking at it now and then");
            }
            let watched = done.ok().and(is);
            any |= watched.is_some();
            self.watched.insert(folder, watched);
        }
        any
    }
}

impl Concerned {
    fn of(files: &[PathBuf]) -> Self {
        let mut concerned = Self::default();
        for file in files {
            let trail = trail(file);
            if let Some(end) = trail.last().filter(|end| end.is_dir()) {
                concerned.folders.insert(end.clone());
            }
            concerned.paths.extend(trail);
        }
        concerned
    }

    fn concerns(&self, event: &notify::Event) -> bool {
        let is_listed = |path: &PathBuf| self.paths.contains(path);
        let is_within = |path: &PathBuf| path.parent().is_some_and(|parent| self.folders.contains(parent));
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                event.paths.iter().any(|path| is_listed(path) || is_within(path))
            }
            // That we read them is no news.
            EventKind::Access(_) => false,
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
                event.paths.iter().any(is_listed)
            }
            _ => event.need_rescan() || event.paths.iter().any(|path| is_listed(path) || is_within(path)),
        }
    }
}

/// The file at the end of `path`, after every link on the way to it.
fn trail(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { return vec![path.to_owned()] };
    let mut rest: VecDeque<_> = path.components().map(|part| part.as_os_str().to_owned()).collect();
    let (mut at, mut found) = (PathBuf::new(), Vec::new());
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::CurDir) | None => {}
            Some(_) => {
                // An absolute target begins anew at the root.
                let next = at.join(&part);
                match fs::read_link(&next) {
                    Ok(target) if found.len() < MOST_LINKS => {
                        found.push(next);
                        for part in target.components().rev() {
                            rest.push_front(part.as_os_str().to_owned());
                        }
                    }
                    _ => at = next,
                }
            }
        }
    }
    found.push(at);
    found
}

fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()))
}

/// What tells a file from its next version without reading it: when it was written, its length, inode and
/// device, and when any of it changed.
type Stamp = Option<(SystemTime, u64, u64, u64, i64)>;

async fn stamps_of(files: &Arc<[PathBuf]>) -> Vec<Stamp> {
    let files = Arc::clone(files);
    beside(move || files.iter().map(|file| stamp(file)).collect()).await
}

fn stamp(file: &Path) -> Stamp {
    let of = fs::metadata(file).ok()?;
    Some((of.modified().ok()?, of.len(), of.ino(), of.dev(), of.ctime_nsec() ^ of.ctime()))
}

/// How often files are looked at without an event.
const POLL: Duration = Duration::from_secs(10);

/// How many debounces it may take until nothing is written any more.
const LONGEST_UNREST: u32 = 50;

/// After a look for nothing, how many times what it took goes by before the next.
const REST: u32 = 20;

/// Links on the way to a file, as in Linux (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_trail_names_every_link() {
        let home = tempfile::tempdir().unwrap();
        let home = fs::canonicalize(home.path()).unwrap();
        fs::create_dir(home.join("..v1")).unwrap();
        fs::write(home.join("..v1/f.toml"), "").unwrap();
        symlink("..v1", home.join("..data")).unwrap();
        symlink("..data/f.toml", home.join("f.toml")).unwrap();
        symlink(home.join("f.toml"), home.join("absolute")).unwrap();
        let of = |name: &str| -> Vec<_> {
            let trail = trail(&home.join(name));
            trail.iter().map(|path| path.strip_prefix(&home).unwrap().display().to_string()).collect()
        };
        assert_eq!(of("f.toml"), ["f.toml", "..data", "..v1/f.toml"]);
        assert_eq!(of("absolute"), ["absolute", "f.toml", "..data", "..v1/f.toml"]);
        assert_eq!(of("..v1/../none"), ["none"]);
        symlink("loop", home.join("loop")).unwrap();
        assert_eq!(of("loop").len(), MOST_LINKS + 1);
    }
}
