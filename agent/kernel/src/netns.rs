//! Network namespaces: which one a path leads to, and doing something inside.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    libc::{NS_GET_NSTYPE, ioctl},
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};

use crate::model::NetnsId;

/// A path does not lead into a network namespace, or not into the one it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    #[error(
        "cannot open the network namespace {}; is its sandbox gone, or the directory not mounted \
         into the agent's container?",
        path.display()
    )]
    Open { path: PathBuf, source: io::Error },
    #[error(
        "{} is not a network namespace; if the runtime has bound one there, this process does not \
         see its mounts: mount the directory with mountPropagation HostToContainer",
        path.display()
    )]
    NotNetns { path: PathBuf },
    #[error("{} leads to another network namespace than before", path.display())]
    Replaced { path: PathBuf },
    #[error("cannot enter the network namespace {}; CAP_SYS_ADMIN is needed", path.display())]
    Enter { path: PathBuf, source: io::Error },
    #[error("cannot start a thread for the network namespace {}", path.display())]
    Thread { path: PathBuf, source: io::Error },
}

/// An open network namespace. Holding it keeps the namespace alive.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
    id: NetnsId,
}

impl Netns {
    /// Opens whatever namespace the path leads to.
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let failed = |source| NetnsError::Open {
            path: path.into(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let id = NetnsId {
            path: path.into(),
            device: metadata.dev(),
            inode: metadata.ino(),
        };
        let kind = fstatfs(&file).map_err(|errno| failed(errno.into()))?;
        // A path whose mount is gone is an empty ordinary file.
        if kind.filesystem_type() != NSFS_MAGIC {
            return Err(NetnsError::NotNetns { path: path.into() });
        }
        Ok(Self { file, id })
    }

    /// Opens the namespace that was found before, or fails if the path leads
    /// to another one by now.
    pub(crate) fn open_same(id: &NetnsId) -> Result<Self, NetnsError> {
        let netns = Self::open(&id.path)?;
        if netns.id == *id {
            Ok(netns)
        } else {
            Err(NetnsError::Replaced {
                path: id.path.clone(),
            })
        }
    }

    pub(crate) fn id(&self) -> &NetnsId {
        &self.id
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Calls `inside` in this namespace. Sockets it makes stay there; the
    /// thread it runs on does not come back.
    ///
    /// Takes about 0.1 ms. A panic of `inside` goes on in the caller.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that enters a namespace, on a thread that ends there"
    )]
    pub(crate) fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let path = &self.id.path;
        thread::scope(|scope| {
            let thread = thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| inside())
                })
                .map_err(|source| NetnsError::Thread {
                    path: path.clone(),
                    source,
                })?;
            let result = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.map_err(|errno| match errno {
                // The file is a namespace, but of another kind.
                Errno::EINVAL => NetnsError::NotNetns { path: path.clone() },
                errno => NetnsError::Enter {
                    path: path.clone(),
                    source: errno.into(),
                },
            })
        })
    }
}

/// Which network namespace `path` leads to.
pub(crate) fn identify(path: &Path) -> Result<NetnsId, NetnsError> {
    let netns = Netns::open(path)?;
    if is_network(&netns.file) {
        Ok(netns.id)
    } else {
        Err(NetnsError::NotNetns { path: path.into() })
    }
}

/// Whether an open namespace is a network namespace.
pub(crate) fn is_network(namespace: &File) -> bool {
    kind(namespace) == Some(CloneFlags::CLONE_NEWNET)
}

/// Which kind of namespace an open one is.
#[expect(
    unsafe_code,
    reason = "the kernel tells by an ioctl only; entering it would need a thread"
)]
fn kind(namespace: &File) -> Option<CloneFlags> {
    // SAFETY: the descriptor is open, and this request takes no argument.
    let kind = unsafe { ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE) };
    CloneFlags::from_bits(kind)
}

/// Whether `id.path` still leads to the same namespace.
pub(crate) fn alive(id: &NetnsId) -> bool {
    std::fs::metadata(&id.path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (id.device, id.inode))
}

/// Whether a namespace is gone: its path leads nowhere, or to another one than
/// `id`. An error where nobody can tell.
pub(crate) fn gone(path: &Path, id: Option<&NetnsId>) -> Result<bool, NetnsError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(id.is_some_and(|id| (found.dev(), found.ino()) != (id.device, id.inode))),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(true),
            _ => Err(NetnsError::Open {
                path: path.into(),
                source: error,
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_one_and_stays_the_same() {
        let id = identify(Path::new("/proc/self/ns/net")).unwrap();
        assert!(alive(&id));
        assert!(!gone(&id.path, Some(&id)).unwrap());
        assert!(!gone(&id.path, None).unwrap());
        assert!(Netns::open_same(&id).is_ok());
        let other = NetnsId {
            inode: id.inode + 1,
            ..id
        };
        assert!(!alive(&other));
        assert!(gone(&other.path, Some(&other)).unwrap());
        assert!(matches!(
            Netns::open_same(&other),
            Err(NetnsError::Replaced { .. })
        ));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_gone() {
        assert!(gone(Path::new("/nonexistent/netns"), None).unwrap());
        assert!(gone(Path::new("/proc/self/status/netns"), None).unwrap());
        // A loop of links.
        let directory = std::env::temp_dir().join(format!("sluice-gone-{}", std::process::id()));
        std::os::unix::fs::symlink(&directory, &directory).unwrap();
        let looked = gone(&directory, None);
        std::fs::remove_file(&directory).unwrap();
        assert!(matches!(looked, Err(NetnsError::Open { .. })));
    }

    #[test]
    fn other_files_are_refused() {
        let missing = identify(Path::new("/nonexistent/netns"));
        assert!(matches!(missing, Err(NetnsError::Open { .. })));
        let ordinary = identify(Path::new("/proc/self/status"));
        assert!(matches!(ordinary, Err(NetnsError::NotNetns { .. })));
        let uts = identify(Path::new("/proc/self/ns/uts"));
        assert!(matches!(uts, Err(NetnsError::NotNetns { .. })));
    }

    #[test]
    fn a_panic_inside_reaches_the_caller_and_moves_nobody() {
        let netns = Netns::open(Path::new("/proc/self/ns/net")).unwrap();
        let caught = std::panic::catch_unwind(|| netns.run(|| panic!("inside")));
        assert!(caught.is_err());
        assert_eq!(netns.run(|| 7).unwrap(), 7);
    }
}
