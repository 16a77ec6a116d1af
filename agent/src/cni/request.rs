//! What came in, checked: the shim passes on what it was given.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use ipnet::IpNet;
use sluice_proto::agent::v1::{Address, Attachment, GcRequest, Interface, Sandbox as Message};

use crate::capture::sandbox::{Attached, Sandbox, is_container_id};

const MAX_PATH: usize = 4095;
/// Longest name in Kubernetes; uids and static pods' hashes are shorter.
const MAX_NAME: usize = 253;
/// IFNAMSIZ, without the terminator.
const MAX_LINK: usize = 15;
/// Interfaces and addresses of one result.
const MAX_ITEMS: usize = 64;
/// Attachments of one network: many times what a node can run.
const MAX_ATTACHMENTS: usize = 10_000;
const MAX_NETWORK: usize = 255;

/// What is wrong with a request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidRequest {
    #[error("the request names no sandbox")]
    NoSandbox,
    #[error("{field} {value:?} is not valid: {why}")]
    Field {
        field: &'static str,
        value: String,
        why: &'static str,
    },
    #[error("the request has {count} {what}; at most {most} are taken")]
    TooMany {
        what: &'static str,
        count: usize,
        most: usize,
    },
    #[error("address {cidr:?} is not one a pod can have: {why}")]
    Address { cidr: String, why: &'static str },
}

/// A sandbox whose pod is being created.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) sandbox: Sandbox,
    /// What is wrong with its CNI result, of which the sandbox then has nothing.
    pub(super) flaw: Option<InvalidRequest>,
}

/// A sandbox that is a Kubernetes pod's, or None for one that is not.
pub fn sandbox(
    message: Option<Message>,
    interfaces: &[Interface],
    addresses: &[Address],
) -> Result<Option<Sandbox>, InvalidRequest> {
    let created = created(message, interfaces, addresses)?;
    let sound = |created: Created| created.flaw.map_or(Ok(created.sandbox), Err);
    created.map(sound).transpose()
}

/// As [`sandbox`], with an odd CNI result told apart from a sandbox that cannot
/// be named: pods that are not to be captured do not care.
pub(super) fn created(
    message: Option<Message>,
    interfaces: &[Interface],
    addresses: &[Address],
) -> Result<Option<Created>, InvalidRequest> {
    let Some(mut sandbox) = named(message)? else {
        return Ok(None);
    };
    let result = host_link(interfaces)
        .and_then(|host_link| Ok((host_link, pod_addresses(interfaces, addresses)?)));
    let flaw = match result {
        Ok((host_link, addresses)) => {
            sandbox.host_link = host_link;
            sandbox.addresses = addresses;
            None
        }
        Err(flaw) => Some(flaw),
    };
    Ok(Some(Created { sandbox, flaw }))
}

/// The sandbox without anything of its CNI result.
fn named(message: Option<Message>) -> Result<Option<Sandbox>, InvalidRequest> {
    let message = message.ok_or(InvalidRequest::NoSandbox)?;
    container_id(&message.container_id)?;
    link("CNI_IFNAME", &message.ifname)?;
    if !message.network.is_empty() {
        network(&message.network)?;
    }
    let Message {
        pod_uid,
        pod_namespace,
        pod_name,
        ..
    } = &message;
    if [pod_uid, pod_namespace, pod_name]
        .iter()
        .all(|text| text.is_empty())
    {
        return Ok(None);
    }
    if !pod_uid.is_empty() {
        name("K8S_POD_UID", pod_uid)?;
    }
    name("K8S_POD_NAMESPACE", pod_namespace)?;
    name("K8S_POD_NAME", pod_name)?;
    Ok(Some(Sandbox {
        netns: netns(&message.netns)?,
        container_id: message.container_id,
        ifname: message.ifname,
        network: message.network,
        pod_uid: message.pod_uid,
        namespace: message.pod_namespace,
        name: message.pod_name,
        host_link: None,
        addresses: BTreeSet::new(),
        standalone: message.standalone,
    }))
}

/// A sandbox that is to be forgotten: its container id and interface.
pub fn gone(message: Option<Message>) -> Result<(String, String), InvalidRequest> {
    let message = message.ok_or(InvalidRequest::NoSandbox)?;
    container_id(&message.container_id)?;
    Ok((message.container_id, message.ifname))
}

/// What GC is about: a network, and its attachments that are valid.
pub(super) fn valid(message: GcRequest) -> Result<(String, BTreeSet<Attached>), InvalidRequest> {
    network(&message.network)?;
    if message.valid.len() > MAX_ATTACHMENTS {
        return Err(InvalidRequest::TooMany {
            what: "attachments",
            count: message.valid.len(),
            most: MAX_ATTACHMENTS,
        });
    }
    let attached = |Attachment {
                        container_id,
                        ifname,
                    }: Attachment| {
        // One that cannot be ours matches nothing, but such a list is not to be
        // trusted with removing things.
        self::container_id(&container_id)?;
        link("an interface of the list,", &ifname)?;
        Ok((container_id, ifname))
    };
    let valid: Result<_, _> = message.valid.into_iter().map(attached).collect();
    Ok((message.network, valid?))
}

fn network(text: &str) -> Result<(), InvalidRequest> {
    let mut bytes = text.bytes();
    let valid = text.len() <= MAX_NETWORK
        && bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if valid {
        return Ok(());
    }
    let why = "a letter or digit, then letters, digits, '.', '_' and '-', at most 255";
    Err(field("the name of the network", text, why))
}

fn container_id(text: &str) -> Result<(), InvalidRequest> {
    if is_container_id(text) {
        return Ok(());
    }
    Err(field(
        "CNI_CONTAINERID",
        text,
        "a letter or digit, then letters, digits, '.', '_' and '-', at most 128",
    ))
}

fn netns(text: &str) -> Result<PathBuf, InvalidRequest> {
    let path = Path::new(text);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if text.len() > MAX_PATH || text.contains('\0') || !path.is_absolute() || !plain {
        return Err(field("CNI_NETNS", text, "it must be an absolute path"));
    }
    Ok(path.to_owned())
}

fn name(of: &'static str, text: &str) -> Result<(), InvalidRequest> {
    let valid = (1..=MAX_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if valid {
        return Ok(());
    }
    let why = "letters, digits, '.', '_' and '-', at least one and at most 253";
    Err(field(of, text, why))
}

fn link(of: &'static str, text: &str) -> Result<(), InvalidRequest> {
    let valid = (1..=MAX_LINK).contains(&text.len())
        && text != "."
        && text != ".."
        && !text
            .chars()
            .any(|c| c == '/' || c == ':' || c == '\0' || c.is_whitespace());
    if valid {
        return Ok(());
    }
    Err(field(
        of,
        text,
        "not a name that a network interface can have",
    ))
}

/// The host's side of the pod's interface, where the result leaves no doubt: of
/// several it is the last one before the pod's own, as plugins that put it on a
/// bridge name that first, and plugins behind them name what they add last.
fn host_link(interfaces: &[Interface]) -> Result<Option<String>, InvalidRequest> {
    if interfaces.len() > MAX_ITEMS {
        return Err(InvalidRequest::TooMany {
            what: "interfaces",
            count: interfaces.len(),
            most: MAX_ITEMS,
        });
    }
    for interface in interfaces {
        link("an interface of prevResult,", &interface.name)?;
    }
    let is_host = |interface: &&Interface| interface.sandbox.is_empty();
    let mut host = interfaces.iter().filter(is_host);
    let mut only = host.next();
    if host.next().is_some() {
        let pods = interfaces.iter().position(|interface| !is_host(&interface));
        only = pods.and_then(|at| interfaces[..at].last());
    }
    Ok(only.map(|interface| interface.name.clone()))
}

/// Addresses that are not said to be on the host's side.
fn pod_addresses(
    interfaces: &[Interface],
    addresses: &[Address],
) -> Result<BTreeSet<IpAddr>, InvalidRequest> {
    if addresses.len() > MAX_ITEMS {
        return Err(InvalidRequest::TooMany {
            what: "addresses",
            count: addresses.len(),
            most: MAX_ITEMS,
        });
    }
    let on_host = |address: &&Address| {
        let interface = address
            .interface
            .and_then(|index| usize::try_from(index).ok());
        let interface = interface.and_then(|index| interfaces.get(index));
        interface.is_some_and(|interface| interface.sandbox.is_empty())
    };
    addresses
        .iter()
        .filter(|address| !on_host(address))
        .map(|address| parse(&address.cidr))
        .collect()
}

pub(super) fn parse(cidr: &str) -> Result<IpAddr, InvalidRequest> {
    let bad = |why| InvalidRequest::Address {
        cidr: cidr.chars().take(64).collect(),
        why,
    };
    // The parser of networks takes leading zeros, which are octal to some.
    let strict = |net: &IpNet| {
        let text = cidr.split('/').next().unwrap_or_default();
        text.parse() == Ok(net.addr())
    };
    let address = cidr
        .parse()
        .ok()
        .filter(strict)
        .ok_or_else(|| bad("it must be in CIDR notation"))?
        .addr();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local {
        return Err(bad(
            "it must be a unicast address that is valid outside the link",
        ));
    }
    Ok(address)
}

fn field(field: &'static str, value: &str, why: &'static str) -> InvalidRequest {
    InvalidRequest::Field {
        field,
        value: value.chars().take(64).collect(),
        why,
    }
}

#[cfg(test)]
mod tests;
