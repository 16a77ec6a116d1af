//! What the agent remembers of sandboxes across a restart: one small file each.
//!
//! An entry is a claim, not a fact. Those of another boot are dropped here; the
//! engine drops those whose namespace, link or addresses disagree.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sluice_kernel::model::{Link, NetnsId, Pod, PodUid};

use super::sandbox::{Sandbox, is_container_id};
use crate::{
    desired::Intent,
    files::{self, FileError},
};

/// Largest entry that is read.
const MAX_ENTRY: u64 = 64 * 1024;
/// Most entries that are read: several times what a node can run.
const MAX_ENTRIES: usize = 8192;
/// The folder in the agent's run directory.
pub const JOURNAL: &str = "journal";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A sandbox and what was found out about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub sandbox: Sandbox,
    /// The pod's metadata.uid, once known.
    pub uid: Option<PodUid>,
    /// Its namespace when it was added; None where the path led to none.
    pub netns: Option<NetnsId>,
    /// Sandboxes are ordered by age with it.
    pub order: u64,
    /// What was applied, if it was captured.
    pub link: Option<Link>,
    pub digest: Option<String>,
    /// The controller's answer for a pod that the desired state did not have.
    pub intent: Option<Intent>,
}

/// The folder of entries.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    boot: String,
}

/// What went wrong with the journal as a whole, or with writing an entry.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot use the journal")]
    File(#[from] FileError),
    #[error("cannot encode the journal entry of container {container_id}")]
    Encode {
        container_id: String,
        source: serde_json::Error,
    },
}

/// An entry as it is on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    boot: String,
    uid: Option<String>,
    sandbox: Sandbox,
    netns: Option<StoredNetns>,
    order: u64,
    link: Option<(u32, String)>,
    digest: Option<String>,
    intent: Option<Intent>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredNetns {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Journal {
    /// The journal under the agent's run directory, made if it is not there.
    pub fn open(run_dir: &Path) -> Result<Self, JournalError> {
        Self::open_for_boot(run_dir, &boot(Path::new(BOOT_ID)))
    }

    /// As [`Journal::open`], for the boot of this id.
    pub fn open_for_boot(run_dir: &Path, boot: &str) -> Result<Self, JournalError> {
        let directory = run_dir.join(JOURNAL);
        files::private_directory(&directory)?;
        Ok(Self {
            directory,
            boot: boot.to_owned(),
        })
    }

    /// Every entry of this boot, oldest first. What cannot be read or is of
    /// another boot is removed with a log line; it never stops the agent.
    pub fn load(&self) -> Vec<Entry> {
        let names = match fs::read_dir(&self.directory) {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(directory = %self.directory.display(), %error, "cannot list the journal");
                return Vec::new();
            }
        };
        let mut entries: Vec<Entry> = names
            .flatten()
            .take(MAX_ENTRIES)
            .filter_map(|name| self.take(&name.path()))
            .collect();
        entries.sort_by_key(|entry| entry.order);
        entries
    }

    /// Writes an entry, atomically.
    pub fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        let contents =
            serde_json::to_vec(&Stored::from_entry(entry, &self.boot)).map_err(|source| {
                JournalError::Encode {
                    container_id: entry.sandbox.container_id.clone(),
                    source,
                }
            })?;
        files::write_volatile(&self.path(&entry.sandbox.container_id), &contents)?;
        Ok(())
    }

    /// Removes an entry, if there is one.
    pub fn remove(&self, container_id: &str) -> Result<(), JournalError> {
        files::remove(&self.path(container_id))?;
        Ok(())
    }

    /// Removes every file but those of these containers.
    pub fn tidy(&self, known: impl Fn(&str) -> bool) {
        let names = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        for name in names {
            let path = name.path();
            let id = path.file_name().and_then(|name| name.to_str());
            let id = id.and_then(|name| name.strip_suffix(".json"));
            if id.is_some_and(&known) {
                continue;
            }
            match files::remove(&path) {
                Ok(()) => {
                    tracing::info!(path = %path.display(), "a journal entry of nobody is removed");
                }
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "cannot remove a journal entry of nobody");
                }
            }
        }
    }

    fn path(&self, container_id: &str) -> PathBuf {
        self.directory.join(format!("{container_id}.json"))
    }

    /// Reads one file, and removes it when it is not to be believed.
    fn take(&self, path: &Path) -> Option<Entry> {
        let reason = match self.read(path) {
            Ok(entry) => return Some(entry),
            Err(reason) => reason,
        };
        tracing::warn!(path = %path.display(), %reason, "journal entry set aside");
        if let Err(error) = files::remove(path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove the journal entry");
        }
        None
    }

    fn read(&self, path: &Path) -> Result<Entry, String> {
        let contents = files::read_bounded(path, MAX_ENTRY).map_err(|error| error.to_string())?;
        let stored: Stored =
            serde_json::from_slice(&contents).map_err(|error| format!("not an entry: {error}"))?;
        if stored.boot != self.boot {
            return Err("it is of another boot".into());
        }
        let id = &stored.sandbox.container_id;
        if !is_container_id(id) || self.path(id) != path {
            return Err("it is not named for its container".into());
        }
        Ok(stored.into_entry())
    }
}

/// The kernel's name of this boot. Without one nothing that was written before
/// is believed, and nothing that is written now will be.
fn boot(file: &Path) -> String {
    let read = files::read_bounded(file, 64);
    let read = read.map(|id| String::from_utf8_lossy(&id).trim().to_owned());
    match read {
        Ok(id) if !id.is_empty() => return id,
        Ok(_) => {
            tracing::warn!(file = %file.display(), "the boot has no id; the journal is not believed");
        }
        Err(error) => tracing::warn!(
            error = &error as &dyn Error,
            "cannot tell which boot this is; the journal is not believed"
        ),
    }
    format!(
        "unknown-{:016x}",
        RandomState::new().build_hasher().finish()
    )
}

impl Entry {
    /// The pod that was captured for this sandbox.
    pub fn pod(&self) -> Option<Pod> {
        let pod = Pod {
            link: self.link.clone()?,
            addresses: self.sandbox.addresses.clone(),
        };
        (self.digest.as_deref() == Some(digest(&pod).as_str())).then_some(pod)
    }

    /// Notes what was applied. False when nothing is new.
    pub fn applied(&mut self, uid: &PodUid, pod: &Pod) -> bool {
        let before = (self.uid.clone(), self.link.clone(), self.digest.clone());
        self.uid = Some(uid.clone());
        self.link = Some(pod.link.clone());
        self.digest = Some(digest(pod));
        before != (self.uid.clone(), self.link.clone(), self.digest.clone())
    }
}

impl Stored {
    fn from_entry(entry: &Entry, boot: &str) -> Self {
        Self {
            boot: boot.to_owned(),
            uid: entry.uid.as_ref().map(|uid| uid.as_str().to_owned()),
            sandbox: entry.sandbox.clone(),
            netns: entry.netns.as_ref().map(|id| StoredNetns {
                path: id.path.clone(),
                device: id.device,
                inode: id.inode,
            }),
            order: entry.order,
            link: entry.link.clone().map(|link| (link.index, link.name)),
            digest: entry.digest.clone(),
            intent: entry.intent.clone(),
        }
    }

    fn into_entry(self) -> Entry {
        Entry {
            uid: self.uid.and_then(PodUid::new),
            sandbox: self.sandbox,
            netns: self.netns.map(|id| NetnsId {
                path: id.path,
                device: id.device,
                inode: id.inode,
            }),
            order: self.order,
            link: self.link.map(|(index, name)| Link { index, name }),
            digest: self.digest,
            intent: self.intent,
        }
    }
}

/// Of what was applied for a pod (FNV-1a): the same in every build.
fn digest(pod: &Pod) -> String {
    let addresses: &BTreeSet<IpAddr> = &pod.addresses;
    let text = format!("{} {} {addresses:?}", pod.link.index, pod.link.name);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
