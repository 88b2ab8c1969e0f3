//! An access log's file, or standard output. Half a line is ended before the next begins. A pipe that
//! nobody empties is waited for by the thread that writes, and by nobody else: neither opening it nor ending
//! waits for somebody to read it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::ambient;

/// An open file.
#[derive(Debug)]
pub(super) struct LogFile {
    /// `None` for standard output.
    path: Option<PathBuf>,
    file: File,
    /// It ends in the middle of a line.
    torn: bool,
}

impl LogFile {
    /// Opens `path` to append to it.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = append_to(&path)?;
        Ok(Self { path: Some(path), file, torn: false })
    }

    /// Standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        // Past the standard library's handle, which would add a buffer and a lock.
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { path: None, file, torn: false })
    }

    /// Opens the path anew; stays with the old file when that fails.
    pub(super) fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => (self.file, self.torn) = (file, false),
            Err(error) => tracing::error!(path = %path.display(), %error, "access log was not reopened"),
        }
    }

    /// What it is called.
    pub(super) fn shown(&self) -> String {
        let path = self.path.as_deref().unwrap_or(Path::new("standard output"));
        path.display().to_string()
    }

    /// Writes as much of `text` as can be. Returns how many lines of it are whole, and why not all are.
    pub(super) fn write(&mut self, text: &[u8], ending: &AtomicBool) -> (usize, Option<io::Error>) {
        if self.torn {
            if let (_, Some(error)) = self.put(b"\n", ending) {
                return (0, Some(error));
            }
            self.torn = false;
        }
        let (written, error) = self.put(text, ending);
        let written = text.get(..written).unwrap_or_default();
        self.torn = written.last().is_some_and(|byte| *byte != b'\n');
        (memchr::memchr_iter(b'\n', written).count(), error)
    }

    fn put(&mut self, text: &[u8], ending: &AtomicBool) -> (usize, Option<io::Error>) {
        let mut rest = text;
        let error = loop {
            if rest.is_empty() {
                break None;
            }
            match self.file.write(rest) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = rest.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.has_room(ending) => {}
                Err(error) => break Some(error),
            }
        };
        (text.len() - rest.len(), error)
    }

    /// Waits until a pipe has room. Gives it up some time after the `ending` has begun.
    fn has_room(&self, ending: &AtomicBool) -> bool {
        let mut until = None;
        loop {
            let now = ambient::now();
            if ending.load(Ordering::Acquire) && now >= *until.get_or_insert(now + PARTING) {
                return false;
            }
            let mut fds = [PollFd::new(&self.file, PollFlags::OUT)];
            match poll(&mut fds, Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// The log names clients, so that it is not for everyone to read. Regular files know of no waiting; a pipe
/// that nobody reads would keep whoever opens it, and that is who starts or reloads the process.
fn append_to(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path);
    opened.map_err(|error| match std::fs::metadata(path) {
        Ok(there) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => why_not(&there, error),
        _ => error,
    })
}

/// Why there is nobody at the other end, in words: the system says "no such device or address".
fn why_not(there: &Metadata, error: io::Error) -> io::Error {
    let kind = there.file_type();
    if kind.is_fifo() {
        io::Error::new(error.kind(), "it is a pipe that nobody has opened to read")
    } else if kind.is_socket() {
        io::Error::new(
            error.kind(),
            "it is a socket; if a syslog listens there, write `syslog = \"unix:PATH\"`",
        )
    } else {
        error
    }
}

/// How often it is looked whether the end has begun.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long a pipe is waited for after that.
const PARTING: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

    use rustix::fs::fcntl_setfl;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn half_a_line_is_ended_before_the_next() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        let mut file = LogFile { path: None, file: File::from(OwnedFd::from(writer)), torn: false };
        let ending = AtomicBool::new(true);

        // More than a pipe holds, so that the write stops in the middle of the second line.
        let mut text = b"one\n".to_vec();
        text.resize(1 << 20, b'x');
        text.extend_from_slice(b"\nthree\n");
        let (whole, error) = file.write(&text, &ending);
        assert_eq!((whole, error.map(|e| e.kind())), (1, Some(io::ErrorKind::WouldBlock)));
        assert!(file.torn);

        let mut room = vec![0; 1 << 20];
        let held = reader.read(&mut room).unwrap();
        assert!(matches!(file.write(b"four\n", &ending), (1, None)));
        assert!(!file.torn);
        drop(file);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(
            room[..held].starts_with(b"one\nxxx") && rest.trim_start_matches('x') == "\nfour\n",
            "{rest}"
        );
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_refused_at_once_and_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let error = LogFile::open(path.clone()).unwrap_err();
        assert!(error.to_string().contains("nobody has opened"), "{error}");
        let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        LogFile::open(path).unwrap();

        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        let error = LogFile::open(socket).unwrap_err();
        assert!(error.to_string().contains("`syslog = "), "{error}");
    }
}
