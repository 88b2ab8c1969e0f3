//! What a plan was made from: the words, the files, and what tells them from others.

use std::fmt;
use std::path::PathBuf;

use super::files::{self, FileRead};
use super::secret::{self, Place};
use crate::model::Fingerprint;
use crate::model::options::{Key, Value};

/// What a plan was made from.
#[derive(Default)]
pub struct Origin {
    /// Tells the configuration from any other, the files it names included.
    pub fingerprint: Fingerprint,
    /// What was written in all files, as if it stood in one, with the environment's variables in their
    /// places. It holds secrets.
    pub written: Vec<(Key, Value)>,
    /// The text of the configuration, by file; the first is the one that was named. It holds secrets.
    pub texts: Vec<(PathBuf, String)>,
    /// Every file that was read, certificates included: a change of one of them changes the plan.
    pub files: Vec<PathBuf>,
    /// The same by the keys that name them, with what was in them; a file may be named by several.
    pub reads: Vec<FileRead>,
    /// Every folder that was searched for files to include: a new file there may change the plan.
    pub folders: Vec<PathBuf>,
}

impl Origin {
    pub(super) fn new(
        written: Vec<(Key, Value)>,
        texts: Vec<(PathBuf, String)>,
        reads: Vec<FileRead>,
        folders: Vec<PathBuf>,
    ) -> Self {
        // Of the configuration's own files what counts is written: not their comments, nor their names.
        let others = reads.iter().filter(|file| !is_text(file));
        let contents = others.map(|file| file.contents.unwrap_or_default());
        let fingerprint = contents.fold(Fingerprint::of_entries(&written), Fingerprint::and);
        Self { fingerprint, files: files::paths(&reads), written, texts, reads, folders }
    }
}

impl Origin {
    /// What was written, as a JSON object of the shape of the file, with `"***"` in place of secrets: of
    /// passwords, tokens and the like, and of whatever came from the environment in keys that are not
    /// known to be harmless.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        secret::shown_entries(&Place::default(), &self.written)
    }
}

/// Whether a file is one of the configuration's own, and not one that it names for something.
pub(super) fn is_text(file: &FileRead) -> bool {
    file.key.is_empty() || file.key == "include" || file.key.starts_with("include[")
}

/// Says no more than which it is, for there are secrets in it.
impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.fingerprint)
    }
}
