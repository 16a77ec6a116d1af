//! From what is written to what is meant, with the checks Kubernetes makes.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    Wrong,
    document::{self, Container, Metadata, Spec, Status, Text},
};
use crate::{
    model::{Namespace, Pod, Relevant, Uid},
    source::object::{self, Keeper, MAX_ADDRESSES, MAX_HOST_PORTS, MAX_LABEL, MAX_NAME},
};

pub(super) struct Converter(Keeper);

impl Converter {
    pub(super) fn new(relevant: Relevant) -> Self {
        Self(Keeper::new(relevant))
    }

    pub(super) fn namespace(
        &mut self,
        namespace: document::Namespace,
        line: u64,
    ) -> Result<Namespace, Wrong> {
        let metadata = required(namespace.metadata, "metadata", line)?;
        let name = required(metadata.name, "metadata.name", line)?;
        check_name(&name, "metadata.name", MAX_LABEL)?;
        Ok(Namespace {
            name: self.0.name(&name.value),
            labels: self.0.labels(metadata.labels),
        })
    }

    pub(super) fn pod(&mut self, pod: document::Pod, line: u64) -> Result<Pod, Wrong> {
        let metadata = required(pod.metadata, "metadata", line)?;
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let name = required(metadata.name.clone(), "metadata.name", line)?;
        check_name(&name, "metadata.name", MAX_NAME)?;
        let namespace = self.name(metadata.namespace.as_ref(), "metadata.namespace", MAX_LABEL)?;
        let namespace = namespace.unwrap_or_else(|| self.0.name("default"));
        let account = spec.service_account_name.as_ref();
        let account = self.name(account, "spec.serviceAccountName", MAX_NAME)?;
        let node = self.name(spec.node_name.as_ref(), "spec.nodeName", MAX_NAME)?;
        let static_uid = object::static_uid(&metadata.annotations);
        Ok(Pod {
            uid: uid(&metadata, &namespace, &name.value)?,
            static_uid: static_uid.map_err(|reason| wrong(line, reason))?,
            version: 0.into(),
            namespace,
            name: name.value.into(),
            node,
            service_account: account.unwrap_or_else(|| self.0.name("default")),
            labels: self.0.labels(metadata.labels),
            annotations: self.0.annotations(metadata.annotations),
            host_network: spec.host_network.unwrap_or_default(),
            completed: object::is_completed(status.phase.as_deref()),
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
        Ok(Some(self.0.name(&text.value)))
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

fn check_name(text: &Text, field: &str, max: usize) -> Result<(), Wrong> {
    object::check_name(&text.value, field, max)
        .map_err(|reason| wrong(text.referenced.line(), reason))
}

// Files written by people have no uid; the same pod then always gets the same
// one.
fn uid(metadata: &Metadata, namespace: &str, name: &str) -> Result<Uid, Wrong> {
    let Some(uid) = metadata.uid.as_ref().filter(|uid| !uid.value.is_empty()) else {
        return Ok(made_up_uid(namespace, name).into());
    };
    object::check_uid(&uid.value).map_err(|reason| wrong(uid.referenced.line(), reason))?;
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

fn addresses(status: Status, host_network: bool) -> Result<BTreeSet<IpAddr>, Wrong> {
    let all = status.pod_ips.unwrap_or_default();
    let all = all.into_iter().map(|ip| ip.ip).chain(status.pod_ip);
    let mut addresses = BTreeSet::new();
    for text in all.filter(|text| !text.value.is_empty()) {
        let line = text.referenced.line();
        let address = object::address(&text.value, host_network);
        addresses.insert(address.map_err(|reason| wrong(line, reason))?);
        if addresses.len() > MAX_ADDRESSES {
            let reason = format!("more than {MAX_ADDRESSES} pod addresses");
            return Err(wrong(line, reason));
        }
    }
    Ok(addresses)
}

fn host_ports(spec: Spec, line: u64) -> Result<BTreeSet<u16>, Wrong> {
    let containers = spec.containers.into_iter().chain(spec.init_containers);
    let ports = containers
        .flatten()
        .flat_map(|Container { ports }| ports.unwrap_or_default())
        .filter(|port| object::is_tcp(port.protocol.as_deref()));
    let mut host_ports = BTreeSet::new();
    for port in ports.filter_map(|port| port.host_port) {
        let number = object::host_port(port.value)
            .map_err(|reason| wrong(port.referenced.line(), reason))?;
        host_ports.extend(number);
    }
    if host_ports.len() > MAX_HOST_PORTS {
        return Err(wrong(
            line,
            format!("more than {MAX_HOST_PORTS} host ports"),
        ));
    }
    Ok(host_ports)
}
