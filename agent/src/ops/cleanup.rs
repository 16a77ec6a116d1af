//! `cleanup`: everything of ours leaves the node.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use sluice_kernel::{
    Kernel, KernelError,
    model::{NetnsId, Settings},
};
use tracing::warn;

use crate::{
    capture::{
        Fault,
        journal::{Entry, Journal, JournalError},
        kernel::clean,
    },
    config::{Directories, NodeFiles},
    control::store::Store,
    desired::{Desired, Wanted},
    install::places::PlacesError,
};

/// Why something may be left.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("an agent serves {}; stop it first, or it will make everything again", socket.display())]
    Running { socket: PathBuf },
    #[error("cannot read the journal")]
    Journal(#[from] JournalError),
    #[error("--proxy-netns {} is no network namespace; leave the flag out if the proxy is gone", path.display())]
    Proxy { path: PathBuf },
    #[error("cannot open the node's network namespace")]
    Open(#[source] KernelError),
    #[error("not everything could be removed; nothing is lost by trying again")]
    Remove(#[source] Fault),
    #[error("not everything could be removed from the node's disk")]
    Files(#[from] PlacesError),
}

/// Removes everything and says what. Blocks.
pub fn cleanup(
    directories: &Directories,
    proxy_netns: Option<&Path>,
    files: &NodeFiles,
    settings: Settings,
) -> Result<String, CleanupError> {
    let socket = directories.run_dir.join(crate::config::SOCKET);
    if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        return Err(CleanupError::Running { socket });
    }
    let proxies = proxies(directories, proxy_netns)?;
    let mut kernel = Kernel::open(settings).map_err(CleanupError::Open)?;
    let mut removed: Vec<String> = files
        .remove()?
        .iter()
        .map(|path| format!("remove file {}", path.display()))
        .collect();
    let objects = clean(&mut kernel, &proxies).map_err(CleanupError::Remove)?;
    removed.extend(objects.into_iter().map(|repair| repair.object));
    Ok(report(&removed))
}

/// Namespaces of every proxy that the agent has worked with.
fn proxies(directories: &Directories, given: Option<&Path>) -> Result<Vec<NetnsId>, CleanupError> {
    let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
    if directories.run_dir.is_dir() {
        let journal = Journal::open(&directories.run_dir)?;
        if let Some(desired) = Store::new(&directories.state_dir).load() {
            paths.extend(noted(&journal.load(), &desired));
        }
    }
    let mut found: Vec<NetnsId> = Vec::new();
    for path in &paths {
        match Kernel::netns_id(path) {
            Ok(id) => found.push(id),
            Err(_) => {
                warn!(path = %path.display(), "this proxy's namespace is gone, and what was in it");
            }
        }
    }
    if let Some(path) = given {
        let id = Kernel::netns_id(path).map_err(|_| CleanupError::Proxy {
            path: path.to_owned(),
        })?;
        if !found
            .iter()
            .any(|other| (other.device, other.inode) == (id.device, id.inode))
        {
            found.push(id);
        }
    }
    Ok(found)
}

/// Where the proxies are, by the journal, of the pods that are one.
fn noted(entries: &[Entry], desired: &Desired) -> Vec<PathBuf> {
    let proxies: Vec<_> = desired
        .pods
        .values()
        .filter(|pod| pod.wanted == Wanted::Proxy)
        .collect();
    entries
        .iter()
        .filter(|entry| proxies.iter().any(|proxy| entry.sandbox.is_of(proxy)))
        .map(|entry| entry.sandbox.netns.clone())
        .collect()
}

fn report(removed: &[String]) -> String {
    if removed.is_empty() {
        return "nothing of ours was there\n".into();
    }
    let mut out = String::new();
    for object in removed {
        let _ = writeln!(out, "{object}");
    }
    let _ = writeln!(out, "{} objects removed, nothing left", removed.len());
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sluice_kernel::model::PodUid;

    use super::*;
    use crate::{
        capture::Sandbox,
        desired::{Intent, Origin},
    };

    fn entry(uid: &str) -> Entry {
        Entry {
            sandbox: Sandbox {
                container_id: "c1".into(),
                ifname: "eth0".into(),
                network: String::new(),
                netns: format!("/run/netns/{uid}").into(),
                pod_uid: uid.into(),
                namespace: "mesh".into(),
                name: uid.into(),
                host_link: None,
                addresses: BTreeSet::new(),
                standalone: false,
            },
            uid: None,
            netns: None,
            order: 1,
            link: None,
            digest: None,
            intent: None,
        }
    }

    fn desired(uid: &str, wanted: Wanted) -> Desired {
        let uid = PodUid::new(uid).unwrap();
        let intent = Intent {
            namespace: "mesh".into(),
            name: uid.to_string(),
            hash: "h".into(),
            ..Intent::bare(uid.clone(), wanted)
        };
        Desired {
            origin: Origin::Disk,
            revision: None,
            pods: BTreeMap::from([(uid, intent)]),
            namespaces: BTreeMap::new(),
            leave: false,
        }
    }

    #[test]
    fn only_proxies_are_entered() {
        let entries = [entry("proxy"), entry("web")];
        let found = noted(&entries, &desired("proxy", Wanted::Proxy));
        assert_eq!(found, [PathBuf::from("/run/netns/proxy")]);
        assert!(noted(&entries, &desired("web", Wanted::Captured)).is_empty());
    }

    #[test]
    fn what_was_removed_is_listed() {
        let removed = ["remove IPv4 rule 106: nop".to_owned()];
        insta::assert_snapshot!(report(&removed), @r"
        remove IPv4 rule 106: nop
        1 objects removed, nothing left
        ");
        insta::assert_snapshot!(report(&[]), @"nothing of ours was there");
    }
}
