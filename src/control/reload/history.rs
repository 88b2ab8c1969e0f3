//! The last configurations that were in force, in memory and, where there is a folder for it, in files, so
//! that they outlive the process. Their texts hold secrets: the files are for their owner only. Does not
//! know how one is put in force again.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::config::plan::Origin;
use crate::control::whole_file;
use crate::model::json;
use crate::observe::civil;

/// A configuration that is or was in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number; the greater the later.
    pub number: u64,
    /// Its digest.
    pub hash: String,
    /// When it was put in force.
    pub at: SystemTime,
    /// Why, in the words of [`super::Cause`].
    pub cause: String,
    /// What it changed of the one before, in lines.
    pub changes: String,
    /// Why it was taken back, if it was.
    pub taken_back: Option<String>,
    /// What was written, by absolute path; the first is the file that it begins with. It holds secrets.
    pub texts: Vec<(PathBuf, String)>,
}

/// The last configurations, the newest last.
#[derive(Debug)]
pub struct History {
    /// Where they are kept, if anywhere.
    folder: Option<PathBuf>,
    kept: Mutex<VecDeque<Arc<Generation>>>,
}

impl History {
    /// What is known from before, if `state_dir` has anything of it.
    #[must_use]
    pub fn open(state_dir: Option<&Path>) -> Self {
        let folder = state_dir.map(|dir| dir.join(FOLDER));
        let mut kept = Vec::new();
        if let Some(folder) = folder.as_deref() {
            match read_all(folder) {
                Ok(found) => kept = found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%folder, %error, "earlier configurations cannot be read");
                }
            }
        }
        kept.sort_by_key(|generation| generation.number);
        Self { folder, kept: Mutex::new(kept.into_iter().map(Arc::new).collect()) }
    }

    /// The number for a configuration with which a process starts: that of the last one if it is the same,
    /// and the next otherwise.
    #[must_use]
    pub fn number_for(&self, hash: &str) -> u64 {
        self.last().map_or(1, |last| last.number + u64::from(last.hash != hash))
    }

    /// Every one that is kept, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Generation>> {
        self.kept().iter().cloned().collect()
    }

    /// The one with this number, if it is kept.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<Arc<Generation>> {
        self.kept().iter().find(|own| own.number == number).cloned()
    }

    /// The one that was in force before the one with this number.
    #[must_use]
    pub fn before(&self, number: u64) -> Option<Arc<Generation>> {
        self.kept().iter().rev().find(|own| own.number < number).cloned()
    }

    /// Adds one, in the place of one with the same number; the oldest are forgotten. That it cannot be
    /// written is logged, and keeps nothing from being in force.
    pub fn add(&self, generation: Generation) {
        let generation = Arc::new(generation);
        let mut forgotten = Vec::new();
        {
            let mut kept = self.kept();
            kept.retain(|own| own.number != generation.number);
            kept.push_back(Arc::clone(&generation));
            while kept.len() > MOST {
                forgotten.extend(kept.pop_front());
            }
        }
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write(folder, &generation) {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "a configuration cannot be kept: it will be forgotten with this process");
        }
        for old in forgotten {
            // What is left over is forgotten another time.
            let _ = fs::remove_file(folder.join(file_name(old.number)));
        }
    }

    /// Notes why the one with this number was taken back.
    pub fn take_back(&self, number: u64, why: &str) {
        let noted = {
            let mut kept = self.kept();
            let Some(own) = kept.iter_mut().find(|own| own.number == number) else { return };
            *own = Arc::new(Generation { taken_back: Some(why.to_owned()), ..(**own).clone() });
            Arc::clone(own)
        };
        if let Some(folder) = &self.folder {
            // That it cannot be written was said when it was added.
            let _ = write(folder, &noted);
        }
    }

    fn last(&self) -> Option<Arc<Generation>> {
        self.kept().back().cloned()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Generation>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generation {
    /// As the admin listener shows it: without the texts.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "generation": self.number,
            "hash": self.hash,
            "at": civil::rfc3339(self.at),
            "cause": self.cause,
            "changes": self.changes.lines().collect::<Vec<_>>(),
            "taken_back": self.taken_back,
            "files": self.texts.iter().map(|(path, _)| path).collect::<Vec<_>>(),
        })
    }
}

/// The texts of a configuration by absolute path.
pub(super) fn texts(origin: &Origin) -> Vec<(PathBuf, String)> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    origin.texts.iter().map(|(path, text)| (absolute(path), text.clone())).collect()
}

fn write(folder: &Path, generation: &Generation) -> io::Result<()> {
    let texts = generation.texts.iter().map(|(path, text)| json!({ "path": path, "text": text }));
    let mut kept = generation.to_json();
    if let Value::Object(fields) = &mut kept {
        fields.insert("texts".to_owned(), texts.collect());
    }
    whole_file::replace(folder, &file_name(generation.number), &kept.to_string())
}

fn read_all(folder: &Path) -> io::Result<Vec<Generation>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let ours = path.extension().is_some_and(|end| end == "json")
            && path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."));
        if !ours {
            continue;
        }
        match fs::read_to_string(&path).ok().and_then(|text| read(&text)) {
            Some(generation) => found.push(generation),
            None => tracing::warn!(file = %path.display(), "an earlier configuration cannot be read"),
        }
    }
    Ok(found)
}

fn read(text: &str) -> Option<Generation> {
    let kept: Value = serde_json::from_str(text).ok()?;
    let text = |value: &Value| {
        Some((PathBuf::from(json::text(value, "path")?), json::text(value, "text")?.to_owned()))
    };
    let changes: Vec<_> = json::list(&kept, "changes").iter().filter_map(Value::as_str).collect();
    Some(Generation {
        number: json::number(&kept, "generation")?,
        hash: json::text(&kept, "hash")?.to_owned(),
        at: civil::parse_rfc3339(json::text(&kept, "at")?)?,
        cause: json::text(&kept, "cause")?.to_owned(),
        changes: changes.iter().map(|line| format!("{line}\n")).collect(),
        taken_back: json::text(&kept, "taken_back").map(str::to_owned),
        texts: json::list(&kept, "texts").iter().map(text).collect::<Option<_>>()?,
    })
}

/// In the order of the numbers.
fn file_name(number: u64) -> String {
    format!("{number:012}.json")
}

/// Where configurations are kept, below the folder for what outlives the process.
const FOLDER: &str = "configurations";

/// How many are kept.
const MOST: usize = 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn generation(number: u64) -> Generation {
        Generation {
            number,
            hash: format!("{number:032x}"),
            at: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + number),
            cause: "file".to_owned(),
            changes: "~ pool app\n  + endpoint\n".to_owned(),
            taken_back: None,
            texts: vec![(PathBuf::from("/etc/f.toml"), "secret = \"\u{1}ß\"\n".to_owned())],
        }
    }

    #[test]
    fn the_last_twenty_outlive_the_process() {
        let home = tempfile::tempdir().unwrap();
        let history = History::open(Some(home.path()));
        assert_eq!((history.number_for("x"), history.all().len()), (1, 0));
        (1..=25).for_each(|number| history.add(generation(number)));
        history.take_back(24, "50% of 30 requests failed");
        let again = History::open(Some(home.path()));
        assert_eq!(again.all(), history.all());
        let numbers: Vec<_> = again.all().iter().map(|own| own.number).collect();
        assert_eq!(numbers, (6..=25).collect::<Vec<_>>());
        assert_eq!(again.before(25).unwrap().taken_back.as_deref(), Some("50% of 30 requests failed"));
        assert_eq!((again.number_for(&generation(25).hash), again.number_for("x")), (25, 26));
        let folder = home.path().join(FOLDER);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(file_name(25)))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), MOST);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_no_obstacle() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(FOLDER)).unwrap();
        fs::write(home.path().join(FOLDER).join(file_name(1)), "{").unwrap();
        assert_eq!(History::open(Some(home.path())).all().len(), 0);
        fs::write(home.path().join("file"), "").unwrap();
        let history = History::open(Some(&home.path().join("file")));
        history.add(generation(1));
        assert_eq!(history.get(1).as_deref(), Some(&generation(1)));
    }
}
