//! Taking the path of a socket without taking it from anybody.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
    unistd::geteuid,
};
use tokio::net::UnixListener;

/// Why nothing can listen there.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `what` is what was being done.
    #[error("cannot {what} {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A directory of another user: whoever owns it can replace the socket.
    #[error(
        "{} belongs to uid {owner}, and the socket must be in a directory of uid {us}; \
         remove it or name another",
        path.display()
    )]
    Owner { path: PathBuf, owner: u32, us: u32 },
    /// A directory that others can enter and that holds other things: closing
    /// it might take something away from them.
    #[error(
        "{} is open to other users (mode {mode:04o}) and not empty; \
         make it 0700 or name a directory of its own",
        path.display()
    )]
    Shared { path: PathBuf, mode: u32 },
    /// Something else is there.
    #[error("{} exists and is not a socket; remove it or name another path", path.display())]
    NotASocket { path: PathBuf },
    /// Another process serves there.
    #[error(
        "somebody is listening on {} already; stop that process or name another path",
        path.display()
    )]
    InUse { path: PathBuf },
    /// Two processes start at once.
    #[error("another process is taking a socket in {}; try again", path.display())]
    Locked { path: PathBuf },
}

/// A listener at `path`, in a directory that is ours alone.
pub(super) fn claim(path: &Path) -> Result<UnixListener, BindError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    own_directory(dir)?;
    let _lock = lock(dir)?;
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(io_error("listen on", path))?;
    // Until here the directory alone keeps others away.
    fs::set_permissions(path, Permissions::from_mode(0o600))
        .map_err(io_error("set the mode of", path))?;
    Ok(listener)
}

fn own_directory(dir: &Path) -> Result<(), BindError> {
    match DirBuilder::new().mode(0o700).recursive(true).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error("make the directory", dir)(error)),
    }
    let found = fs::metadata(dir).map_err(io_error("look at", dir))?;
    let us = geteuid().as_raw();
    if found.uid() != us {
        return Err(BindError::Owner {
            path: dir.to_owned(),
            owner: found.uid(),
            us,
        });
    }
    tighten(dir, &found)
}

/// A kubelet makes host directories 0755, so an empty one is closed. `/tmp` or
/// `/run`, given by mistake, must not be.
fn tighten(dir: &Path, found: &Metadata) -> Result<(), BindError> {
    let mode = found.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let mut entries = fs::read_dir(dir).map_err(io_error("list", dir))?;
    if entries.next().is_some() {
        return Err(BindError::Shared {
            path: dir.to_owned(),
            mode,
        });
    }
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(io_error("set the mode of", dir))
}

/// Two that start at once must not each remove the other's fresh socket.
fn lock(dir: &Path) -> Result<Flock<File>, BindError> {
    let mut file = File::open(dir).map_err(io_error("open", dir))?;
    for _ in 0..50 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(io_error("lock", dir)(errno.into())),
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(BindError::Locked {
        path: dir.to_owned(),
    })
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => {
            return Err(BindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path)(error)),
    }
    if answers(path)? {
        return Err(BindError::InUse {
            path: path.to_owned(),
        });
    }
    fs::remove_file(path).map_err(io_error("remove the stale socket", path))
}

/// Whether anybody listens. Never waits: a live server with a full queue counts.
fn answers(path: &Path) -> Result<bool, BindError> {
    let failed = |errno: Errno| io_error("ask who listens on", path)(errno.into());
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asking = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    let address = UnixAddr::new(path).map_err(failed)?;
    match connect(asking.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::Io { what, path, source }
}
