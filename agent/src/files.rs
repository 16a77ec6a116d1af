//! Files that are whole or not there: written beside, synced, renamed.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

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
    replace(path, contents, 0o600, Durability::Reboot)
}

/// As [`write_atomic`], with this mode, for a file that others use.
pub fn write_shared(path: &Path, contents: &[u8], mode: u32) -> Result<(), FileError> {
    replace(path, contents, mode, Durability::Reboot)
}

/// As [`write_shared`], in the place of a file that somebody else writes too:
/// if it does not have the `expected` contents any more, it stays as it is.
pub fn write_over(
    path: &Path,
    expected: &[u8],
    contents: &[u8],
    mode: u32,
) -> Result<(), FileError> {
    let (directory, temporary) = prepare(path, contents, mode, Durability::Reboot)?;
    let exchange = || {
        renameat2(
            AT_FDCWD,
            &temporary,
            AT_FDCWD,
            path,
            RenameFlags::RENAME_EXCHANGE,
        )
    };
    let exchanged = exchange().map_err(io::Error::from).and_then(|()| {
        let limit = expected.len() as u64;
        match read_ordinary(&temporary, limit) {
            Ok((was, _)) if was == expected => Ok(()),
            _ => {
                exchange()?;
                Err(io::Error::other("somebody has just changed it"))
            }
        }
    });
    let _ = fs::remove_file(&temporary);
    exchanged.map_err(FileError::at("replace", path))?;
    sync_directory(directory)
}

/// As [`write_atomic`], for a file that a reboot voids anyway: whole after a
/// crash of the process, and quick.
pub fn write_volatile(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace(path, contents, 0o600, Durability::Process)
}

/// What a file is to survive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Durability {
    Process,
    Reboot,
}

fn replace(
    path: &Path,
    contents: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), FileError> {
    let (directory, temporary) = prepare(path, contents, mode, durability)?;
    if let Err(error) = fs::rename(&temporary, path) {
        // The old file stays the last good one; only the leftover is in the way.
        let _ = fs::remove_file(&temporary);
        return Err(FileError::at("rename a new file to", path)(error));
    }
    match durability {
        Durability::Reboot => sync_directory(directory),
        Durability::Process => Ok(()),
    }
}

/// Writes what a file is to become beside it.
fn prepare<'a>(
    path: &'a Path,
    contents: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(&'a Path, PathBuf), FileError> {
    let (directory, temporary) = beside(path)?;
    let mut file = create(&temporary, mode).map_err(FileError::at("create", &temporary))?;
    let written = file
        .write_all(contents)
        // Whatever the umask is.
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| match durability {
            Durability::Reboot => file.sync_all(),
            Durability::Process => Ok(()),
        });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(FileError::at("write", &temporary)(error));
    }
    Ok((directory, temporary))
}

/// A file that was not there. What is in the way was left by a crash, or put
/// there by somebody, and is never opened.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Gives a file another name in the same directory, for good.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::at("rename", from))?;
    to.parent().map_or(Ok(()), sync_directory)
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
    bounded(file, limit).map_err(FileError::at("read", path))
}

fn bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.take(limit + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > limit {
        let why = format!("larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(contents)
}

/// Reads an ordinary file of at most `limit` bytes, in a directory that others
/// write to: never follows a link, and never waits for a pipe or a device.
pub fn read_ordinary(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), FileError> {
    let at = || FileError::at("read", path);
    let ordinary = |metadata: Metadata| {
        if metadata.is_file() {
            return Ok(metadata);
        }
        let why = "not an ordinary file (links are not followed)";
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    };
    // Some devices do something when they are opened.
    fs::symlink_metadata(path)
        .and_then(ordinary)
        .map_err(at())?;
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(flags).open(path);
    let file = file.map_err(at())?;
    let metadata = file.metadata().and_then(ordinary).map_err(at())?;
    let contents = bounded(file, limit).map_err(at())?;
    Ok((contents, metadata))
}

/// Makes a directory, 0700, with its parents.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::at("create directory", path))
}

/// Where the new contents of a file are written first.
pub fn temporary(path: &Path) -> Option<PathBuf> {
    beside(path).ok().map(|(_, temporary)| temporary)
}

/// Whether a file has a name as [`temporary`] gives them.
pub fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".new")
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

/// What was done in a directory survives a power cut.
pub fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::at("sync directory", directory))
}

#[cfg(test)]
mod tests {
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
    fn what_somebody_else_has_just_written_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("10-ptp.conflist");
        fs::write(&path, "one").unwrap();
        write_over(&path, b"one", b"two", 0o640).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        for theirs in ["", "theirs", "one and more"] {
            fs::write(&path, theirs).unwrap();
            let error = write_over(&path, b"two", b"three", 0o640).unwrap_err();
            assert!(
                error.source.to_string().contains("just changed"),
                "{error:?}"
            );
            assert_eq!(fs::read(&path).unwrap(), theirs.as_bytes());
        }
        fs::remove_file(&path).unwrap();
        write_over(&path, b"two", b"three", 0o640).unwrap_err();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
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
    fn what_is_no_ordinary_file_is_neither_read_nor_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (pipe, link, folder) = (path("pipe"), path("link"), path("folder"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        fs::create_dir(&folder).unwrap();
        for odd in [&pipe, &link, &folder, &PathBuf::from("/dev/zero")] {
            let error = read_ordinary(odd, 10).unwrap_err();
            assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput, "{odd:?}");
        }
        // In the way of the new file.
        let (plain, victim) = (path("plain"), path("victim"));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, temporary(&plain).unwrap()).unwrap();
        write_shared(&plain, b"new", 0o755).unwrap();
        let (contents, metadata) = read_ordinary(&plain, 10).unwrap();
        assert_eq!(contents, b"new");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
        nix::unistd::mkfifo(&temporary(&plain).unwrap(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        write_shared(&plain, b"newer", 0o600).unwrap();
        assert_eq!(read_ordinary(&plain, 10).unwrap().0, b"newer");
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
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
