//! Files of the state directory, which are replaced as a whole or stay as they were. They may hold secrets,
//! and are for their owner only. Does not know what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Has `text` stand in the file `name` of `folder`, which is made if need be; also after a loss of power.
///
/// # Errors
/// What the system says; the file is as it was then, unless only the folder cannot be brought to the disk.
pub(super) fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let beside = folder.join(format!(".{name}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    File::open(folder)?.sync_all()
}
