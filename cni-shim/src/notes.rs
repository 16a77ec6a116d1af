//! Notes for an agent that is away: one JSON document a line, appended under a
//! lock. The agent takes them, under the same lock, when it starts, and when it
//! answers again.
//!
//! Each line ends with the CRC-32 of what is before it, so that one that was
//! only half written, or has changed since, is told from a good one.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;
use serde::Serialize;

use crate::{
    env::Env,
    result::{Address, Interface, PrevResult},
};

/// The whole file: some thousand notes, since the shortest has 140 bytes.
const LARGEST_FILE: u64 = 1 << 20;
/// The last line of a file that is full: it tells the agent that there was more.
/// There is room for it beyond the limit, and nothing follows it.
const FULL: &str = "{\"verb\":\"LOST\"";
/// One note. A longer one goes without interfaces and addresses.
const LONGEST: usize = 16 << 10;
/// The lock is held for as long as a line takes to write, or an agent that
/// starts takes to read them all.
const PATIENCE: Duration = Duration::from_secs(2);

/// What happened while the agent was away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum What {
    /// The sandbox is gone.
    Del,
    /// The pod was let through: its namespace is excluded (it may be the
    /// proxy), or had no enrolled pods.
    Passed,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Note<'a> {
    verb: What,
    network: &'a str,
    container_id: &'a str,
    netns: &'a str,
    ifname: &'a str,
    pod_uid: &'a str,
    pod_namespace: &'a str,
    pod_name: &'a str,
    interfaces: &'a [Interface],
    addresses: Vec<NotedAddress<'a>>,
}

/// As `sluice.agent.v1.Address`.
#[derive(Serialize)]
struct NotedAddress<'a> {
    cidr: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
}

/// Appends a note that survives a power cut, or says why it could not; the file
/// then has no part of it.
pub(crate) fn append(
    path: &Path,
    network: &str,
    what: What,
    env: &Env,
    result: Option<&PrevResult<'_>>,
) -> io::Result<()> {
    let line = line(network, what, env, result)?;
    let (file, created) = open(path)?;
    let file = lock(file)?;
    let length = file.metadata()?.len();
    let full = is_full(&file, length)? || length + line.len() as u64 > LARGEST_FILE;
    let written = if full {
        close(&file, length)
    } else {
        write(&file, length, &line)
    };
    written.inspect_err(|_| {
        // Half a line would spoil the next one too.
        let _ = file.set_len(length);
    })?;
    // Nobody is to wait for our disk.
    file.unlock()?;
    file.sync_all()?;
    if created && let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    if full {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "it has {length} bytes already, and may have {LARGEST_FILE}; the agent is told \
                 that there was more, and looks for itself what is gone"
            ),
        ));
    }
    Ok(())
}

/// Whether nothing is taken any more.
fn is_full(file: &File, length: u64) -> io::Result<bool> {
    let last = sealed(FULL);
    let mut end = vec![0; last.len()];
    let Some(at) = length.checked_sub(last.len() as u64) else {
        return Ok(false);
    };
    file.read_exact_at(&mut end, at)?;
    Ok(end == last.as_bytes())
}

fn close(file: &File, length: u64) -> io::Result<()> {
    let last = sealed(FULL);
    // One that was not ours to begin with may be of any length.
    if is_full(file, length)? || length > LARGEST_FILE {
        return Ok(());
    }
    write(file, length, &last)
}

/// A document that lacks its closing brace, with its checksum, as a line.
fn sealed(open: &str) -> String {
    let crc = crc32fast::hash(open.as_bytes());
    format!("{open},\"crc\":\"{crc:08x}\"}}\n")
}

fn line(
    network: &str,
    what: What,
    env: &Env,
    result: Option<&PrevResult<'_>>,
) -> io::Result<String> {
    let mut note = Note {
        verb: what,
        network,
        container_id: &env.container_id,
        netns: &env.netns,
        ifname: &env.ifname,
        pod_uid: &env.pod.uid,
        pod_namespace: &env.pod.namespace,
        pod_name: &env.pod.name,
        interfaces: result.map_or(&[], |result| &result.interfaces),
        addresses: result
            .iter()
            .flat_map(|result| &result.addresses)
            .map(NotedAddress::from)
            .collect(),
    };
    let mut line = serde_json::to_string(&note)?;
    if line.len() > LONGEST {
        note.interfaces = &[];
        note.addresses.clear();
        line = serde_json::to_string(&note)?;
    }
    if line.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the note would have {} bytes, and may have {LONGEST}",
                line.len()
            ),
        ));
    }
    line.pop();
    Ok(sealed(&line))
}

impl<'a> From<&'a Address> for NotedAddress<'a> {
    fn from(address: &'a Address) -> Self {
        Self {
            cidr: &address.cidr,
            interface: address.interface(),
        }
    }
}

/// The file, and whether it may be new.
fn open(path: &Path) -> io::Result<(File, bool)> {
    // Not to be held up by a pipe, nor led elsewhere by a link.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let open = |create: bool| {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(path)
    };
    let (file, created) = match open(false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                make(dir)?;
            }
            (open(true)?, true)
        }
        opened => (opened?, false),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok((file, created))
}

/// The agent's state directory, on a node where it never ran.
fn make(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => match dir.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock(file: File) -> io::Result<File> {
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begin.elapsed() > PATIENCE => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("another process has had it locked for {PATIENCE:?}"),
                ));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn write(mut file: &File, length: u64, line: &str) -> io::Result<()> {
    let mut last = [b'\n'];
    if let Some(at) = length.checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    // Somebody was killed while writing.
    let begin = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{begin}{line}").as_bytes())
}

#[cfg(test)]
mod tests;
