//! The shim in the directory of CNI plugins.

use std::{
    fs::{self, Metadata},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::files::{self, FileError};

/// Largest shim; it has some megabytes.
const LARGEST: u64 = 64 << 20;
const MODE: u32 = 0o755;

/// A program that is to be the same as another.
#[derive(Debug)]
pub struct Binary {
    from: PathBuf,
    to: PathBuf,
    /// Both, when they were last found to be the same.
    same: Option<(Seen, Seen)>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// What is in the place of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    Same,
    Another,
    Nothing,
}

impl Seen {
    fn of(path: &Path) -> Result<Self, FileError> {
        let metadata = fs::symlink_metadata(path).map_err(FileError::at("look at", path))?;
        Ok(Self::from(&metadata))
    }
}

impl From<&Metadata> for Seen {
    fn from(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Binary {
    pub fn new(from: &Path, to: PathBuf) -> Self {
        Self {
            from: from.to_owned(),
            to,
            same: None,
        }
    }

    /// Whether it is there and the same.
    pub fn look(&mut self) -> Result<Found, FileError> {
        // The image's own file is read through links, as it would be run.
        let source = fs::metadata(&self.from).map_err(FileError::at("look at", &self.from))?;
        let source = Seen::from(&source);
        let there = match Seen::of(&self.to) {
            Ok(there) => there,
            Err(error) if error.is_not_found() => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        if self.same == Some((source, there)) {
            return Ok(Found::Same);
        }
        self.same = None;
        let wanted = files::read_bounded(&self.from, LARGEST)?;
        let Ok((found, metadata)) = files::read_ordinary(&self.to, LARGEST) else {
            return Ok(Found::Another);
        };
        if found != wanted || metadata.permissions().mode() & 0o7777 != MODE {
            return Ok(Found::Another);
        }
        self.same = Some((source, there));
        Ok(Found::Same)
    }

    /// Puts it there. Whoever runs the old one goes on doing so.
    pub fn put(&mut self) -> Result<(), FileError> {
        let program = files::read_bounded(&self.from, LARGEST)?;
        files::write_shared(&self.to, &program, MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_looked_at_and_put_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("image"), dir.path().join("sluice-cni"));
        fs::write(&from, "one").unwrap();
        let mut binary = Binary::new(&from, to.clone());
        assert_eq!(binary.look().unwrap(), Found::Nothing);
        binary.put().unwrap();
        assert_eq!(binary.look().unwrap(), Found::Same);
        assert_eq!(binary.look().unwrap(), Found::Same);
        fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(binary.look().unwrap(), Found::Another);
        binary.put().unwrap();
        assert_eq!(binary.look().unwrap(), Found::Same);
        // The same size, and another program.
        fs::write(&from, "two").unwrap();
        assert_eq!(binary.look().unwrap(), Found::Another);
        binary.put().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"two");
        // Somebody put a link in its place: replaced, and what it leads to kept.
        fs::remove_file(&to).unwrap();
        std::os::unix::fs::symlink(&from, &to).unwrap();
        assert_eq!(binary.look().unwrap(), Found::Another);
        binary.put().unwrap();
        assert!(fs::symlink_metadata(&to).unwrap().is_file());
        assert!(from.exists());
    }
}
