//! One line of the notes. Pure.

use serde::Deserialize;
use sluice_proto::agent::v1 as proto;

use crate::{capture::Sandbox, cni::request};

/// The shim writes none that is longer.
const LONGEST: usize = 17 * 1024;
/// Before the checksum of what is before it, and after it.
const CRC: &[u8] = b",\"crc\":\"";
const END: &[u8] = b"\"}";

/// What a line asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    Del {
        container_id: String,
        ifname: String,
    },
    Passed(Box<Sandbox>),
    /// It was no pod.
    Nothing,
    /// There was more than the file may have.
    Lost,
    /// It makes no sense; why.
    Rejected(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    verb: Verb,
    #[serde(default)]
    network: String,
    #[serde(default)]
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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    Del,
    /// An ADD that was let through.
    Passed,
    Lost,
}

/// An interface of prevResult.
#[derive(Debug, Deserialize)]
struct NotedInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    sandbox: String,
}

/// An address of prevResult.
#[derive(Debug, Deserialize)]
struct NotedAddress {
    cidr: String,
    interface: Option<u32>,
}

/// Every line that is not empty, in order.
pub fn parse(contents: &[u8]) -> impl Iterator<Item = (&[u8], Line)> {
    contents
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let text = &line[..line.len().min(LONGEST)];
            (text, read(line).unwrap_or_else(Line::Rejected))
        })
}

fn read(line: &[u8]) -> Result<Line, String> {
    if line.len() > LONGEST {
        return Err(format!(
            "it has {} bytes, and may have {LONGEST}",
            line.len()
        ));
    }
    verify(line)?;
    let note: Note = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let sandbox = proto::Sandbox {
        container_id: note.container_id,
        netns: note.netns,
        ifname: note.ifname,
        network: note.network,
        pod_uid: note.pod_uid,
        pod_namespace: note.pod_namespace,
        pod_name: note.pod_name,
        standalone: false,
    };
    match note.verb {
        Verb::Lost => Ok(Line::Lost),
        Verb::Del => {
            let gone = request::gone(Some(sandbox)).map_err(|error| error.to_string())?;
            let (container_id, ifname) = gone;
            Ok(Line::Del {
                container_id,
                ifname,
            })
        }
        Verb::Passed => {
            let interfaces: Vec<_> = note.interfaces.into_iter().map(interface).collect();
            let addresses: Vec<_> = note.addresses.into_iter().map(address).collect();
            let sandbox = request::sandbox(Some(sandbox), &interfaces, &addresses);
            let sandbox = sandbox.map_err(|error| error.to_string())?;
            Ok(sandbox.map_or(Line::Nothing, |sandbox| Line::Passed(Box::new(sandbox))))
        }
    }
}

/// Whether the line is as it was written.
fn verify(line: &[u8]) -> Result<(), String> {
    let sealed = line.strip_suffix(END).and_then(|line| {
        let (rest, crc) = line.split_last_chunk::<8>()?;
        Some((rest.strip_suffix(CRC)?, std::str::from_utf8(crc).ok()?))
    });
    let Some((text, crc)) = sealed else {
        return Err("it has no checksum, or no end".into());
    };
    let found = format!("{:08x}", crc32fast::hash(text));
    if found == crc {
        return Ok(());
    }
    Err(format!("its checksum is {crc}, and would be {found}"))
}

fn interface(noted: NotedInterface) -> proto::Interface {
    proto::Interface {
        name: noted.name,
        mac: String::new(),
        sandbox: noted.sandbox,
    }
}

fn address(noted: NotedAddress) -> proto::Address {
    proto::Address {
        cidr: noted.cidr,
        interface: noted.interface,
    }
}

/// A document that lacks its closing brace, as the shim writes it.
#[cfg(test)]
pub(in crate::cni) fn sealed(open: &str) -> String {
    format!(
        "{open},\"crc\":\"{:08x}\"}}\n",
        crc32fast::hash(open.as_bytes())
    )
}
