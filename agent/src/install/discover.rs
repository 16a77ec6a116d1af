//! Where the node's runtime reads network configurations and looks for plugins,
//! from the runtime's own configuration. Pure but for [`discover`].

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::host::Host;
use crate::files;

const LARGEST: u64 = 1 << 20;
/// More files than any runtime's configuration has.
const MOST_FILES: usize = 64;
const CONF: &str = "/etc/cni/net.d";
const BIN: &str = "/opt/cni/bin";

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    pub conf_dir: PathBuf,
    /// In the order in which they are searched.
    pub bin_dirs: Vec<PathBuf>,
    pub takes: Takes,
    /// Where this is said, for people.
    pub from: String,
}

/// Which configurations of its folder a runtime takes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Takes {
    /// The first of a network of this name, not the first of all.
    pub network: Option<String>,
    /// Every one, and each pod is attached to all of them.
    pub several: bool,
}

/// A runtime as some distribution has it.
struct Known {
    name: &'static str,
    kind: Kind,
    config: &'static str,
    socket: &'static str,
    conf: &'static str,
    bins: &'static [&'static str],
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Containerd,
    Crio,
}

/// Those with a place of their own first: containerd's usual one may be there
/// without being used.
const KNOWN: [Known; 5] = [
    Known {
        name: "k3s",
        kind: Kind::Containerd,
        config: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        socket: "/run/k3s/containerd/containerd.sock",
        conf: "/var/lib/rancher/k3s/agent/etc/cni/net.d",
        bins: &[
            "/var/lib/rancher/k3s/data/cni",
            "/var/lib/rancher/k3s/data/current/bin",
        ],
    },
    Known {
        name: "rke2",
        kind: Kind::Containerd,
        config: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        socket: "/run/k3s/containerd/containerd.sock",
        conf: CONF,
        bins: &[BIN],
    },
    Known {
        name: "microk8s",
        kind: Kind::Containerd,
        config: "/var/snap/microk8s/current/args/containerd.toml",
        socket: "/var/snap/microk8s/common/run/containerd.sock",
        conf: "/var/snap/microk8s/current/args/cni-network",
        bins: &["/var/snap/microk8s/current/opt/cni/bin"],
    },
    Known {
        name: "CRI-O",
        kind: Kind::Crio,
        config: "/etc/crio/crio.conf",
        socket: "/run/crio/crio.sock",
        conf: "/etc/kubernetes/cni/net.d",
        bins: &["/var/lib/cni/bin"],
    },
    Known {
        name: "containerd",
        kind: Kind::Containerd,
        config: "/etc/containerd/config.toml",
        socket: "/run/containerd/containerd.sock",
        conf: CONF,
        bins: &["/home/kubernetes/bin"],
    },
];

/// Folders that some runtime reads: a plugin alone in one would be the pods' network.
pub const RUNTIMES: [&str; 4] = [
    CONF,
    "/var/lib/rancher/k3s/agent/etc/cni/net.d",
    "/var/snap/microk8s/current/args/cni-network",
    "/etc/kubernetes/cni/net.d",
];

/// Why the folders are not known.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot tell from {file} where the runtime keeps its network configurations: {why}; name \
     the folders with --cni-conf-dir and --cni-bin-dir"
)]
pub struct DiscoverError {
    file: String,
    why: String,
}

/// A part of a runtime's configuration.
#[derive(Debug)]
pub struct Text {
    pub file: String,
    pub text: String,
}

/// What a runtime's configuration says of CNI; nothing of what it leaves out.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Said {
    pub conf_dir: Option<String>,
    pub bin_dirs: Vec<String>,
    pub takes: Takes,
    /// The files that say so.
    pub files: BTreeSet<String>,
}

/// Looks at the node.
pub fn discover(host: &Host) -> Result<Found, DiscoverError> {
    let exists = |path: &str| host.exists(Path::new(path));
    let Some(known) = choose(exists) else {
        return Ok(Found {
            conf_dir: CONF.into(),
            bin_dirs: vec![BIN.into()],
            takes: Takes::default(),
            from: "the usual place: no configuration of a runtime was found".into(),
        });
    };
    let texts = match known.kind {
        Kind::Containerd => imported(host, known.config)?,
        Kind::Crio => drop_ins(host, known.config)?,
    };
    let said = match known.kind {
        Kind::Containerd => containerd(&texts)?,
        Kind::Crio => crio(&texts)?,
    };
    Ok(found(known, said, exists))
}

/// The runtime that runs, or the first that is installed.
fn choose(exists: impl Fn(&str) -> bool) -> Option<&'static Known> {
    let both = KNOWN
        .iter()
        .find(|one| exists(one.socket) && exists(one.config));
    let runs = || KNOWN.iter().find(|one| exists(one.socket));
    let there = || KNOWN.iter().find(|one| exists(one.config));
    both.or_else(runs).or_else(there)
}

/// What is said, and what its platform or every runtime has where nothing is.
fn found(known: &Known, said: Said, exists: impl Fn(&str) -> bool) -> Found {
    let conf = if exists(known.conf) { known.conf } else { CONF };
    let bin = known.bins.iter().find(|bin| exists(bin)).unwrap_or(&BIN);
    let mut from: Vec<String> = said.files.into_iter().collect();
    let mut usual = Vec::new();
    if said.conf_dir.is_none() {
        usual.push("configurations");
    }
    if said.bin_dirs.is_empty() {
        usual.push("plugins");
    }
    if !usual.is_empty() {
        from.push(format!(
            "the usual place of {} for {}",
            known.name,
            usual.join(" and ")
        ));
    }
    Found {
        conf_dir: said.conf_dir.unwrap_or_else(|| conf.into()).into(),
        bin_dirs: match said.bin_dirs {
            dirs if dirs.is_empty() => vec![PathBuf::from(bin)],
            dirs => dirs.into_iter().map(PathBuf::from).collect(),
        },
        takes: said.takes,
        from: from.join(", "),
    }
}

/// containerd's configuration, of any version: the file itself and what it
/// imports, in order; a later one counts.
pub fn containerd(texts: &[Text]) -> Result<Said, DiscoverError> {
    const PLUGINS: [&str; 3] = [
        "io.containerd.cri.v1.runtime",
        "io.containerd.grpc.v1.cri",
        "cri",
    ];
    let mut said = Said::default();
    for text in texts {
        let table = parsed(text)?;
        let plugins = table.get("plugins");
        let section = |name: &&str| plugins?.get(name)?.get("cni")?.as_table();
        let Some(cni) = PLUGINS.iter().find_map(section) else {
            continue;
        };
        said.take(text, cni, "conf_dir", &["bin_dirs", "bin_dir"])?;
        if let Some(most) = cni.get("max_conf_num").and_then(Value::as_integer) {
            said.takes.several = most != 1;
        }
    }
    Ok(said)
}

/// CRI-O's, in order; a later one counts.
pub fn crio(texts: &[Text]) -> Result<Said, DiscoverError> {
    let mut said = Said::default();
    for text in texts {
        let table = parsed(text)?;
        let network = |table: &Table| table.get("crio")?.get("network")?.as_table().cloned();
        let Some(network) = network(&table) else {
            continue;
        };
        said.take(
            text,
            &network,
            "network_dir",
            &["plugin_dirs", "plugin_dir"],
        )?;
        if let Some(name) = network.get("cni_default_network").and_then(Value::as_str) {
            said.takes.network = Some(name.to_owned()).filter(|name| !name.is_empty());
        }
    }
    Ok(said)
}

impl Said {
    fn take(
        &mut self,
        text: &Text,
        table: &Table,
        conf: &str,
        bins: &[&str],
    ) -> Result<(), DiscoverError> {
        let wrong = |key: &str, why: &str| error(&text.file, format!("{key} {why}"));
        let path = |key: &str, value: &Value| {
            let path = value.as_str().ok_or_else(|| wrong(key, "is no text"))?;
            if path.starts_with('/') && !path.contains('$') {
                return Ok(path.to_owned());
            }
            Err(wrong(key, &format!("is {path:?}, no absolute path")))
        };
        let empty = |value: &Value| value.as_str() == Some("");
        if let Some(value) = table.get(conf).filter(|value| !empty(value)) {
            self.conf_dir = Some(path(conf, value)?);
            self.files.insert(text.file.clone());
        }
        for key in bins {
            let dirs = match table.get(*key) {
                None => continue,
                Some(Value::Array(dirs)) => dirs.iter().map(|dir| path(key, dir)).collect(),
                Some(value) if empty(value) => continue,
                Some(value) => path(key, value).map(|dir| vec![dir]),
            };
            let dirs: Vec<String> = dirs?;
            if !dirs.is_empty() {
                self.bin_dirs = dirs;
                self.files.insert(text.file.clone());
                break;
            }
        }
        Ok(())
    }
}

fn parsed(text: &Text) -> Result<Table, DiscoverError> {
    let table = text.text.parse::<Table>();
    table.map_err(|wrong| error(&text.file, wrong.message().to_owned()))
}

fn error(file: &str, why: String) -> DiscoverError {
    DiscoverError {
        file: file.to_owned(),
        why,
    }
}

/// A file of the node; None if it is not there.
fn read(host: &Host, file: &str) -> Result<Option<Text>, DiscoverError> {
    let Ok(found) = host.find(Path::new(file)) else {
        return Ok(None);
    };
    let (contents, _) = files::read_ordinary(&found, LARGEST)
        .map_err(|failed| error(file, failed.source.to_string()))?;
    let text = String::from_utf8(contents).map_err(|_| error(file, "it is no text".into()))?;
    Ok(Some(Text {
        file: file.to_owned(),
        text,
    }))
}

/// The file and what it imports, as containerd follows it.
fn imported(host: &Host, file: &str) -> Result<Vec<Text>, DiscoverError> {
    let mut pending = VecDeque::from([file.to_owned()]);
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    while let Some(file) = pending.pop_front() {
        if !seen.insert(file.clone()) {
            continue;
        }
        if seen.len() > MOST_FILES {
            return Err(error(
                &file,
                format!("more than {MOST_FILES} files are imported"),
            ));
        }
        let Some(text) = read(host, &file)? else {
            continue;
        };
        let table = parsed(&text)?;
        let imports = table.get("imports").and_then(Value::as_array);
        for import in imports.into_iter().flatten().filter_map(Value::as_str) {
            let folder = Path::new(&file).parent().unwrap_or(Path::new("/"));
            pending.extend(matching(host, &folder.join(import)));
        }
        texts.push(text);
    }
    Ok(texts)
}

/// CRI-O's file and its drop-ins, in the order of their names.
fn drop_ins(host: &Host, file: &str) -> Result<Vec<Text>, DiscoverError> {
    let more = matching(host, Path::new("/etc/crio/crio.conf.d/*"));
    let all = std::iter::once(file.to_owned()).chain(more.into_iter().take(MOST_FILES));
    all.filter_map(|file| read(host, &file).transpose())
        .collect()
}

/// The files of the node that a path with stars in its last part means.
fn matching(host: &Host, pattern: &Path) -> Vec<String> {
    let text = |path: &Path| path.display().to_string();
    let Some((folder, name)) = pattern.parent().zip(pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    if !name.contains('*') {
        return vec![text(pattern)];
    }
    let entries = host.find(folder).and_then(fs::read_dir);
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> = names
        .filter(|one| is_match(&name, one) && !one.starts_with('.'))
        .map(|one| text(&folder.join(one)))
        .collect();
    found.sort();
    found
}

/// A star is any text.
fn is_match(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(left) = name.strip_prefix(start) else {
        return false;
    };
    let starts = (0..=left.len()).filter_map(|at| left.get(at..));
    starts.into_iter().any(|left| is_match(rest, left))
}

#[cfg(test)]
mod tests;
