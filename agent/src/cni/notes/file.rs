//! The file of notes, which the shim appends to under a lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::files::FileError;

/// The shim stops at 1 MiB and says so; more was written by somebody else.
const MAX_FILE: u64 = (1 << 20) + 4096;

/// What was added to the file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) contents: Vec<u8>,
    /// Where the next one begins.
    pub(super) end: u64,
    /// There was more than is read.
    pub(super) cut: bool,
}

/// Whether it is worth a look. What is no file is: that is reported.
pub(super) fn may_have_notes(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(found) => !found.is_file() || found.len() > 0,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// What comes after `from`. None when there is nothing more; the file is then
/// emptied, under the same lock, so that no line can have been added meanwhile.
pub(super) fn next(path: &Path, from: u64, patience: Duration) -> Result<Option<Chunk>, FileError> {
    // Not to be held up by a pipe, nor led elsewhere by a link.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at("open", path)(error)),
    };
    let read = || FileError::at("read", path);
    if !file.metadata().map_err(read())?.is_file() {
        let why = "not an ordinary file (links are not followed)";
        let error = io::Error::new(io::ErrorKind::InvalidInput, why);
        return Err(FileError::at("use", path)(error));
    }
    let mut file = lock(file, patience).map_err(FileError::at("lock", path))?;
    let length = file.metadata().map_err(read())?.len();
    if length <= from {
        let empty = || file.set_len(0).and_then(|()| file.sync_all());
        if length > 0 {
            empty().map_err(FileError::at("truncate", path))?;
        }
        return Ok(None);
    }
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| (&mut *file).take(MAX_FILE).read_to_end(&mut contents))
        .map_err(read())?;
    Ok(Some(Chunk {
        contents,
        end: length,
        cut: length - from > MAX_FILE,
    }))
}

fn lock(mut file: File, patience: Duration) -> io::Result<Flock<File>> {
    let started = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK)) if started.elapsed() < patience => file = back,
            Err((_, Errno::EWOULDBLOCK)) => {
                let why = format!("another process has had it locked for {patience:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err((_, error)) => return Err(error.into()),
        }
        thread::sleep(Duration::from_millis(5));
    }
}
