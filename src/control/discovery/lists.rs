//! A list of endpoints in a file that something else writes. It counts as a whole: one that cannot be read
//! changes nothing, is told once, and the list before it goes on to count.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;

use super::SourceReading;
use super::sources::slot;
use crate::ambient;
use crate::config::read_endpoints;
use crate::discover::{Origin, Slot};
use crate::model::Name;
use crate::observe::metrics::DiscoveryMetrics;

/// What is known of a list.
#[derive(Clone, Debug)]
pub(super) struct List {
    path: PathBuf,
    /// Whether Unix sockets may be in it.
    takes_sockets: bool,
    /// What was last read of the file, good or not; nothing before that.
    read: Option<Result<String, String>>,
    /// The last good list.
    slots: Vec<Slot>,
    error: Option<String>,
    last_success: Option<SystemTime>,
}

impl List {
    pub(super) fn new(path: PathBuf, takes_sockets: bool) -> Self {
        Self { path, takes_sockets, read: None, slots: Vec::new(), error: None, last_success: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last good list.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Takes over what was known of it under another plan.
    pub(super) fn follow(&mut self, before: &Self) {
        if self.path == before.path && self.takes_sockets == before.takes_sockets {
            self.clone_from(before);
        }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(path: &Path) -> Result<String, String> {
        let text = || -> io::Result<String> {
            // A pipe would keep us until somebody writes into it.
            let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no regular file"));
            }
            let mut text = String::new();
            file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
            Ok(text)
        };
        match text() {
            Ok(text) if text.len() as u64 > MOST_BYTES => Err(format!("it has more than {MOST_BYTES} bytes")),
            Ok(text) => Ok(text),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes what was read; whether there is another list now.
    pub(super) fn on_read(
        &mut self,
        read: Result<String, String>,
        pool: &Name,
        metrics: Option<&DiscoveryMetrics>,
    ) -> bool {
        if self.read.as_ref() == Some(&read) {
            return false;
        }
        let list = match &read {
            Ok(text) => {
                read_endpoints(&self.path, text, self.takes_sockets).map_err(|report| report.to_string())
            }
            Err(error) => Err(error.clone()),
        };
        self.read = Some(read);
        if let Some(metrics) = metrics {
            metrics.loaded(list.is_ok(), ambient::wall());
        }
        let path = self.path.display();
        match list {
            Ok(list) => {
                let slots: Vec<_> = list.iter().map(|plan| slot(plan, Origin::File)).collect();
                tracing::info!(%pool, %path, endpoints = slots.len(), "list of endpoints was read");
                self.error = None;
                self.last_success = Some(ambient::wall());
                let changed = self.slots != slots;
                self.slots = slots;
                changed
            }
            Err(error) => {
                let kept = self.slots.len();
                let shown = error.trim_end();
                tracing::warn!(%pool, %path, kept, error = %format_args!("\n{shown}"), "list of endpoints was not read");
                self.error = Some(error);
                false
            }
        }
    }

    pub(super) fn reading(&self) -> SourceReading {
        SourceReading {
            origin: Origin::File,
            what: self.path.display().to_string(),
            state: if self.error.is_some() { "failing" } else { "read" },
            endpoints: self.slots.len(),
            error: self.error.clone(),
            last_success: self.last_success,
            next_in: None,
        }
    }
}

/// How long a list may be. Something is wrong with one that is longer.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn a_pipe_is_no_list_and_keeps_nobody_waiting() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("list");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(List::read(&path), Err("it is no regular file".to_owned()));
    }
}
