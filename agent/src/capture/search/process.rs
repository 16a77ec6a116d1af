//! Processes of a pod, oldest first: the one that holds its namespaces, or else
//! the first of its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::cgroup;
use crate::files;

/// Most processes that are looked at: more than a node can run.
const MOST: usize = 200_000;
/// Largest `cgroup` or `stat` of a process.
const LARGEST: u64 = 64 * 1024;

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Process {
    /// Its folder in `/proc`.
    pub(super) path: PathBuf,
    /// In clock ticks since boot.
    started: u64,
}

/// The processes of the pod with one of these uids. Those that end meanwhile
/// are left out.
pub(super) fn of_pod(proc_dir: &Path, uids: &[&str]) -> Result<Vec<Process>, std::io::Error> {
    let mut processes = Vec::new();
    for entry in fs::read_dir(proc_dir)?.take(MOST).flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path();
        let Some(cgroup) = read(&path, "cgroup") else {
            continue;
        };
        if cgroup::is_of(&cgroup, uids) {
            let started = read(&path, "stat").and_then(|stat| started(&stat));
            processes.extend(started.map(|started| Process { path, started }));
        }
    }
    processes.sort_by(|a, b| (a.started, &a.path).cmp(&(b.started, &b.path)));
    Ok(processes)
}

fn read(process: &Path, file: &str) -> Option<String> {
    let contents = files::read_bounded(&process.join(file), LARGEST).ok()?;
    Some(String::from_utf8_lossy(&contents).into_owned())
}

/// The 22nd field. The second is a name in parentheses, with anything in it.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f3a5b12-9c1d-4e77-8a01-1234567890ab";

    fn process(proc_dir: &Path, pid: &str, cgroup: &str, started: &str) {
        let path = proc_dir.join(pid);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cgroup"), cgroup).unwrap();
        let stat = format!("{pid} (a) b) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0");
        fs::write(path.join("stat"), stat).unwrap();
    }

    #[test]
    fn the_oldest_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!("0::/kubepods/pod{UID}/c1\n");
        process(dir.path(), "900", &ours, "50");
        process(dir.path(), "12", &ours, "700");
        process(dir.path(), "13", "0::/init.scope\n", "1");
        process(dir.path(), "14", &ours, "nonsense");
        process(dir.path(), "self", &ours, "1");
        fs::create_dir(dir.path().join("15")).unwrap();
        let found = of_pod(dir.path(), &[UID]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|one| one.path.file_name().unwrap())
            .collect();
        assert_eq!(names, ["900", "12"]);
        assert!(of_pod(&dir.path().join("missing"), &[UID]).is_err());
    }

    #[test]
    fn start_times_are_read_past_any_name() {
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(started(&own).unwrap() > 0);
        assert_eq!(started(""), None);
        assert_eq!(started("1 (x) S 1"), None);
    }
}
