//! Where an access log's lines end up, and the account of what became of them. Write errors lose the lines
//! that they hit and nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::file::LogFile;
use super::syslog::SyslogLink;
use crate::ambient;
use crate::model::settings::LogTarget;
use crate::observe::metrics::LogLines;

/// Where lines go, and what became of them.
#[derive(Debug)]
pub(super) struct Sink {
    out: Out,
    lines: Arc<LogLines>,
    complained: Option<Instant>,
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Out {
    /// To a file or standard output.
    File(LogFile),
    /// To a syslog.
    Syslog(Box<SyslogLink>),
    /// To somebody who follows, with how many lost lines he knows of.
    Follower(mpsc::Sender<Bytes>, u64),
    /// To nobody: it panics.
    #[cfg(test)]
    Broken,
}

impl Out {
    /// Opens what can be opened without waiting.
    pub(super) fn open(target: LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Self::File(LogFile::stdout()?),
            LogTarget::File(path) => Self::File(LogFile::open(path)?),
            LogTarget::Syslog(syslog) => Self::Syslog(Box::new(SyslogLink::new(syslog.to))),
        })
    }
}

impl Sink {
    pub(super) fn new(out: Out, lines: Arc<LogLines>) -> Self {
        Self { out, lines, complained: None }
    }

    /// Opens a file anew; stays with the old one when that fails.
    pub(super) fn reopen(&mut self) {
        if let Out::File(file) = &mut self.out {
            file.reopen();
        }
    }

    /// Writes `text`, which is so many `lines`, each with its line feed. Waits for whoever takes them; not
    /// for long any more once it is `ending`.
    pub(super) fn write(&mut self, text: &[u8], lines: usize, ending: &AtomicBool) {
        let (whole, error) = match &mut self.out {
            Out::File(file) => file.write(text, ending),
            Out::Syslog(syslog) => syslog.write(text),
            Out::Follower(follower, known) => tell(follower, text, lines, (&self.lines, known)),
            #[cfg(test)]
            Out::Broken => panic!("it is broken"),
        };
        self.lines.wrote(whole as u64);
        if let Some(error) = error {
            let lost = lines.saturating_sub(whole) as u64;
            self.lines.lose(lost);
            self.complain(&error, lost);
        }
    }

    /// Counts lines that will not be written.
    pub(super) fn lose(&self, lines: usize) {
        self.lines.lose(lines as u64);
    }

    /// Logs a write error, at most once a minute.
    fn complain(&mut self, error: &io::Error, lost: u64) {
        let now = ambient::now();
        if self.complained.is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
            return;
        }
        self.complained = Some(now);
        let total = self.lines.lost();
        let to = match &self.out {
            Out::File(file) => file.shown(),
            Out::Syslog(syslog) => syslog.shown(),
            // Who no longer follows does not miss what comes.
            _ => return,
        };
        tracing::warn!(to, %error, lost, total, "access log lines were lost");
    }
}

/// Tells a follower lines, and how many were lost if those are more than were `known`.
fn tell(
    follower: &mpsc::Sender<Bytes>,
    text: &[u8],
    lines: usize,
    (count, known): (&LogLines, &mut u64),
) -> (usize, Option<io::Error>) {
    let lost = count.lost();
    let mut piece = text.to_vec();
    if lost > *known {
        piece.extend_from_slice(format!("{{\"lost\":{}}}\n", lost - *known).as_bytes());
        *known = lost;
    }
    match follower.blocking_send(piece.into()) {
        Ok(()) => (lines, None),
        Err(_) => (0, Some(io::ErrorKind::BrokenPipe.into())),
    }
}

const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
