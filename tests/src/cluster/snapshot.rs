//! A node as it is: everything configurable in its network namespace and the files
//! that others than its pods may have written, in a form that compares.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lab::observe;

use super::Node;

/// Lines by section, sorted: kube-proxy writes its rules in an order that changes.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, Vec<String>>);

/// Trees of the node that are looked at as a whole.
const TREES: [&str; 2] = ["etc", "opt"];
/// Left behind by kubelet, which makes them for the agent; they must be empty.
const HOST_PATHS: [&str; 3] = ["/run/sluice", "/var/lib/sluice", "/etc/ambient-config"];

impl Node {
    pub fn snapshot(&self) -> Snapshot {
        let mut sections = BTreeMap::new();
        let configuration = observe::Snapshot::configuration(&self.netns).without_indexes();
        // The packet filter is looked at in JSON, which says what belongs where.
        for (name, text) in configuration.sections().filter(|(name, _)| *name != "nft") {
            sections.insert(name.to_owned(), text.lines().map(str::to_owned).collect());
        }
        let nft = self.netns.run("nft", &["-j", "list", "ruleset"]);
        sections.insert("nft".into(), packet_filter(&nft));
        let mut files = Vec::new();
        for tree in TREES {
            walk(&self.changes(tree), &format!("/{tree}"), &mut files);
        }
        // Of these only the names: what is in them is kubelet's and containerd's.
        files.extend(names(&self.path("/run"), "/run"));
        files.extend(names(&self.changes("var").join("lib"), "/var/lib"));
        // The primary network's own, made for the first pod.
        files.retain(|line| line != "/var/lib/cni ");
        for path in HOST_PATHS {
            files.retain(|line| !line.starts_with(&format!("{path} ")));
            files.extend(names(&self.path(path), path));
        }
        sections.insert("files".into(), files);
        for lines in sections.values_mut() {
            lines.sort_unstable();
        }
        Snapshot(sections)
    }
}

impl Snapshot {
    /// Lines that only one of the two has, `section: -line` and `section: +line`.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for name in self
            .0
            .keys()
            .chain(later.0.keys())
            .collect::<std::collections::BTreeSet<_>>()
        {
            let (before, after) = (self.counts(name), later.counts(name));
            for (sign, these, those) in [('-', &before, &after), ('+', &after, &before)] {
                let more =
                    |(line, count): &(&&str, &usize)| those.get(**line).unwrap_or(&0) < count;
                let lines = these.iter().filter(more);
                found.extend(lines.map(|(line, _)| format!("{name}: {sign}{line}")));
            }
        }
        found
    }

    fn counts(&self, section: &str) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for line in self.0.get(section).into_iter().flatten() {
            *counts.entry(line.as_str()).or_default() += 1;
        }
        counts
    }
}

/// An object of the packet filter per line, without what counts or numbers it.
fn packet_filter(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).expect("JSON of nft");
    let objects = value["nftables"].as_array().cloned().unwrap_or_default();
    objects
        .into_iter()
        .filter(|object| object.get("metainfo").is_none())
        .map(|mut object| {
            still(&mut object);
            object.to_string()
        })
        .collect()
}

fn still(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for moving in ["handle", "packets", "bytes", "expires"] {
                fields.remove(moving);
            }
            fields.values_mut().for_each(still);
            if let Some(Value::Array(elements)) = fields.get_mut("elem") {
                elements.sort_by_key(Value::to_string);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(still),
        _ => {}
    }
}

/// What is in a directory, by name; nothing when it is not there.
fn names(path: &Path, shown: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| format!("{shown}/{} ", entry.file_name().to_string_lossy()))
        .collect()
}

/// A line per file: path, mode, and what is in it.
fn walk(path: &Path, shown: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let (path, shown) = (
            entry.path(),
            format!("{shown}/{}", entry.file_name().to_string_lossy()),
        );
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let content = if meta.is_dir() {
            walk(&path, &shown, found);
            "directory".into()
        } else if meta.is_symlink() {
            let to = fs::read_link(&path).unwrap_or_default();
            hex(to.as_os_str().as_bytes())
        } else if meta.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            hex(digest::digest(&digest::SHA256, &bytes).as_ref())
        } else {
            // An overlay says so that a file of the machine's is gone.
            "special".into()
        };
        found.push(format!("{shown} {:o} {content}", meta.permissions().mode()));
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_handles_and_order_of_elements_do_not_matter() {
        let one = r#"{"nftables": [{"metainfo": {"version": "1"}},
            {"rule": {"chain": "a", "handle": 3, "expr": [{"counter": {"packets": 1, "bytes": 40}}]}},
            {"set": {"name": "s", "handle": 4, "elem": ["b", "a"]}}]}"#;
        let other = r#"{"nftables": [
            {"set": {"name": "s", "handle": 9, "elem": ["a", "b"]}},
            {"rule": {"chain": "a", "handle": 5, "expr": [{"counter": {"packets": 7, "bytes": 90}}]}}]}"#;
        let (mut one, mut other) = (packet_filter(one), packet_filter(other));
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, other);
        let third = packet_filter(r#"{"nftables": [{"rule": {"chain": "b", "handle": 3}}]}"#);
        assert!(!one.contains(&third[0]));
    }

    #[test]
    fn a_line_that_is_there_twice_is_missed_when_one_goes() {
        let snapshot = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Snapshot([("rules".to_owned(), lines)].into())
        };
        let (two, one) = (snapshot(&["a", "a"]), snapshot(&["a"]));
        assert_eq!(two.differences(&one), ["rules: -a"]);
        assert_eq!(one.differences(&two), ["rules: +a"]);
        assert!(one.differences(&one).is_empty());
    }
}
