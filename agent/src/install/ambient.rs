//! `config.json`, as early ambient kept it for tools that read it: whether a
//! proxy of the node can take traffic, and how it is redirected. Nothing of ours
//! reads it.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use super::keeper::{Goal, Keep, Looked};
use crate::{
    error::chain,
    files::{self, FileError},
    status::{FileState, NodeStatus},
};

/// Others than root read it.
const MODE: u32 = 0o644;
const LARGEST: u64 = 64 * 1024;
const AGAIN: Duration = Duration::from_secs(5);

/// The file.
#[derive(Debug)]
pub struct Ambient {
    directory: PathBuf,
    status: watch::Receiver<Arc<NodeStatus>>,
}

impl Ambient {
    pub fn new(directory: &Path, status: watch::Receiver<Arc<NodeStatus>>) -> Self {
        Self {
            directory: directory.to_owned(),
            status,
        }
    }

    fn state(&self, done: &Result<bool, FileError>) -> Looked {
        let path = path(&self.directory);
        let (current, message) = match done {
            Ok(current) => (*current, String::new()),
            Err(error) => (false, chain(error)),
        };
        Looked {
            state: FileState {
                present: path.symlink_metadata().is_ok(),
                path: path.display().to_string(),
                current,
                message,
                source: "--ambient-config-dir".into(),
            },
            again: done.is_err().then_some(AGAIN),
        }
    }
}

impl Keep for Ambient {
    fn look(&mut self, goal: Goal) -> Looked {
        let done = match goal {
            Goal::Wait => Ok(false),
            Goal::Install => {
                let ready = self.status.borrow().proxy.ready;
                write(&self.directory, ready).map(|()| true)
            }
            Goal::Leave => remove(&self.directory).map(|_| false),
        };
        self.state(&done)
    }

    fn directories(&self) -> Vec<PathBuf> {
        vec![self.directory.clone()]
    }
}

/// Writes the file, if it is not so already.
fn write(directory: &Path, ready: bool) -> Result<(), FileError> {
    let path = path(directory);
    let wanted = text(ready);
    let there = files::read_ordinary(&path, LARGEST);
    let same = there.is_ok_and(|(contents, metadata)| {
        contents == wanted.as_bytes() && metadata.permissions().mode() & 0o7777 == MODE
    });
    if same {
        return Ok(());
    }
    tracing::info!(path = %path.display(), ready, "written");
    files::write_shared(&path, wanted.as_bytes(), MODE)
}

/// Removes it; true if it was there.
pub fn remove(directory: &Path) -> Result<bool, FileError> {
    let path = path(directory);
    let there = path.symlink_metadata().is_ok();
    files::remove(&path)?;
    if let Some(temporary) = files::temporary(&path) {
        files::remove(&temporary)?;
    }
    Ok(there)
}

/// Where it is.
pub fn path(directory: &Path) -> PathBuf {
    directory.join("config.json")
}

fn text(ready: bool) -> String {
    format!(r#"{{"ztunnelReady":{ready},"redirectMode":"iptables"}}"#)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn it_is_written_when_it_differs_and_only_then() {
        let dir = tempfile::tempdir().unwrap();
        let file = path(dir.path());
        write(dir.path(), false).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, r#"{"ztunnelReady":false,"redirectMode":"iptables"}"#);
        write(dir.path(), true).unwrap();
        let before = fs::metadata(&file).unwrap();
        assert_eq!(before.mode() & 0o777, 0o644);
        write(dir.path(), true).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().ino(), before.ino());
        fs::write(&file, "{}").unwrap();
        write(dir.path(), true).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, r#"{"ztunnelReady":true,"redirectMode":"iptables"}"#);
        assert!(remove(dir.path()).unwrap());
        assert!(!remove(dir.path()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
