//! From what is written to what is meant, with the checks Kubernetes makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    Wrong,
    document::{self, Container, Metadata, Spec, Status, Text},
};
use crate::model::{Interner, Namespace, Pod, Relevant, Uid};

/// Of a static pod, set by the kubelet on its mirror.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
const MAX_UID: usize = 128;
const MAX_ADDRESSES: usize = 16;
const MAX_HOST_PORTS: usize = 256;

type Map = Option<BTreeMap<String, Option<String>>>;

pub(super) struct Converter {
    pub relevant: Relevant,
    pub names: Interner,
}

impl Converter {
    pub(super) fn namespace(
        &mut self,
        namespace: document::Namespace,
        line: u64,
    ) -> Result<Namespace, Wrong> {
        let metadata = required(namespace.metadata, "metadata", line)?;
        let name = required(metadata.name, "metadata.name", line)?;
        check_name(&name, "metadata.name", MAX_LABEL)?;
        let relevant = self.relevant.clone();
        Ok(Namespace {
            name: self.names.get(&name.value),
            labels: self.keep(metadata.labels, |key| relevant.label(key)),
        })
    }

    pub(super) fn pod(&mut self, pod: document::Pod, line: u64) -> Result<Pod, Wrong> {
        let metadata = required(pod.metadata, "metadata", line)?;
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let name = required(metadata.name.clone(), "metadata.name", line)?;
        check_name(&name, "metadata.name", MAX_NAME)?;
        let namespace = self.name(metadata.namespace.as_ref(), "metadata.namespace", MAX_LABEL)?;
        let namespace = namespace.unwrap_or_else(|| self.names.get("default"));
        let account = spec.service_account_name.as_ref();
        let account = self.name(account, "spec.serviceAccountName", MAX_NAME)?;
        let node = self.name(spec.node_name.as_ref(), "spec.nodeName", MAX_NAME)?;
        let relevant = self.relevant.clone();
        Ok(Pod {
            uid: uid(&metadata, &namespace, &name.value)?,
            static_uid: static_uid(&metadata, line)?,
            namespace,
            name: name.value.into(),
            node,
            service_account: account.unwrap_or_else(|| self.names.get("default")),
            labels: self.keep(metadata.labels, |key| relevant.label(key)),
            annotations: self.keep(metadata.annotations, |key| relevant.annotation(key)),
            host_network: spec.host_network.unwrap_or_default(),
            completed: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            addresses: addresses(status, spec.host_network.unwrap_or_default())?,
            host_ports: host_ports(spec, line)?,
        })
    }

    // Absent when it is not set, or set to nothing.
    fn name(
        &mut self,
        text: Option<&Text>,
        field: &str,
        max: usize,
    ) -> Result<Option<Arc<str>>, Wrong> {
        let Some(text) = text.filter(|text| !text.value.is_empty()) else {
            return Ok(None);
        };
        check_name(text, field, max)?;
        Ok(Some(self.names.get(&text.value)))
    }

    fn keep(&mut self, map: Map, relevant: impl Fn(&str) -> bool) -> BTreeMap<Arc<str>, Arc<str>> {
        let relevant = map.into_iter().flatten().filter(|(key, _)| relevant(key));
        relevant
            .map(|(key, value)| {
                let value = value.unwrap_or_default();
                (
                    self.names.get(&key),
                    self.names.get(Relevant::value(&value)),
                )
            })
            .collect()
    }
}

fn wrong(line: u64, reason: impl Into<String>) -> Wrong {
    Wrong {
        line,
        reason: reason.into(),
    }
}

fn required<T>(value: Option<T>, field: &str, line: u64) -> Result<T, Wrong> {
    value.ok_or_else(|| wrong(line, format!("{field} is missing")))
}

// A DNS subdomain (for a namespace, one label): what Kubernetes would accept.
fn check_name(text: &Text, field: &str, max: usize) -> Result<(), Wrong> {
    let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|c| is_inner(*c))
            && bytes.last().is_some_and(|c| is_inner(*c))
            && bytes.iter().all(|c| is_inner(*c) || *c == b'-')
    };
    let name = &text.value;
    let is_name = name.len() <= max
        && name.split('.').all(is_label)
        && (max > MAX_LABEL || !name.contains('.'));
    if is_name {
        return Ok(());
    }
    let reason = format!(
        "{field} {name:?} is not a name: lower-case letters, digits, '-' inside, \
         at most {max} characters"
    );
    Err(wrong(text.referenced.line(), reason))
}

// Files written by people have no uid; the same pod then always gets the same
// one.
fn uid(metadata: &Metadata, namespace: &str, name: &str) -> Result<Uid, Wrong> {
    let Some(uid) = metadata.uid.as_ref().filter(|uid| !uid.value.is_empty()) else {
        return Ok(made_up_uid(namespace, name).into());
    };
    if uid.value.len() > MAX_UID || !uid.value.bytes().all(|c| c.is_ascii_graphic() && c != b'/') {
        let reason = format!(
            "metadata.uid {:?} is not a uid: at most {MAX_UID} printable characters without '/'",
            uid.value
        );
        return Err(wrong(uid.referenced.line(), reason));
    }
    Ok(uid.value.as_str().into())
}

fn made_up_uid(namespace: &str, name: &str) -> String {
    let digest = digest(&SHA256, format!("{namespace}/{name}").as_bytes());
    let hex: String = digest.as_ref()[..16]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

fn static_uid(metadata: &Metadata, line: u64) -> Result<Option<Uid>, Wrong> {
    let annotations = metadata.annotations.as_ref();
    let hash = annotations.and_then(|annotations| annotations.get(CONFIG_HASH));
    let hash = hash.and_then(Option::as_deref).unwrap_or_default();
    if hash.len() > MAX_UID || !hash.bytes().all(|c| c.is_ascii_graphic()) {
        let shown: String = hash.chars().take(MAX_UID).collect();
        let reason = format!(
            "annotation {CONFIG_HASH} {shown:?} is not a hash: at most {MAX_UID} printable \
             characters"
        );
        return Err(wrong(line, reason));
    }
    Ok((!hash.is_empty()).then(|| hash.into()))
}

// A pod on the host's network has the host's addresses, which nobody captures.
fn addresses(status: Status, host_network: bool) -> Result<BTreeSet<IpAddr>, Wrong> {
    let all = status.pod_ips.unwrap_or_default();
    let all = all.into_iter().map(|ip| ip.ip).chain(status.pod_ip);
    let mut addresses = BTreeSet::new();
    for text in all.filter(|text| !text.value.is_empty()) {
        let line = text.referenced.line();
        let not = |what: &str| wrong(line, format!("pod address {:?} is {what}", text.value));
        let address = text.value.parse();
        let address = address.map_err(|_| not("not an IP address"))?;
        if let Some(kind) = nobodys(&address).filter(|_| !host_network) {
            return Err(not(&format!("{kind}, and no address of one pod")));
        }
        addresses.insert(address);
        if addresses.len() > MAX_ADDRESSES {
            let reason = format!("more than {MAX_ADDRESSES} pod addresses");
            return Err(wrong(line, reason));
        }
    }
    Ok(addresses)
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

fn host_ports(spec: Spec, line: u64) -> Result<BTreeSet<u16>, Wrong> {
    let containers = spec.containers.into_iter().chain(spec.init_containers);
    let ports = containers
        .flatten()
        .flat_map(|Container { ports }| ports.unwrap_or_default())
        .filter(|port| matches!(port.protocol.as_deref(), None | Some("" | "TCP")));
    let mut host_ports = BTreeSet::new();
    for port in ports.filter_map(|port| port.host_port) {
        let number = u16::try_from(port.value).map_err(|_| {
            let reason = format!("hostPort {} is not a port", port.value);
            wrong(port.referenced.line(), reason)
        })?;
        // Zero is how Kubernetes says none.
        if number != 0 {
            host_ports.insert(number);
        }
    }
    if host_ports.len() > MAX_HOST_PORTS {
        return Err(wrong(
            line,
            format!("more than {MAX_HOST_PORTS} host ports"),
        ));
    }
    Ok(host_ports)
}
