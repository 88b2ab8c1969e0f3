//! Where an access log's lines end up: a file or standard output. Write errors lose the lines that
//! they hit and nothing else; half a line is ended before the next begins.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ambient;
use crate::observe::metrics::LogLines;

/// An open file, and what became of its lines.
#[derive(Debug)]
pub(super) struct Sink {
    /// `None` for standard output.
    path: Option<PathBuf>,
    file: File,
    lines: Arc<LogLines>,
    /// The file ends in the middle of a line.
    torn: bool,
    complained: Option<Instant>,
}

impl Sink {
    /// Opens `path`, or standard output.
    pub(super) fn open(path: Option<PathBuf>, lines: Arc<LogLines>) -> io::Result<Self> {
        let file = match &path {
            Some(path) => append_to(path)?,
            // Past the standard library's handle, which would add a buffer and a lock.
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        Ok(Self { path, file, lines, torn: false, complained: None })
    }

    /// Opens the path anew; stays with the old file when that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => (self.file, self.torn) = (file, false),
            Err(error) => tracing::error!(path = %path.display(), %error, "access log was not reopened"),
        }
    }

    /// Writes `text`, which is so many `lines`, each with its line feed.
    pub(super) fn write(&mut self, text: &[u8], lines: usize) {
        let (written, error) = self.try_write(text);
        let whole = memchr::memchr_iter(b'\n', text.get(..written).unwrap_or_default()).count();
        self.lines.wrote(whole as u64);
        if let Some(error) = error {
            let lost = lines.saturating_sub(whole) as u64;
            self.lines.lose(lost);
            self.complain(&error, lost);
        }
    }

    /// Writes as much of `text` as can be. Returns how many bytes that is, and why not all of it.
    fn try_write(&mut self, text: &[u8]) -> (usize, Option<io::Error>) {
        if self.torn {
            if let Err(error) = self.file.write_all(b"\n") {
                return (0, Some(error));
            }
            self.torn = false;
        }
        let mut rest = text;
        let error = loop {
            if rest.is_empty() {
                break None;
            }
            match self.file.write(rest) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        let written = text.len() - rest.len();
        self.torn = written > 0 && text.get(written - 1) != Some(&b'\n');
        (written, error)
    }

    /// Logs a write error, at most once a minute.
    fn complain(&mut self, error: &io::Error, lost: u64) {
        let now = ambient::now();
        if self.complained.is_some_and(|last| now.duration_since(last) < COMPLAINT_INTERVAL) {
            return;
        }
        self.complained = Some(now);
        let path = self.path.as_deref().unwrap_or(Path::new("standard output"));
        let total = self.lines.lost();
        tracing::warn!(path = %path.display(), %error, lost, total, "access log lines were lost");
    }
}

/// The log names clients, so that it is not for everyone to read.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use rustix::fs::{OFlags, fcntl_setfl};

    use super::*;

    #[test]
    fn half_a_line_is_ended_before_the_next() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let file = File::from(OwnedFd::from(writer));
        let lines = Arc::<LogLines>::default();
        let mut sink = Sink { path: None, file, lines: Arc::clone(&lines), torn: false, complained: None };

        // More than a pipe holds, so that the write stops in the middle of the second line.
        let mut text = b"one\n".to_vec();
        text.resize(1 << 20, b'x');
        text.extend_from_slice(b"\nthree\n");
        sink.write(&text, 3);
        assert_eq!((lines.written(), lines.lost(), sink.torn), (1, 2, true));

        let mut room = vec![0; 1 << 20];
        let held = reader.read(&mut room).unwrap();
        sink.write(b"four\n", 1);
        assert_eq!((lines.written(), lines.lost(), sink.torn), (2, 2, false));
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(
            room[..held].starts_with(b"one\nxxx") && rest.trim_start_matches('x') == "\nfour\n",
            "{rest}"
        );
    }
}
