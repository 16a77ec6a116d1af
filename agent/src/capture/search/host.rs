//! The search on a real node.
//!
//! First where runtimes bind the namespaces of sandboxes: their paths last as
//! long as the sandbox, and looking needs no rights over other processes. Then
//! `/proc`. Either way the kernel has the last word: it says into which
//! namespace the link leads by which the node reaches the pod's addresses.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sluice_kernel::{
    Finder, KernelError, Peer,
    model::{NetnsId, Settings},
};

use super::{Find, Wanted, process};
use crate::error::chain;

/// Most names that are tried in one directory.
const MOST: usize = 8192;
/// Where containerd and CRI-O, and where Docker, bind namespaces.
const BOUND: [&str; 2] = ["/var/run/netns", "/var/run/docker/netns"];

/// Looks on the node.
#[derive(Debug)]
pub struct HostFind {
    finder: Finder,
    proc_dir: PathBuf,
    bound: Vec<PathBuf>,
}

impl HostFind {
    /// `proc_dir`: the node's `/proc`.
    pub fn open(settings: &Settings, proc_dir: &Path) -> Result<Self, KernelError> {
        Ok(Self {
            finder: Finder::open(settings)?,
            proc_dir: proc_dir.to_owned(),
            bound: BOUND.map(PathBuf::from).into(),
        })
    }

    /// The same, with other directories than the runtimes'.
    #[must_use]
    pub fn looking_in(self, bound: Vec<PathBuf>) -> Self {
        Self { bound, ..self }
    }

    fn among_bound(&mut self, peer: Peer) -> Result<Option<NetnsId>, String> {
        for directory in self.bound.clone() {
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.take(MOST).flatten() {
                // Anything else than a file could have to be waited for.
                if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                    continue;
                }
                if let Some(found) = self.holds(peer, &entry.path())? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn among_processes(&mut self, peer: Peer, wanted: &Wanted) -> Result<NetnsId, String> {
        let uids: Vec<&str> = [Some(wanted.uid.as_str()), wanted.static_uid.as_deref()]
            .into_iter()
            .flatten()
            .collect();
        let proc_dir = self.proc_dir.display().to_string();
        let processes = process::of_pod(&self.proc_dir, &uids)
            .map_err(|error| format!("{proc_dir} cannot be read (--proc-dir): {error}"))?;
        let mut refused = 0;
        for process in &processes {
            let path = process.path.join("ns/net");
            if denied(&path) {
                refused += 1;
            } else if let Some(found) = self.holds(peer, &path)? {
                return Ok(found);
            }
        }
        let bound: Vec<_> = self.bound.iter().map(|path| path.display()).collect();
        let bound: Vec<_> = bound.iter().map(ToString::to_string).collect();
        let mut why = format!(
            "neither a namespace in {} nor one of the {} processes of it in {proc_dir} is where \
             its link leads",
            bound.join(", "),
            processes.len()
        );
        if refused > 0 {
            why.push_str(&format!(
                "; {refused} of them may not be looked into: give the agent CAP_SYS_PTRACE"
            ));
        }
        Err(why)
    }

    fn holds(&mut self, peer: Peer, path: &Path) -> Result<Option<NetnsId>, String> {
        let held = self.finder.holds(peer, path);
        held.map_err(|error| format!("the kernel cannot be asked: {}", chain(&error)))
    }
}

impl Find for HostFind {
    fn find(&mut self, wanted: &Wanted) -> Result<NetnsId, String> {
        let peer = self
            .finder
            .peer(&wanted.addresses)
            .map_err(|error| chain(&error))?;
        match self.among_bound(peer)? {
            Some(found) => Ok(found),
            None => self.among_processes(peer, wanted),
        }
    }
}

fn denied(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
