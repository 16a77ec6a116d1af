//! What the shim noted while the agent was down, taken over at start.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::Deserialize;
use sluice_proto::agent::v1 as proto;
use tokio::task;

use super::request;
use crate::{
    capture::{Capture, Sandbox},
    files::FileError,
};

/// The shim stops writing at this size; more is not read.
const MAX_FILE: u64 = 1024 * 1024;
/// How long the file may be locked by someone else. The shim holds it for the
/// time of one write.
const LOCK: Duration = Duration::from_secs(5);

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    verb: Verb,
    container_id: String,
    #[serde(default)]
    netns: String,
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    pod_uid: String,
    #[serde(default)]
    pod_namespace: String,
    #[serde(default)]
    pod_name: String,
    #[serde(default)]
    interfaces: Vec<NotedInterface>,
    #[serde(default)]
    addresses: Vec<NotedAddress>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
enum Verb {
    #[serde(rename = "DEL")]
    Del,
    /// An ADD that was let through.
    #[serde(rename = "PASSED")]
    Passed,
}

/// An interface of prevResult.
#[derive(Clone, Debug, Deserialize)]
struct NotedInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

/// An address of prevResult: as CNI writes it, or just the text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum NotedAddress {
    Text(String),
    Cni {
        #[serde(alias = "cidr")]
        address: String,
        interface: Option<u32>,
    },
}

/// What a line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Noted {
    Del {
        container_id: String,
        ifname: String,
    },
    Passed(Sandbox),
}

/// The file, locked, and what it says.
#[derive(Debug)]
struct Taken {
    file: Flock<File>,
    notes: Vec<Noted>,
}

/// Applies what the shim noted, in its order, and empties the file. To be
/// called before the first desired state is set. What cannot be read is logged
/// and left alone; the kernel is looked at anyway.
pub async fn take_over(path: PathBuf, capture: &Capture) -> Result<usize, FileError> {
    let at = path.clone();
    let taken = task::spawn_blocking(move || take(&at))
        .await
        .unwrap_or_else(|error| Err(FileError::at("read", &path)(io::Error::other(error))))?;
    let Some(Taken { file, notes }) = taken else {
        return Ok(0);
    };
    let count = notes.len();
    for noted in notes {
        match noted {
            Noted::Del {
                container_id,
                ifname,
            } => capture.del(container_id, ifname).await,
            Noted::Passed(sandbox) => capture.noted(sandbox).await,
        }
    }
    // Only what is in the journal now may go from the file.
    file.set_len(0).map_err(FileError::at("truncate", &path))?;
    Ok(count)
}

fn take(path: &Path) -> Result<Option<Taken>, FileError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::at("open", path)(error)),
    };
    let mut file = lock(file).map_err(FileError::at("lock", path))?;
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(0))
        .and_then(|_| (&mut *file).take(MAX_FILE).read_to_end(&mut contents))
        .map_err(FileError::at("read", path))?;
    let notes = parse(&contents);
    Ok(Some(Taken { file, notes }))
}

fn lock(mut file: File) -> io::Result<Flock<File>> {
    let started = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK)) if started.elapsed() < LOCK => file = back,
            Err((_, error)) => return Err(error.into()),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The lines that make sense, in their order.
fn parse(contents: &[u8]) -> Vec<Noted> {
    contents
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .filter_map(|line| match read(line) {
            Ok(noted) => noted,
            Err(reason) => {
                tracing::warn!(reason, "a note of the CNI shim is not usable");
                None
            }
        })
        .collect()
}

fn read(line: &[u8]) -> Result<Option<Noted>, String> {
    let note: Note = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let sandbox = proto::Sandbox {
        container_id: note.container_id,
        netns: note.netns,
        ifname: note.ifname,
        network: String::new(),
        pod_uid: note.pod_uid,
        pod_namespace: note.pod_namespace,
        pod_name: note.pod_name,
    };
    if note.verb == Verb::Del {
        let gone = request::gone(Some(sandbox)).map_err(|error| error.to_string())?;
        let (container_id, ifname) = gone;
        return Ok(Some(Noted::Del {
            container_id,
            ifname,
        }));
    }
    let interfaces: Vec<_> = note.interfaces.into_iter().map(interface).collect();
    let addresses: Vec<_> = note.addresses.into_iter().map(address).collect();
    request::sandbox(Some(sandbox), &interfaces, &addresses)
        .map(|sandbox| sandbox.map(Noted::Passed))
        .map_err(|error| error.to_string())
}

fn interface(noted: NotedInterface) -> proto::Interface {
    proto::Interface {
        name: noted.name,
        mac: String::new(),
        sandbox: noted.sandbox,
    }
}

fn address(noted: NotedAddress) -> proto::Address {
    let (text, interface) = match noted {
        NotedAddress::Text(text) => (text, None),
        NotedAddress::Cni { address, interface } => (address, interface),
    };
    // A bare address is one too.
    let cidr = match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => format!("{v4}/32"),
        Ok(IpAddr::V6(v6)) => format!("{v6}/128"),
        Err(_) => text,
    };
    proto::Address { cidr, interface }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_make_no_sense_do_not_hide_the_others() {
        let file = br#"{"verb":"DEL","containerId":"a1","netns":"","ifname":"eth0"}
not json

{"verb":"DEL","containerId":"../x"}
{"verb":"GC","containerId":"a1"}
{"verb":"PASSED","containerId":"b2","netns":"/run/netns/b","ifname":"eth0","podUid":"u","podNamespace":"n","podName":"p","interfaces":[{"name":"veth1","mac":""},{"name":"eth0","sandbox":"/run/netns/b"}],"addresses":["10.0.0.4/32",{"address":"fd00::4/128","interface":1},{"cidr":"10.0.0.5/32"}]}
{"verb":"PASSED","containerId":"c3"#;
        let notes = parse(file);
        let [
            Noted::Del {
                container_id,
                ifname,
            },
            Noted::Passed(sandbox),
        ] = notes.as_slice()
        else {
            panic!("{notes:?}");
        };
        assert_eq!((container_id.as_str(), ifname.as_str()), ("a1", "eth0"));
        assert_eq!(sandbox.host_link.as_deref(), Some("veth1"));
        assert_eq!(sandbox.addresses.len(), 3);
    }

    #[test]
    fn no_file_is_no_notes() {
        let directory = tempfile::tempdir().unwrap();
        assert!(take(&directory.path().join("none")).unwrap().is_none());
    }
}
