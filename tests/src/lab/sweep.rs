//! Removes what a killed test run has left.

use std::{env, fs, path::Path, sync::Once};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    command::{self, Bounded as _},
    disk, wait,
};

const DIRECTORY: &str = "sluice-lab-";

static ONCE: Once = Once::new();

/// Deletes namespaces, control groups and directories of labs whose test process
/// is gone, after ending the processes inside.
pub fn once() {
    ONCE.call_once(|| sweep(is_abandoned));
}

/// The same for one lab, whoever made it.
pub fn remove(id: &str) {
    sweep(|name| name.split_once('-').is_some_and(|(lab, _)| lab == id));
}

/// `is_meant` is asked about names that begin with a lab's id and a dash.
fn sweep(is_meant: impl Fn(&str) -> bool) {
    for name in names(Path::new("/run/netns")) {
        if is_meant(&name) {
            remove_netns(&name);
        }
    }
    crate::cluster::cgroup::remove(&is_meant);
    let directories = env::temp_dir();
    for name in names(&directories) {
        if name.strip_prefix(DIRECTORY).is_some_and(&is_meant) {
            let directory = directories.join(&name);
            disk::unmount_below(&directory);
            // Somebody else may be sweeping, too.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

/// How the directory of the lab `id` begins.
pub fn directory_prefix(id: &str) -> String {
    format!("{DIRECTORY}{id}-")
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn is_abandoned(name: &str) -> bool {
    owner(name).is_some_and(|pid| !is_alive(pid))
}

/// A process that has ended may still be listed until somebody asks how; it has
/// no command line any more.
fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The test process that made the namespace `sl<pid>x<number>-<name>`.
fn owner(name: &str) -> Option<u32> {
    let (lab, _) = name.split_once('-')?;
    let (pid, number) = lab.strip_prefix("sl")?.split_once('x')?;
    u32::from_str_radix(number, 16).ok()?;
    u32::from_str_radix(pid, 16).ok()
}

fn remove_netns(name: &str) {
    for pid in pids(name) {
        // Gone already is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // A cluster's node takes all its pods with it; then its files can go.
    wait::until(wait::LONG, || pids(name).is_empty());
    command::bounded("ip")
        .args(["netns", "del", name])
        .run_quietly();
}

/// The processes in a namespace.
fn pids(name: &str) -> Vec<i32> {
    let output = command::bounded("ip")
        .args(["netns", "pids", name])
        .run_quietly();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|pid| pid.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_labs_have_an_owner() {
        assert_eq!(owner("sl1fx0-na"), Some(0x1f));
        assert_eq!(owner("sluice"), None);
        assert_eq!(owner("sl1fx0"), None);
        assert_eq!(owner("slna"), None);
        assert_eq!(owner("cni-1234"), None);
    }

    #[test]
    fn a_process_is_alive_until_it_has_ended() {
        assert!(is_alive(std::process::id()));
        assert!(!is_alive(u32::MAX));
    }
}
