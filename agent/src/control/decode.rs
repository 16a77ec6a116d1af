//! The one place where generated messages become desired state.
//!
//! Whatever comes in is hostile: each field is bounded and parsed, and the
//! first one that does not fit is named, with its pod.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use sluice_kernel::model::PodUid;
use sluice_proto::capture::v1 as proto;

use crate::desired::{Intent, Revision, Wanted};

/// Longest uid, hash and source; Kubernetes' are 36 to 64.
const LONGEST_KEY: usize = 128;
const LONGEST_NAMESPACE: usize = 63;
const LONGEST_NAME: usize = 253;
const LONGEST_MESSAGE: usize = 4096;
const MOST_ADDRESSES: usize = 16;
const MOST_HOST_PORTS: usize = 1024;

/// A field that does not parse.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidState {
    #[error("the message has neither a snapshot nor a delta")]
    Empty,
    #[error("the message says no source revision")]
    NoRevision,
    #[error("the revision's source {0} is empty, too long or has odd characters")]
    Source(Text),
    #[error("the revision's source changed from {held:?} to {offered:?} without a snapshot")]
    SourceChanged { held: String, offered: String },
    #[error("the parts of one snapshot have different revisions")]
    MixedRevisions,
    #[error("pod {0} has a uid that is empty, too long or has odd characters")]
    Uid(Text),
    #[error("pod {uid} is in the state twice")]
    PodTwice { uid: PodUid },
    #[error("namespace {name} is in the state twice")]
    NamespaceTwice { name: Text },
    #[error("the {field} {value} of pod {uid} does not parse or is too long")]
    Field {
        uid: PodUid,
        field: &'static str,
        value: Text,
    },
    #[error("pod {uid} wants {value}, which this agent does not know; update the agent")]
    Wanted { uid: PodUid, value: i32 },
    #[error("pod {uid} has more than {most} {field}")]
    TooMany {
        uid: PodUid,
        field: &'static str,
        most: usize,
    },
    #[error("{0} is not a namespace's name")]
    Namespace(Text),
    #[error("the state has more than {most} {what}")]
    TooLarge { what: &'static str, most: usize },
}

/// Untrusted text, shortened and escaped when shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text(String);

impl Text {
    fn new(text: &str) -> Self {
        Self(text.chars().take(80).collect())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A revision; every batch has one.
pub fn revision(message: Option<proto::SourceRevision>) -> Result<Revision, InvalidState> {
    let message = message.ok_or(InvalidState::NoRevision)?;
    let proto::SourceRevision {
        source,
        pods,
        namespaces,
    } = message;
    if !is_key(&source) {
        return Err(InvalidState::Source(Text::new(&source)));
    }
    Ok(Revision {
        source,
        pods,
        namespaces,
    })
}

/// A pod's uid.
pub fn uid(text: &str) -> Result<PodUid, InvalidState> {
    let uid = is_key(text).then(|| PodUid::new(text)).flatten();
    uid.ok_or_else(|| InvalidState::Uid(Text::new(text)))
}

/// A namespace's name.
pub fn namespace(name: String) -> Result<String, InvalidState> {
    if is_namespace(&name) {
        return Ok(name);
    }
    Err(InvalidState::Namespace(Text::new(&name)))
}

/// What is wanted of one pod.
pub fn intent(message: proto::PodIntent) -> Result<Intent, InvalidState> {
    let uid = uid(&message.uid)?;
    let check = |fits: bool, field: &'static str, value: &str| {
        if fits {
            return Ok(());
        }
        Err(InvalidState::Field {
            uid: uid.clone(),
            field,
            value: Text::new(value),
        })
    };
    check(
        is_namespace(&message.namespace),
        "namespace",
        &message.namespace,
    )?;
    check(is_name(&message.name, LONGEST_NAME), "name", &message.name)?;
    check(
        is_key(&message.intent_hash),
        "intent hash",
        &message.intent_hash,
    )?;
    let addresses = addresses(&uid, &message.addresses)?;
    let intent = Intent {
        namespace: message.namespace,
        name: message.name,
        wanted: wanted(&uid, message.wanted)?,
        hash: message.intent_hash,
        addresses,
        // From an annotation, which anybody may write: one that no runtime can
        // mean must not cost the node its state.
        static_uid: Some(message.static_uid).filter(|text| is_key(text)),
        host_ports: host_ports(&uid, &message.host_ports)?,
        host_network: message.host_network,
        message: shortened(message.message),
        uid,
    };
    Ok(without_unusable(intent))
}

/// A rule for an address that is not the pod's own would take other traffic:
/// such a pod is not captured, and the others are not affected.
fn without_unusable(mut intent: Intent) -> Intent {
    let unusable = intent
        .addresses
        .iter()
        .find(|address| !is_usable(address))
        .copied();
    let Some(address) = unusable else {
        return intent;
    };
    intent.addresses.retain(is_usable);
    if matches!(intent.wanted, Wanted::Captured | Wanted::Releasing) {
        intent.wanted = Wanted::Unsupported;
        intent.message = format!(
            "address {address} is no address of one pod; give the pod another or take it out of \
             the mesh"
        );
    }
    intent
}

fn shortened(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(LONGEST_MESSAGE) {
        message.truncate(end);
    }
    message
}

fn wanted(uid: &PodUid, value: i32) -> Result<Wanted, InvalidState> {
    match proto::Wanted::try_from(value) {
        Ok(proto::Wanted::Nothing) => Ok(Wanted::Nothing),
        Ok(proto::Wanted::Captured) => Ok(Wanted::Captured),
        Ok(proto::Wanted::Releasing) => Ok(Wanted::Releasing),
        Ok(proto::Wanted::Proxy) => Ok(Wanted::Proxy),
        Ok(proto::Wanted::Unsupported) => Ok(Wanted::Unsupported),
        Ok(proto::Wanted::Unspecified) | Err(_) => Err(InvalidState::Wanted {
            uid: uid.clone(),
            value,
        }),
    }
}

fn addresses(uid: &PodUid, given: &[String]) -> Result<BTreeSet<IpAddr>, InvalidState> {
    bounded(uid, "addresses", given.len(), MOST_ADDRESSES)?;
    let parse = |text: &String| {
        text.parse().map_err(|_| InvalidState::Field {
            uid: uid.clone(),
            field: "address",
            value: Text::new(text),
        })
    };
    given.iter().map(parse).collect()
}

fn is_usable(address: &IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || Ipv6Addr::to_ipv4_mapped(v6).is_some(),
    };
    !special && !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

fn host_ports(uid: &PodUid, given: &[u32]) -> Result<BTreeSet<u16>, InvalidState> {
    bounded(uid, "host ports", given.len(), MOST_HOST_PORTS)?;
    let parse = |port: &u32| {
        let parsed = u16::try_from(*port).ok().filter(|port| *port > 0);
        parsed.ok_or_else(|| InvalidState::Field {
            uid: uid.clone(),
            field: "host port",
            value: Text::new(&port.to_string()),
        })
    };
    given.iter().map(parse).collect()
}

fn bounded(
    uid: &PodUid,
    field: &'static str,
    count: usize,
    most: usize,
) -> Result<(), InvalidState> {
    if count <= most {
        return Ok(());
    }
    Err(InvalidState::TooMany {
        uid: uid.clone(),
        field,
        most,
    })
}

fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}

fn is_namespace(text: &str) -> bool {
    is_name(text, LONGEST_NAMESPACE) && !text.contains('.')
}

fn is_name(text: &str, longest: usize) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
    (1..=longest).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;
