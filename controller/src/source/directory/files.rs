//! The folder's files: which there are, and reading one within limits.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

/// A file may be this long.
pub(super) const MAX_BYTES: u64 = 4 << 20;

/// Changes whenever a file is written to, replaced or touched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Clocks of file systems are coarse: within this, a second write may leave the
/// stamp of the first.
const COARSE: Duration = Duration::from_secs(1);

impl Stamp {
    /// True when whoever sees the same stamp again can be sure of the same
    /// contents.
    pub(super) fn is_telling(&self) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        // A clock that went back says nothing.
        changed
            .elapsed()
            .is_ok_and(|age| age > COARSE + Duration::from_secs(1))
    }
}

/// Why a file is not read. Display says it all: the cause has nothing to add
/// that people need.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot be read ({0}); what it last said stays")]
    Io(io::Error),
    #[error("is not a file, nor a link to one")]
    NotAFile,
    #[error("is larger than {MAX_BYTES} bytes; split it")]
    TooLarge,
    #[error("is not UTF-8 text")]
    NotText,
    /// It changed while it was read: ask again soon.
    #[error("is being written to")]
    Unsettled,
}

/// The folder's YAML and JSON files by name, each with its stamp.
///
/// Links are followed. Hidden and temporary files are none of ours.
pub(super) fn list(folder: &Path) -> io::Result<BTreeMap<String, Result<Stamp, FileError>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            continue;
        }
        match stamp(&entry.path()) {
            Ok(stamp) => files.insert(name, Ok(stamp)),
            // Removed since the folder was read; a dangling link is still there.
            Err(FileError::Io(_))
                if fs::symlink_metadata(entry.path())
                    .is_err_and(|error| error.kind() == io::ErrorKind::NotFound) =>
            {
                None
            }
            Err(error) => files.insert(name, Err(error)),
        };
    }
    Ok(files)
}

fn is_ours(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|ext| ext.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn stamp(path: &Path) -> Result<Stamp, FileError> {
    let metadata = fs::metadata(path).map_err(FileError::Io)?;
    if metadata.is_file() {
        Ok(Stamp::from(&metadata))
    } else {
        Err(FileError::NotAFile)
    }
}

/// The file's text, and the stamp it had all the while.
pub(super) fn read(path: &Path) -> Result<(String, Stamp), FileError> {
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let before = stamp(path)?;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(FileError::Io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FileError::TooLarge);
    }
    if stamp(path)? != before {
        return Err(FileError::Unsettled);
    }
    let text = String::from_utf8(bytes).map_err(|_| FileError::NotText)?;
    Ok((text, before))
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn whose_files() {
        for name in ["a.yaml", "a.yml", "a.json", "a b.yaml", "a.b.yaml"] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            ".a.yaml",
            ".#a.yaml",
            "a.yaml~",
            "#a.yaml#",
            "a.yaml.swp",
            "a.tmp",
            "yaml",
            "..data",
            "a.YAML.bak",
            "4913",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
