//! Sysctls of our own links, by the files that are theirs.
//!
//! An open file stays the sysctl it was opened as, wherever it is read; only
//! opening has to be done inside the namespace.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use crate::state::Family;

const PROC: &str = "/proc";

/// A sysctl of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sysctl {
    pub(crate) family: Family,
    pub(crate) link: String,
    pub(crate) key: &'static str,
}

impl Sysctl {
    fn path(&self) -> PathBuf {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        Path::new(PROC)
            .join("sys/net")
            .join(family)
            .join("conf")
            .join(&self.link)
            .join(self.key)
    }

    /// Its value in the calling thread's namespace; `None` if there is no such
    /// sysctl.
    pub(crate) fn read(&self) -> io::Result<Option<String>> {
        read(&self.path())
    }

    /// Sets it in the calling thread's namespace.
    pub(crate) fn write(&self, value: &str) -> io::Result<()> {
        let path = self.path();
        match fs::write(&path, value) {
            // A container's own is, unless it is privileged.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                write_by_own_proc(&path, value).map_err(|_| error)
            }
            done => done,
        }
    }
}

// A /proc that is mounted nowhere and seen by nobody else; what is written there
// is the calling thread's namespace's, as in any other.
fn write_by_own_proc(path: &Path, value: &str) -> io::Result<()> {
    static PROC_OF_OURS: OnceLock<rustix::io::Result<OwnedFd>> = OnceLock::new();
    let proc = PROC_OF_OURS.get_or_init(|| {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    });
    let proc = proc.as_ref().map_err(|error| io::Error::from(*error))?;
    let path = path.strip_prefix(PROC).map_err(io::Error::other)?;
    let file = openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

/// A sysctl file's text in the calling thread's namespace; `None` if there is
/// no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().into())),
        // EINVAL: the link has no state of that family.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether IPv6 can be used in the calling thread's namespace.
pub(crate) fn ipv6_usable() -> bool {
    let disabled = read("/proc/sys/net/ipv6/conf/all/disable_ipv6".as_ref());
    matches!(disabled, Ok(Some(value)) if value == "0")
}

/// Sysctls that are looked at again and again, because nobody announces a
/// change of one.
#[derive(Debug, Default)]
pub(crate) struct Watched(Vec<(File, String)>);

impl Watched {
    /// Opens them in the calling thread's namespace, with what they should be.
    pub(crate) fn open(sysctls: &[(Sysctl, String)]) -> io::Result<Self> {
        let files = sysctls
            .iter()
            .map(|(sysctl, value)| Ok((File::open(sysctl.path())?, value.clone())));
        Ok(Self(files.collect::<io::Result<_>>()?))
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether all are still there and as they should be.
    pub(crate) fn hold(&self) -> bool {
        let mut buffer = [0; 32];
        self.0.iter().all(|(file, value)| {
            file.read_at(&mut buffer, 0)
                .is_ok_and(|length| buffer[..length].trim_ascii() == value.as_bytes())
        })
    }
}
