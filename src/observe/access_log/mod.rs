//! Access logs, written off the workers' path. A worker formats a line into a backlog of its own;
//! one thread per log collects the backlogs and writes them. A backlog that is full loses the line
//! and counts it: logging never makes a request wait.

mod backlog;
mod combined;
mod json;
mod record;
mod sink;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use backlog::{Backlogs, Mood};
use sink::Sink;

pub use record::Record;

use super::metrics::LogLines;
use super::shard::Shard;
use crate::model::settings::LogFormat;

/// What an access log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How lines look.
    pub format: LogFormat,
    /// A file to append to, made when it is missing; standard output when unset.
    pub path: Option<PathBuf>,
    /// Lines of each worker that may wait to be written, each counted as at most 1 KiB; at least 1.
    pub queue: usize,
    /// Number of workers.
    pub workers: usize,
    /// Where lines are counted.
    pub lines: Arc<LogLines>,
}

/// An open access log. Dropping it does what [`Self::close`] does, unless that was called before.
#[derive(Debug)]
pub struct AccessLog {
    format: LogFormat,
    backlogs: Arc<Backlogs>,
    writer: Thread,
    lines: Arc<LogLines>,
    /// Disconnected when the writer ends.
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or the thread cannot be started.
    pub fn open(options: Options) -> io::Result<Self> {
        let Options { format, path, queue, workers, lines } = options;
        let sink = Sink::open(path, Arc::clone(&lines))?;
        let backlogs = Arc::new(Backlogs::new(workers, queue));
        let (alive, ended) = sync_channel::<()>(0);
        let theirs = Arc::clone(&backlogs);
        let write = move || {
            write_until_stopped(&theirs, sink);
            drop(alive);
        };
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        let writer = writer.thread().clone();
        Ok(Self { format, backlogs, writer, lines, ended: Mutex::new(ended) })
    }

    /// Logs a request. Never waits; the line is counted as lost when the backlog is full or the log
    /// is closed.
    pub fn write(&self, shard: Shard, record: &Record<'_>) {
        match self.backlogs.push(shard, |backlog| backlog.add(self.format, record)) {
            Some(mood) if self.backlogs.calmer_than(mood) => self.rouse(mood),
            Some(_) => {}
            None => self.lines.lose(1),
        }
    }

    /// Opens the file anew, as after a rotation. The lines so far go to the old one; when the new one
    /// cannot be opened, so do those that follow.
    pub fn reopen(&self) {
        self.backlogs.reopen.store(true, Ordering::Release);
        self.rouse(Mood::Urgent);
    }

    /// Writes what is left and closes the log, within `wait`. Returns whether everything was handed
    /// to the kernel or counted as lost by then; if not, the thread goes on in the background.
    pub fn close(&self, wait: Duration) -> bool {
        self.end();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected)
    }

    /// As [`Self::close`], without waiting for it.
    pub fn end(&self) {
        self.backlogs.stop.store(true, Ordering::Release);
        self.rouse(Mood::Urgent);
    }

    fn rouse(&self, mood: Mood) {
        if self.backlogs.rouse(mood) {
            self.writer.unpark();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if !self.backlogs.stop.load(Ordering::Acquire) {
            self.close(CLOSING);
        }
    }
}

fn write_until_stopped(backlogs: &Backlogs, mut sink: Sink) {
    let mut spare = Vec::new();
    loop {
        backlogs.wait();
        let last = backlogs.stop.load(Ordering::Acquire);
        backlogs.drain(last, &mut spare, |text, lines| sink.write(text, lines));
        if backlogs.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        if last {
            return;
        }
    }
}

/// How long a dropped log waits for its last lines to be written.
const CLOSING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
