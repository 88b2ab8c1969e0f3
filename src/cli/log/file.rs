//! A file that grows, line by line, whatever it is moved to and replaced by. Does not know what its lines
//! say.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Last;
use crate::cli::Failure;

/// Has `tell` hear each line of the file at `path`, from its `last` ones on, until `tell` has enough or the
/// file is at its `end`; without one, until then only.
///
/// # Errors
/// When it cannot be read.
pub(super) fn follow(
    path: &Path,
    last: Last,
    to_end: bool,
    tell: &mut impl FnMut(&str) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let failed = |source| Failure::File { file: path.display().to_string(), source };
    if path == Path::new("-") {
        let mut partial = Vec::new();
        if lines(&mut io::stdin().lock(), &mut partial, tell).map_err(failed)?.is_continue() {
            rest(&partial, tell);
        }
        return Ok(());
    }
    let mut file = File::open(path).map_err(failed)?;
    if let Last::Lines(count) = last {
        skip_to_last(&mut file, count).map_err(failed)?;
    }
    let mut reader = BufReader::new(file);
    let mut partial = Vec::new();
    loop {
        if lines(&mut reader, &mut partial, tell).map_err(failed)?.is_break() {
            return Ok(());
        }
        if to_end {
            rest(&partial, tell);
            return Ok(());
        }
        if let Some(file) = replaced(path, &mut reader, &mut partial).map_err(failed)? {
            // What was written before it was moved away has been read.
            if lines(&mut reader, &mut partial, tell).map_err(failed)?.is_break() {
                return Ok(());
            }
            (reader, partial) = (BufReader::new(file), Vec::new());
            continue;
        }
        thread::sleep(LOOK);
    }
}

/// Tells every whole line that there is; a last one without its end is kept in `partial`.
fn lines(
    reader: &mut impl BufRead,
    partial: &mut Vec<u8>,
    tell: &mut impl FnMut(&str) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    loop {
        reader.read_until(b'\n', partial)?;
        if partial.last() != Some(&b'\n') {
            return Ok(ControlFlow::Continue(()));
        }
        let line = String::from_utf8_lossy(partial);
        if tell(line.trim_end_matches(['\r', '\n'])).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        partial.clear();
    }
}

/// Tells a last line without its end, if there is one.
fn rest(partial: &[u8], tell: &mut impl FnMut(&str) -> ControlFlow<()>) {
    if !partial.is_empty() {
        // There is nothing after it to have enough of.
        let _ = tell(&String::from_utf8_lossy(partial));
    }
}

/// The file that has taken the place of the one that is read. That one is read from its start if it was cut, and
/// what is in `partial` is nothing's beginning then.
fn replaced(path: &Path, reader: &mut BufReader<File>, partial: &mut Vec<u8>) -> io::Result<Option<File>> {
    let own = reader.get_ref().metadata()?;
    if own.len() < reader.stream_position()? {
        reader.seek(SeekFrom::Start(0))?;
        partial.clear();
        return Ok(None);
    }
    let same = |other: &Metadata| (own.dev(), own.ino()) == (other.dev(), other.ino());
    // Between being moved and made anew there may be none.
    match fs::metadata(path) {
        Ok(other) if !same(&other) => Ok(File::open(path).ok()),
        _ => Ok(None),
    }
}

/// Moves to the beginning of the last `count` lines, as far as they are near the end.
fn skip_to_last(file: &mut File, count: usize) -> io::Result<()> {
    let end = file.metadata()?.len();
    let from = end.saturating_sub(NEAR);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(NEAR).read_to_end(&mut tail)?;
    let mut feeds = memchr::memrchr_iter(b'\n', &tail);
    // The line feed before the first of them.
    let at = feeds.nth(count).map(|at| at as u64 + 1).or((from == 0).then_some(0));
    let first_whole = || memchr::memchr(b'\n', &tail).map_or(0, |at| at as u64 + 1);
    file.seek(SeekFrom::Start(from + at.unwrap_or_else(first_whole)))?;
    Ok(())
}

/// How often it is looked whether the file has grown.
const LOOK: Duration = Duration::from_millis(100);

/// How much of a file's end its last lines are looked for in, in bytes.
const NEAR: u64 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_come_first_and_then_what_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (text, count, expected) in [
            ("a\nb\nc\n", 2, "b c"),
            ("a\nb\nc\n", 3, "a b c"),
            ("a\nb\nc\n", 9, "a b c"),
            ("a\nb\nc", 1, "b c"),
            ("a\nb\nc\n", 0, ""),
            ("", 5, ""),
        ] {
            fs::write(&path, text).unwrap();
            let mut heard = Vec::new();
            let mut tell = |line: &str| {
                heard.push(line.to_owned());
                ControlFlow::Continue(())
            };
            follow(&path, Last::Lines(count), true, &mut tell).unwrap();
            assert_eq!(heard.join(" "), expected, "{count} of {text:?}");
        }
    }

    #[test]
    fn a_file_is_followed_through_rotation_and_truncation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\ntw").unwrap();
        let append = |text: &str| {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        let mut heard = Vec::new();
        // Each step is taken once the line before was heard.
        let mut tell = |line: &str| {
            heard.push(line.to_owned());
            match line {
                "one" => append("o\n"),
                "two" => {
                    append("three\n");
                    fs::rename(&path, folder.path().join("old")).unwrap();
                    append("four\n");
                }
                "four" => fs::write(&path, "5\n").unwrap(),
                "5" => return ControlFlow::Break(()),
                _ => {}
            }
            ControlFlow::Continue(())
        };
        follow(&path, Last::All, false, &mut tell).unwrap();
        assert_eq!(heard, ["one", "two", "three", "four", "5"]);
    }

    #[test]
    fn half_a_line_of_a_file_that_is_cut_is_not_the_beginning_of_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "one\nhalf a li").unwrap();
        let mut heard = Vec::new();
        // By the time that the first line is heard the rest has been read with it.
        let mut tell = |line: &str| {
            heard.push(line.to_owned());
            if line != "one" {
                return ControlFlow::Break(());
            }
            fs::write(&path, "two\n").unwrap();
            ControlFlow::Continue(())
        };
        follow(&path, Last::All, false, &mut tell).unwrap();
        assert_eq!(heard, ["one", "two"]);
    }
}
