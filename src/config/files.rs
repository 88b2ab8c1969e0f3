//! The files that a configuration is read from. Every file is read here, so that it is known which they
//! were, which key named them, and what was in them. Knows nothing of what they mean.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::Fingerprint;

/// A file that was read, or looked for and not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// The key that named it, as in `listener[0].certificates[0].cert`; empty for the file that the
    /// configuration begins with.
    pub key: String,
    /// As it was opened.
    pub path: PathBuf,
    /// Of what was in it; `None` when it could not be read.
    pub contents: Option<Fingerprint>,
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: RefCell<Vec<FileRead>>,
    folders: RefCell<Vec<PathBuf>>,
    /// What stands in the place of what is in files.
    given: Vec<(PathBuf, String)>,
    /// Whether folders hold what is given and nothing else.
    closed: bool,
}

/// A moment in the reading, from which on files are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

impl Files {
    /// With `text` in the place of what is in the file at `path`.
    pub(super) fn with(path: &Path, text: &str) -> Self {
        Self { given: vec![(path.to_owned(), text.to_owned())], ..Self::default() }
    }

    /// With the configuration's own files as they were once, and no others included.
    pub(super) fn as_kept(texts: &[(PathBuf, String)]) -> Self {
        Self { given: texts.to_vec(), closed: true, ..Self::default() }
    }

    /// The contents of the file at `path`, which `key` names.
    pub(super) fn read(&self, key: &str, path: &Path) -> io::Result<Vec<u8>> {
        let given = self.given.iter().find(|(file, _)| file == path);
        let bytes = given.map_or_else(|| fs::read(path), |(_, text)| Ok(text.as_bytes().to_owned()));
        let contents = bytes.as_ref().ok().map(|bytes| Fingerprint::of_bytes(bytes));
        self.read.borrow_mut().push(FileRead { key: key.to_owned(), path: path.to_owned(), contents });
        bytes
    }

    /// The names of what is in the folder at `path`, in alphabetical order. A new file there is a change
    /// of the configuration.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut folders = self.folders.borrow_mut();
        if !folders.iter().any(|known| known == path) {
            folders.push(path.to_owned());
        }
        if self.closed {
            let within = self.given.iter().map(|(file, _)| file).filter(|file| file.parent() == Some(path));
            let names = within.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
            let mut names: Vec<_> = names.collect();
            names.sort_unstable();
            return Ok(names);
        }
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().ok());
        let names: io::Result<Vec<Option<String>>> = fs::read_dir(path)?.map(name).collect();
        let mut names: Vec<_> = names?.into_iter().flatten().collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.read.borrow().len())
    }

    /// `written` with the contents of the files that were read since `mark`.
    pub(super) fn cover(&self, written: Fingerprint, mark: Mark) -> Fingerprint {
        let read = self.read.borrow();
        let contents = read.iter().skip(mark.0).map(|file| file.contents.unwrap_or_default());
        contents.fold(written, Fingerprint::and)
    }

    /// Every file that was read, in order, and every folder that was looked through.
    pub(super) fn into_parts(self) -> (Vec<FileRead>, Vec<PathBuf>) {
        (self.read.into_inner(), self.folders.into_inner())
    }
}

/// Each path once, in the order of the first.
pub(super) fn paths(read: &[FileRead]) -> Vec<PathBuf> {
    let mut seen = std::collections::HashSet::new();
    read.iter().filter(|file| seen.insert(&file.path)).map(|file| file.path.clone()).collect()
}

/// What is to be done about a file that cannot be read, its path as written.
pub(super) fn remedy(error: &io::Error, path: &Path) -> Option<String> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some("let the user that runs forebay read it".to_owned()),
        io::ErrorKind::NotFound if path.is_relative() => {
            Some("relative paths start at the folder of the configuration".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let (there, missing) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&there, "1").unwrap();
        let files = Files::default();
        let written = Fingerprint::of_bytes(b"written");
        let mark = files.mark();
        assert_eq!(files.cover(written, mark), written);
        assert_eq!(files.read("x", &there).unwrap(), b"1");
        let one = files.cover(written, mark);
        assert_ne!(one, written);
        fs::write(&there, "2").unwrap();
        let mark = files.mark();
        assert_eq!(files.read("x", &there).unwrap(), b"2");
        assert_ne!(files.cover(written, mark), one);
        assert!(files.read("y", &missing).is_err());
        assert_eq!(files.list(folder.path()).unwrap(), ["a"]);
        let (read, folders) = files.into_parts();
        assert_eq!(paths(&read), [there, missing]);
        assert_eq!((read[2].key.as_str(), read[2].contents), ("y", None));
        assert_eq!(folders, [folder.path()]);
    }

    #[test]
    fn what_is_given_stands_in_the_place_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let (main, part) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&part, "on disk").unwrap();
        let files = Files::with(&main, "given");
        assert_eq!(files.read("", &main).unwrap(), b"given");
        assert_eq!(files.read("include", &part).unwrap(), b"on disk");
        assert_eq!(files.list(folder.path()).unwrap(), ["b"]);
        let files = Files::as_kept(&[(main, "1".to_owned())]);
        assert_eq!(files.list(folder.path()).unwrap(), ["a"]);
        assert_eq!(files.read("key", &part).unwrap(), b"on disk", "such as a certificate");
    }

    #[test]
    fn want_of_permission_has_its_own_remedy() {
        let said = |kind: io::ErrorKind, path: &str| remedy(&kind.into(), Path::new(path));
        let allow = said(io::ErrorKind::PermissionDenied, "/a").unwrap();
        assert_eq!(allow, "let the user that runs forebay read it");
        assert_eq!(said(io::ErrorKind::NotFound, "/a"), None);
        assert!(said(io::ErrorKind::NotFound, "a").is_some());
        assert_eq!(said(io::ErrorKind::IsADirectory, "a"), None);
    }
}
