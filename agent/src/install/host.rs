//! The node's files, where its root is mounted.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

/// The node's root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host(PathBuf);

impl Host {
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// Where a path of the node is, with every link in it followed as the node
    /// itself would: a link of the node never leads out of its root.
    pub fn find(&self, path: &Path) -> io::Result<PathBuf> {
        let plain = path.strip_prefix("/").unwrap_or(path);
        let plain = if plain.as_os_str().is_empty() {
            Path::new(".")
        } else {
            plain
        };
        let root = File::open(&self.0)?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        match openat2(&root, plain, how) {
            Ok(found) => std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())),
            // Before Linux 5.6. Only there do links of the node lead where they say.
            Err(Errno::ENOSYS) if self.0 == Path::new("/") => path.canonicalize(),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a path of ours leads to on the node.
    pub fn follow(&self, ours: &Path) -> io::Result<PathBuf> {
        match ours.strip_prefix(&self.0) {
            Ok(inside) => self.find(inside),
            // Not below the node's root: nothing says what its links mean.
            Err(_) => ours.canonicalize(),
        }
    }

    /// A path of the node, as it is written, from here.
    pub fn at(&self, path: &Path) -> PathBuf {
        if self.0 == Path::new("/") {
            return path.to_owned();
        }
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.find(path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_of_the_node_lead_where_they_lead_on_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("opt/cni/bin")).unwrap();
        symlink("/opt/cni", root.join("absolute")).unwrap();
        symlink("../../../opt", root.join("upwards")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let host = Host::new(&root);
        for path in ["/absolute/bin", "/upwards/cni/bin", "opt/cni/bin"] {
            let found = host.find(Path::new(path)).unwrap();
            assert_eq!(found, root.join("opt/cni/bin"), "{path}");
        }
        assert_eq!(
            host.follow(&root.join("absolute")).unwrap(),
            root.join("opt/cni")
        );
        assert_eq!(host.at(Path::new("/a/b")), root.join("a/b"));
        let error = host.find(Path::new("/loop")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
        assert!(!host.exists(Path::new("/etc/passwd")));
        assert!(Host::new(Path::new("/")).exists(Path::new("/etc")));
    }
}
