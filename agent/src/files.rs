//! Files that are whole or not there: written beside, synced, renamed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What was being done to which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct FileError {
    pub doing: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`.
    pub fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Replaces `path` by `contents`, mode 0600: after a crash at any point the
/// file has its old or its new contents, never anything between. The directory
/// must exist, and only one writer may write the file.
pub fn write_atomic(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace(path, contents, Durability::Reboot)
}

/// As [`write_atomic`], for a file that a reboot voids anyway: whole after a
/// crash of the process, and quick.
pub fn write_volatile(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace(path, contents, Durability::Process)
}

/// What a file is to survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Durability {
    Process,
    Reboot,
}

fn replace(path: &Path, contents: &[u8], durability: Durability) -> Result<(), FileError> {
    let (directory, temporary) = beside(path)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&temporary)
        .map_err(FileError::at("create", &temporary))?;
    let written = file
        .write_all(contents)
        .and_then(|()| match durability {
            Durability::Reboot => file.sync_all(),
            Durability::Process => Ok(()),
        })
        .map_err(FileError::at("write", &temporary))
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(FileError::at("rename a new file to", path))
        });
    if written.is_err() {
        // The old file stays the last good one; only the leftover is in the way.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match durability {
        Durability::Reboot => sync_directory(directory),
        Durability::Process => Ok(()),
    }
}

/// Removes a file, if there is one.
pub fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::at("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Reads a whole file of at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::at("open", path))?;
    let mut contents = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut contents)
        .map_err(FileError::at("read", path))?;
    if contents.len() as u64 > limit {
        let error = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        );
        return Err(FileError::at("read", path)(error));
    }
    Ok(contents)
}

/// Makes a directory, 0700, with its parents.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::at("create directory", path))
}

fn beside(path: &Path) -> Result<(&Path, PathBuf), FileError> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file");
        return Err(FileError::at("write", path)(error));
    };
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok((directory, directory.join(temporary)))
}

fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::at("sync directory", directory))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        write_atomic(&path, b"one").unwrap();
        // A directory where the new file would be written makes it fail.
        fs::create_dir(directory.path().join(".state.json.new")).unwrap();
        let error = write_atomic(&path, b"two").unwrap_err();
        assert!(error.to_string().contains("cannot create"));
        assert_eq!(read_bounded(&path, 10).unwrap(), b"one");
    }

    #[test]
    fn reads_no_more_than_allowed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        write_atomic(&path, &[b'x'; 11]).unwrap();
        assert!(read_bounded(&path, 10).is_err());
        assert!(
            read_bounded(&directory.path().join("none"), 10)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        write_atomic(&path, b"one").unwrap();
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
