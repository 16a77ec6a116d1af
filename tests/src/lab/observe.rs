//! What a namespace looks like, as the system's own tools tell it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{client::PATIENCE, command, netns::Netns};

/// Everything configurable in a namespace, in a form that compares byte for
/// byte: counters and handles are left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot(BTreeMap<String, String>);

/// A section's name and the command that prints it.
const SECTIONS: [(&str, &str); 15] = [
    ("links", "ip -o link"),
    ("addresses", "ip -o addr"),
    ("routes4", "ip -4 route show table all | sort"),
    ("routes6", "ip -6 route show table all | sort"),
    ("rules4", "ip -4 rule"),
    ("rules6", "ip -6 rule"),
    ("neighbours", "ip neigh show nud permanent | sort"),
    ("qdiscs", "tc qdisc show"),
    ("nft", "nft list ruleset"),
    ("iptables", "iptables-nft-save"),
    ("ip6tables", "ip6tables-nft-save"),
    ("iptables-legacy", "iptables-legacy-save"),
    ("ip6tables-legacy", "ip6tables-legacy-save"),
    ("ipsets", "ipset list -t"),
    ("listeners", "ss -Hlntuw0 | sort"),
];

impl Snapshot {
    pub fn take(netns: &Netns) -> Self {
        Self::of(netns, |_| true)
    }

    /// Without listening sockets, for namespaces where programs of the test
    /// come and go.
    pub fn configuration(netns: &Netns) -> Self {
        Self::of(netns, |section| section != "listeners")
    }

    fn of(netns: &Netns, wanted: impl Fn(&str) -> bool) -> Self {
        let mut script = String::new();
        for (name, command) in SECTIONS.iter().filter(|(name, _)| wanted(name)) {
            // What a tool says on standard error is part of the picture.
            let _ = writeln!(
                script,
                "echo '== {name}'; {command} 2>&1 || echo \"exit $?\""
            );
        }
        let text = netns.run("sh", &["-c", &script]);
        let mut sections: BTreeMap<String, String> = BTreeMap::new();
        let mut name = "";
        for line in text.lines() {
            if let Some(next) = line.strip_prefix("== ") {
                name = next;
                sections.entry(name.into()).or_default();
                continue;
            }
            if let Some(line) = normal(line) {
                let section = sections.entry(name.into()).or_default();
                section.push_str(&line);
                section.push('\n');
            }
        }
        sections.insert("sysctls".into(), netns.enter(sysctls));
        Self(sections)
    }

    /// One section's text.
    pub fn section(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Every section's name and text.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The same without interface indexes and with packet filter tables by
    /// name, for comparing with objects that were made anew.
    pub fn without_indexes(mut self) -> Self {
        if let Some(text) = self.0.get_mut("nft") {
            let mut tables: Vec<&str> = text.split_inclusive("\n}\n").collect();
            tables.sort_unstable();
            *text = tables.concat();
        }
        // Of two with the same priority the newer comes last.
        for name in ["rules4", "rules6"] {
            if let Some(text) = self.0.get_mut(name) {
                let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
                lines.sort_unstable();
                *text = lines.concat();
            }
        }
        // The kernel derives these, and not always again.
        if let Some(text) = self.0.get_mut("routes6") {
            let kept = text.split_inclusive('\n');
            *text = kept.filter(|line| !line.starts_with("anycast")).collect();
        }
        for name in ["links", "addresses", "qdiscs"] {
            if let Some(text) = self.0.get_mut(name) {
                let mut lines: Vec<String> = text.lines().map(without_index).collect();
                lines.sort_unstable();
                *text = lines.concat();
            }
        }
        self
    }

    /// Lines that only one of the two has, as `section: -line` and
    /// `section: +line`; or a note that the same lines are in another order.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, before) in &self.0 {
            let after = later.section(name);
            if before == after {
                continue;
            }
            let known = found.len();
            let missing = |text: &str, from: &str, sign: char| -> Vec<String> {
                text.lines()
                    .filter(|line| !from.lines().any(|other| other == *line))
                    .map(|line| format!("{name}: {sign}{line}"))
                    .collect()
            };
            found.extend(missing(before, after, '-'));
            found.extend(missing(after, before, '+'));
            if found.len() == known {
                found.push(format!("{name}: order or number of the lines"));
            }
        }
        found
    }

    /// Panics with the differences, if there are any.
    #[track_caller]
    pub fn assert_same(&self, later: &Self, what: &str) {
        let differences = self.differences(later);
        assert!(
            differences.is_empty(),
            "{what}:\n{}",
            differences.join("\n")
        );
    }
}

/// A line without what changes by itself; None for comments.
fn normal(line: &str) -> Option<String> {
    // The second is `ip` looking for the names of other people's namespaces
    // while they are being deleted.
    if line.starts_with('#') || line == "Error: Peer netns reference is invalid." {
        return None;
    }
    let mut words = line.split(' ').peekable();
    let mut kept: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        match (word, kept.last()) {
            // nft: `counter packets 12 bytes 720`
            ("packets" | "bytes", _) if line.contains("counter") => {
                words.next();
            }
            // tc and ip: ages of things
            ("expires" | "used" | "age", Some(_)) => {
                words.next();
            }
            // Which name the other end's namespace has, if `ip` finds it.
            ("link-netns" | "link-netnsid", _) => {
                words.next();
            }
            // iptables-save: `:INPUT ACCEPT [12:720]`
            (counters, _) if line.starts_with(':') && counters.starts_with('[') => {}
            (word, _) => kept.push(word),
        }
    }
    Some(kept.join(" ").trim_end().into())
}

/// `7: sl-in@if3: ...` as `sl-in: ...`.
fn without_index(line: &str) -> String {
    let rest = line.split_once(": ").map_or(line, |(_, rest)| rest);
    match (rest.split_once("@if"), rest.split_once(": ")) {
        (Some((name, _)), Some((_, rest))) => format!("{name}: {rest}\n"),
        _ => format!("{rest}\n"),
    }
}

fn sysctls() -> String {
    let mut found = Vec::new();
    walk(Path::new("/proc/sys/net"), &mut found);
    found.sort();
    found.concat()
}

/// Sysctls that count, or that are not the namespace's own.
const MOVING: [&str; 4] = [
    "/nf_conntrack_count",
    "/proc/sys/net/core/",
    "/proc/sys/net/unix/",
    "/stable_secret",
];

fn walk(path: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            walk(&path, found);
            continue;
        }
        let name = path.display().to_string();
        if MOVING.iter().any(|moving| name.contains(moving)) {
            continue;
        }
        // Some can only be written.
        if let Ok(value) = fs::read(&path) {
            let value = String::from_utf8_lossy(&value);
            found.push(format!("{name} = {}\n", value.trim().replace('\n', " ")));
        }
    }
}

/// True when an ICMP echo request is answered.
pub fn ping(netns: &Netns, to: std::net::IpAddr) -> bool {
    let seconds = PATIENCE.as_secs().to_string();
    netns
        .output("ping", &["-n", "-c", "1", "-W", &seconds, &to.to_string()])
        .status
        .success()
}

/// The kernel's answer to "how would this be routed", for messages.
pub fn route_get(netns: &Netns, to: std::net::IpAddr) -> String {
    let output = netns.output("ip", &["route", "get", &to.to_string()]);
    command::stdout("ip route get", &output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_left_out() {
        assert_eq!(
            normal("\t\tip daddr 10.0.0.1 counter packets 12 bytes 720 drop").as_deref(),
            Some("\t\tip daddr 10.0.0.1 counter drop")
        );
        assert_eq!(
            normal(":INPUT ACCEPT [12:720]").as_deref(),
            Some(":INPUT ACCEPT")
        );
        assert_eq!(normal("# Generated by iptables-save"), None);
    }

    #[test]
    fn differences_name_the_section_and_the_line() {
        let snapshot = |text: &str| Snapshot([("rules4".to_owned(), text.to_owned())].into());
        assert_eq!(
            snapshot("0: a\n1: b\n").differences(&snapshot("0: a\n2: c\n")),
            ["rules4: -1: b", "rules4: +2: c"]
        );
        assert_eq!(
            snapshot("a\nb\n").differences(&snapshot("b\na\n")),
            ["rules4: order or number of the lines"]
        );
    }
}
