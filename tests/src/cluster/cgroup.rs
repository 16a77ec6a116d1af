//! Control groups of nodes: each node's pods are below one of its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = "/sys/fs/cgroup";
/// Where containerd puts a container when kubelet names no group for it.
const CONTAINERS: &str = "k8s.io";

/// What all containers together weigh against a process of the machine's own.
const WEIGHT: u32 = 8192;

/// kubelets that name no groups have all containers of the machine in one, and it
/// would get as much of busy processors as one process: servers among them would be
/// silent for seconds.
pub fn weigh_containers() {
    for (hierarchy, file) in [("cpu", "cpu.shares"), ("", "cpu.weight")] {
        let root = Path::new(ROOT).join(hierarchy);
        // A machine has one hierarchy or the other.
        if !root.join("cgroup.procs").exists() {
            continue;
        }
        let file = root.join(CONTAINERS).join(file);
        if fs::create_dir_all(root.join(CONTAINERS)).is_ok() && file.exists() {
            fs::write(&file, WEIGHT.to_string())
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        }
    }
}

/// Removes, in every hierarchy, the groups whose name says so. Their processes
/// have ended.
pub fn remove(is_meant: impl Fn(&str) -> bool) {
    remove_in("", is_meant);
}

/// The same for the groups of containers. Their ids are looked for below a folder
/// of containerd's, `/var/lib/containerd` or the like.
pub fn remove_containers(containerd: &Path) {
    let cri = containerd.join("io.containerd.grpc.v1.cri");
    let ids: BTreeSet<String> = ["containers", "sandboxes"]
        .iter()
        .flat_map(|kind| directories(&cri.join(kind)))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    remove_in(CONTAINERS, |name| ids.contains(name));
}

fn remove_in(parent: &str, is_meant: impl Fn(&str) -> bool) {
    let root = Path::new(ROOT);
    let mut hierarchies = directories(root);
    hierarchies.push(root.into());
    let parents = hierarchies.iter().map(|path| path.join(parent));
    for group in parents.flat_map(|path| directories(&path)) {
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        if is_meant(&name) {
            remove_tree(&group);
        }
    }
}

/// A group can be removed when it has none below it; its files go by themselves.
fn remove_tree(group: &Path) {
    for below in directories(group) {
        remove_tree(&below);
    }
    // Whoever else sweeps may have been first.
    let _ = fs::remove_dir(group);
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
