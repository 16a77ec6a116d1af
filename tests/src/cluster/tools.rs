//! Where Kubernetes' programs are: `scripts/setup cluster` builds them once.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Everything a cluster starts, to be missed at once and not one by one.
const DEBIAN: [&str; 7] = [
    "/usr/bin/etcd",
    "/usr/bin/containerd",
    "/usr/bin/ctr",
    "/usr/sbin/runc",
    "/usr/lib/cni/ptp",
    "/usr/bin/unshare",
    "/bin/busybox",
];

/// Kubernetes' own programs, helm and cnitool.
pub fn kubernetes(name: &str) -> PathBuf {
    directory().join("kubernetes").join(name)
}

pub fn grpcurl() -> PathBuf {
    directory().join("grpcurl")
}

/// The project's own folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are a folder of the project")
}

/// A command that is not ended by time: it lives as long as the cluster.
#[expect(clippy::disallowed_methods, reason = "the cluster is made of programs")]
pub fn program(path: impl AsRef<Path>) -> Command {
    Command::new(path.as_ref())
}

/// Panics when something is missing that cannot be made here.
pub fn check() {
    let own = [kubernetes("kube-apiserver"), kubernetes("helm")];
    let debian = DEBIAN.iter().map(PathBuf::from);
    let missing: Vec<PathBuf> = own
        .into_iter()
        .chain(debian)
        .filter(|path| !path.is_file())
        .collect();
    assert!(
        missing.is_empty(),
        "a cluster needs {missing:?}: run `scripts/setup cluster`"
    );
    assert!(
        nix::unistd::geteuid().is_root(),
        "a cluster needs root: it makes namespaces and mounts"
    );
}

fn directory() -> PathBuf {
    if let Some(directory) = env::var_os("SLUICE_TOOLS") {
        return directory.into();
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    cache
        .unwrap_or_else(|| home().join(".cache"))
        .join("sluice/tools")
}
