//! What a node holds: of its agent, of the machine, and on disk.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Lab, observe::Snapshot};

/// All of it at one time, by what it is: how many, and which.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Footprint {
    parts: BTreeMap<&'static str, Vec<String>>,
    /// Memory of the agent's process, in KiB. It is no part of a comparison.
    pub memory: u64,
}

impl Lab {
    /// What the node holds now.
    pub fn footprint(&self, node: &str) -> Footprint {
        let agent = self.agent(node).process.as_ref().expect("the agent runs");
        let process = PathBuf::from(format!("/proc/{}", agent.pid()));
        let node = self.node(node);
        let mut parts = BTreeMap::new();
        parts.insert("descriptors of the agent", descriptors(&process.join("fd")));
        parts.insert("threads of the agent", threads(&process.join("task")));
        let namespaces = names(Path::new("/run/netns"));
        let of_the_lab = |name: &String| name.starts_with(&self.id);
        parts.insert(
            "network namespaces",
            namespaces.into_iter().filter(of_the_lab).collect(),
        );
        parts.insert("files in the run directory", tree(&node.run_dir()));
        parts.insert("files in the state directory", tree(&node.state_dir()));
        let proxy = self.pods.get(&Self::proxy_name(&node.name));
        let seen = Snapshot::configuration(&node.netns);
        let proxy = proxy.map(|pod| Snapshot::configuration(&pod.netns));
        for (part, sections) in [
            ("links and addresses", &["links", "addresses"][..]),
            ("rules", &["rules4", "rules6"]),
            ("routes", &["routes4", "routes6", "neighbours", "qdiscs"]),
            ("lines of nftables", &["nft"]),
        ] {
            let of = |seen: &Snapshot| -> Vec<String> {
                let text = sections.iter().map(|section| seen.section(section));
                text.flat_map(str::lines).map(str::to_owned).collect()
            };
            let mut lines = of(&seen);
            lines.extend(proxy.iter().flat_map(of));
            parts.insert(part, lines);
        }
        Footprint {
            parts,
            memory: memory(&process),
        }
    }
}

impl Footprint {
    /// What there is, and how many of it.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.parts.iter().map(|(what, all)| (*what, all.len()))
    }

    /// What only one of the two has.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (what, before) in &self.parts {
            let after = &later.parts[what];
            let missing = |all: &[String], from: &[String], sign: char| -> Vec<String> {
                let only = all.iter().filter(|one| !from.contains(one));
                only.map(|one| format!("{what}: {sign}{one}")).collect()
            };
            found.extend(missing(before, after, '-'));
            found.extend(missing(after, before, '+'));
            if before.len() != after.len() {
                found.push(format!("{what}: {}, then {}", before.len(), after.len()));
            }
        }
        found
    }
}

/// What the agent's descriptors are: of a file its path, of the rest the kind.
fn descriptors(directory: &Path) -> Vec<String> {
    let link = |name: String| fs::read_link(directory.join(name)).ok();
    let kind = |path: PathBuf| {
        let text = path.display().to_string();
        match text.split_once(":[") {
            Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
            _ => text,
        }
    };
    let mut all: Vec<String> = names(directory)
        .into_iter()
        .filter_map(link)
        .map(kind)
        .collect();
    all.sort();
    all
}

fn threads(directory: &Path) -> Vec<String> {
    let name = |id: String| fs::read_to_string(directory.join(id).join("comm")).ok();
    let mut all: Vec<String> = names(directory).into_iter().filter_map(name).collect();
    all.sort();
    all
}

/// Every file below a directory, by its path.
fn tree(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for name in names(directory) {
        let path = directory.join(name);
        all.push(path.display().to_string());
        if path.is_dir() {
            all.extend(tree(&path));
        }
    }
    all
}

/// The names in a directory, in order; none if it is gone.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

fn memory(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).expect("the agent's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("VmRSS in /proc/PID/status")
}
