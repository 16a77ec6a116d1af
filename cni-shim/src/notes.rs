//! Notes for an agent that is away: one JSON document a line, appended under a
//! lock. The agent takes them, under the same lock, when it starts.

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

/// The whole file: some thousand notes.
const LARGEST_FILE: u64 = 1 << 20;
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

/// Appends a note, or says why it could not; the file is then as it was.
pub(crate) fn append(
    path: &Path,
    what: What,
    env: &Env,
    result: Option<&PrevResult<'_>>,
) -> io::Result<()> {
    let line = line(what, env, result)?;
    let file = lock(open(path)?)?;
    let length = file.metadata()?.len();
    if length + line.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has {length} bytes already, and may have {LARGEST_FILE}"),
        ));
    }
    write(&file, length, &line).inspect_err(|_| {
        // Half a line would spoil the next one too.
        let _ = file.set_len(length);
    })
}

fn line(what: What, env: &Env, result: Option<&PrevResult<'_>>) -> io::Result<String> {
    let mut note = Note {
        verb: what,
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
    line.push('\n');
    Ok(line)
}

impl<'a> From<&'a Address> for NotedAddress<'a> {
    fn from(address: &'a Address) -> Self {
        Self {
            cidr: &address.cidr,
            interface: address.interface(),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Not to be held up by a pipe, nor led elsewhere by a link.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let open = || {
        OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(path)
    };
    let file = match (open(), path.parent()) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            // The agent's state directory, on a node where it never ran.
            DirBuilder::new().mode(0o700).create(dir)?;
            open()
        }
        (opened, _) => opened,
    }?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    Ok(file)
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
