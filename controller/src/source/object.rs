//! What every source does with an object's fields: the checks that Kubernetes
//! makes, and what of it is kept.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::model::{Interner, Relevant, Uid};

/// Of a static pod, set by the kubelet on its mirror.
pub(super) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Characters of a DNS subdomain.
pub(super) const MAX_NAME: usize = 253;
/// Characters of a DNS label.
pub(super) const MAX_LABEL: usize = 63;
/// Of one pod.
pub(super) const MAX_ADDRESSES: usize = 16;
/// Of one pod.
pub(super) const MAX_HOST_PORTS: usize = 256;
const MAX_UID: usize = 128;

/// Labels or annotations as they are written.
pub(super) type Map = Option<BTreeMap<String, Option<String>>>;

/// Keeps what is relevant, and each name once.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    relevant: Relevant,
    names: Interner,
}

impl Keeper {
    pub(super) fn new(relevant: Relevant) -> Self {
        Self {
            relevant,
            names: Interner::default(),
        }
    }

    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        self.names.get(name)
    }

    pub(super) fn labels(&mut self, map: Map) -> BTreeMap<Arc<str>, Arc<str>> {
        let Self { relevant, names } = self;
        keep(map, names, |key| relevant.label(key))
    }

    pub(super) fn annotations(&mut self, map: Map) -> BTreeMap<Arc<str>, Arc<str>> {
        let Self { relevant, names } = self;
        keep(map, names, |key| relevant.annotation(key))
    }
}

fn keep(
    map: Map,
    names: &mut Interner,
    relevant: impl Fn(&str) -> bool,
) -> BTreeMap<Arc<str>, Arc<str>> {
    let relevant = map.into_iter().flatten().filter(|(key, _)| relevant(key));
    relevant
        .map(|(key, value)| {
            let value = value.unwrap_or_default();
            (names.get(&key), names.get(Relevant::value(&value)))
        })
        .collect()
}

/// A DNS subdomain (with [`MAX_LABEL`], one label): what Kubernetes would
/// accept.
pub(super) fn check_name(name: &str, field: &str, max: usize) -> Result<(), String> {
    let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|c| is_inner(*c))
            && bytes.last().is_some_and(|c| is_inner(*c))
            && bytes.iter().all(|c| is_inner(*c) || *c == b'-')
    };
    let is_name = name.len() <= max
        && name.split('.').all(is_label)
        && (max > MAX_LABEL || !name.contains('.'));
    if is_name {
        return Ok(());
    }
    Err(format!(
        "{field} {name:?} is not a name: lower-case letters, digits, '-' inside, \
         at most {max} characters"
    ))
}

pub(super) fn check_uid(uid: &str) -> Result<(), String> {
    if uid.len() > MAX_UID || !uid.bytes().all(|c| c.is_ascii_graphic() && c != b'/') {
        return Err(format!(
            "metadata.uid {uid:?} is not a uid: at most {MAX_UID} printable characters without '/'"
        ));
    }
    Ok(())
}

/// What the runtime knows a static pod by.
pub(super) fn static_uid(annotations: &Map) -> Result<Option<Uid>, String> {
    let hash = annotations.as_ref().and_then(|map| map.get(CONFIG_HASH));
    let hash = hash.and_then(Option::as_deref).unwrap_or_default();
    if hash.len() > MAX_UID || !hash.bytes().all(|c| c.is_ascii_graphic()) {
        let shown: String = hash.chars().take(MAX_UID).collect();
        return Err(format!(
            "annotation {CONFIG_HASH} {shown:?} is not a hash: at most {MAX_UID} printable \
             characters"
        ));
    }
    Ok((!hash.is_empty()).then(|| hash.into()))
}

/// True for a pod that has no sandbox any more.
pub(super) fn is_completed(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A pod's address. A pod on the host's network has the host's addresses, which
/// nobody captures.
pub(super) fn address(text: &str, host_network: bool) -> Result<IpAddr, String> {
    let shown = Relevant::value(text);
    let not = |what: &str| format!("pod address {shown:?} is {what}");
    let address = text.parse().map_err(|_| not("not an IP address"))?;
    match nobodys(&address).filter(|_| !host_network) {
        Some(kind) => Err(not(&format!("{kind}, and no address of one pod"))),
        None => Ok(address),
    }
}

// Kinds of addresses that would take other people's traffic if they were
// captured.
fn nobodys(address: &IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => return Some("the broadcast address"),
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            return Some("IPv4-mapped");
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        Some("link-local")
    } else if address.is_unspecified() {
        Some("unspecified")
    } else if address.is_loopback() {
        Some("loopback")
    } else {
        address.is_multicast().then_some("multicast")
    }
}

/// True for the protocol of a port that is TCP.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// A host port; zero is how Kubernetes says none.
pub(super) fn host_port(number: i64) -> Result<Option<u16>, String> {
    match u16::try_from(number) {
        Ok(number) => Ok((number != 0).then_some(number)),
        Err(_) => Err(format!("hostPort {number} is not a port")),
    }
}
