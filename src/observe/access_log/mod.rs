//! Access logs, written off the workers' path. A worker formats a line into a backlog of its own;
//! one thread per log collects the backlogs and writes them. A backlog that is full loses the line
//! and counts it: logging never makes a request wait.

mod backlog;
mod combined;
mod file;
mod json;
mod line;
mod pairs;
mod record;
mod sink;
mod syslog;
mod tap;
mod wanted;

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use backlog::{Backlogs, Mood};
use line::Shape;
use sink::{Out, Sink};

pub use record::{Cause, Passed, Record};
pub use tap::{Following, Tap};
pub use wanted::{BadWanted, Client, Facts, StatusRange, Wanted};

use super::metrics::LogLines;
use super::panics::{Place, catching};
use super::shard::Shard;
use crate::model::settings::{LogField, LogFormat, LogSample, LogTarget, Outline};

/// What an access log is opened with.
#[derive(Clone, Debug)]
pub struct Options {
    /// How lines look.
    pub format: LogFormat,
    /// What they say; all there is, or what the combined format has, when unset.
    pub fields: Option<Vec<LogField>>,
    /// Which requests are logged; all of them when unset.
    pub sample: Option<LogSample>,
    /// Where lines go. A file is made when it is missing.
    pub to: LogTarget,
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
    shape: Shape,
    sample: Option<LogSample>,
    backlogs: Arc<Backlogs>,
    writer: Thread,
    lines: Arc<LogLines>,
    /// Disconnected when the writer ends.
    ended: Mutex<Receiver<()>>,
}

impl AccessLog {
    /// Opens the log and starts its thread. Waits for nobody.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, such as a pipe that nobody reads, or the thread cannot
    /// be started.
    pub fn open(options: Options) -> io::Result<Self> {
        let Options { format, fields, sample, to, queue, workers, lines } = options;
        let syslog = if let LogTarget::Syslog(syslog) = &to { Some(syslog) } else { None };
        let shape = Shape::new(format, fields, syslog);
        let sink = Sink::new(Out::open(to)?, Arc::clone(&lines));
        Self::start(shape, sample, Backlogs::new(workers, queue), (sink, lines))
    }

    fn start(
        shape: Shape,
        sample: Option<LogSample>,
        backlogs: Backlogs,
        (sink, lines): (Sink, Arc<LogLines>),
    ) -> io::Result<Self> {
        let backlogs = Arc::new(backlogs);
        let (alive, ended) = sync_channel::<()>(0);
        let theirs = Arc::clone(&backlogs);
        let write = move || {
            write_until_stopped(&theirs, sink);
            drop(alive);
        };
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        let writer = writer.thread().clone();
        Ok(Self { shape, sample, backlogs, writer, lines, ended: Mutex::new(ended) })
    }

    /// Whether a request is to be logged; `draw` is uniformly distributed.
    #[must_use]
    pub fn keeps(&self, request: &Outline, draw: impl FnOnce() -> u64) -> bool {
        self.sample.is_none_or(|sample| sample.keeps(request, draw()))
    }

    /// Logs a request. Never waits; the line is counted as lost when the backlog is full or the log
    /// is closed.
    pub fn write(&self, shard: Shard, record: &Record<'_>) {
        match self.backlogs.push(shard, |backlog| backlog.add(&self.shape, record)) {
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

/// Writes what workers have logged, until the log is closed. A panic loses the lines that were being written,
/// and is followed by a pause.
fn write_until_stopped(backlogs: &Backlogs, mut sink: Sink) {
    let mut spare = Vec::new();
    let mut writing = 0;
    loop {
        backlogs.wait();
        let last = backlogs.stop.load(Ordering::Acquire);
        let round = catching(Place::AccessLog, || {
            backlogs.drain(last, &mut spare, |text, lines| {
                writing = lines;
                sink.write(text, lines, &backlogs.stop);
                writing = 0;
            });
            if backlogs.reopen.swap(false, Ordering::AcqRel) {
                sink.reopen();
            }
        });
        match round {
            Ok(()) if last => return,
            Ok(()) => {}
            Err(panic) => {
                tracing::error!(%panic, lost = writing, "a panic was contained, the access log goes on");
                sink.lose(std::mem::take(&mut writing));
                spare.clear();
                thread::sleep(PAUSE);
                // There may be more, of other workers.
                backlogs.rouse(Mood::Urgent);
            }
        }
    }
}

/// How long a dropped log waits for its last lines to be written.
const CLOSING: Duration = Duration::from_secs(2);

/// How long the writer rests after a panic.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
