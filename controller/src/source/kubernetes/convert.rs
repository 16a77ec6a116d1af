//! From what the API server says to what is kept.
//!
//! The API server has checked names and types; what it has not checked (an
//! address that a kubelet reported) is left out and told, and the rest of the
//! pod stays in use: one odd pod must not stand in anybody's way.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{collection::Change, document};
use crate::{
    index::Update,
    model::{Name, Namespace, Pod, Relevant, Uid, Versioned},
    source::object::{
        self, Keeper, MAX_ADDRESSES, MAX_HOST_PORTS, MAX_LABEL, MAX_NAME, check_name, check_uid,
    },
};

/// An object of a collection: what it is known by, which version of it this
/// is, and what of it could not be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Object<K, T> {
    pub key: K,
    pub version: u64,
    pub body: T,
    pub left_out: Vec<String>,
}

/// One collection of the API server.
pub(super) trait Kind: Send + 'static {
    /// As the API server writes it.
    type Document: Clone + serde::de::DeserializeOwned + Send + 'static;
    /// What an object is known by.
    type Key: Clone + Eq + Ord + std::hash::Hash + Send + Sync + 'static;
    /// What of it is kept.
    type Body: Clone + Eq + Versioned + Send + Sync + 'static;

    const NAME: &'static str;
    const PATH: &'static str;
    /// Only metadata is asked for.
    const METADATA_ONLY: bool;

    /// What every object has.
    fn metadata(document: &Self::Document) -> &document::Metadata;

    /// Its resource version, as it is written.
    fn version(document: &Self::Document) -> String {
        let version = &Self::metadata(document).resource_version;
        version.clone().unwrap_or_default()
    }

    /// In the words of the index.
    fn update(change: Change<Self::Key, Self::Body>) -> Update;

    /// Which object it is, for people.
    fn place(body: &Self::Body) -> String;

    /// What is kept of an object, or why the answer that has it cannot be
    /// believed.
    fn convert(
        &mut self,
        document: Self::Document,
    ) -> Result<Object<Self::Key, Self::Body>, String>;
}

/// Pods of the whole cluster.
#[derive(Debug)]
pub(super) struct Pods(Keeper);

/// Namespaces, by their metadata.
#[derive(Debug)]
pub(super) struct Namespaces(Keeper);

impl Pods {
    pub(super) fn new(relevant: Relevant) -> Self {
        Self(Keeper::new(relevant))
    }
}

impl Namespaces {
    pub(super) fn new(relevant: Relevant) -> Self {
        Self(Keeper::new(relevant))
    }
}

impl Kind for Namespaces {
    type Document = document::Namespace;
    type Key = Name;
    type Body = Namespace;

    const NAME: &'static str = "namespaces";
    const PATH: &'static str = "/api/v1/namespaces";
    const METADATA_ONLY: bool = true;

    fn metadata(document: &Self::Document) -> &document::Metadata {
        &document.metadata
    }

    fn update(change: Change<Name, Namespace>) -> Update {
        match change {
            Change::Is(namespace) => Update::Namespace(namespace),
            Change::Gone(name) => Update::NamespaceGone(name),
        }
    }

    fn place(namespace: &Namespace) -> String {
        format!("namespace {}", namespace.name)
    }

    fn convert(&mut self, document: Self::Document) -> Result<Object<Name, Namespace>, String> {
        let metadata = document.metadata;
        let version = version(metadata.resource_version.as_deref())?;
        let name = present(metadata.name, "metadata.name")?;
        check_name(&name, "metadata.name", MAX_LABEL)?;
        let name = self.0.name(&name);
        let labels = self.0.labels(metadata.labels);
        Ok(Object {
            key: Arc::clone(&name),
            version,
            body: Namespace { name, labels },
            left_out: Vec::new(),
        })
    }
}

impl Kind for Pods {
    type Document = document::Pod;
    type Key = Uid;
    type Body = Arc<Pod>;

    const NAME: &'static str = "pods";
    const PATH: &'static str = "/api/v1/pods";
    const METADATA_ONLY: bool = false;

    fn metadata(document: &Self::Document) -> &document::Metadata {
        &document.metadata
    }

    fn update(change: Change<Uid, Arc<Pod>>) -> Update {
        match change {
            Change::Is(pod) => Update::Pod(pod),
            Change::Gone(uid) => Update::PodGone(uid),
        }
    }

    fn place(pod: &Arc<Pod>) -> String {
        format!("pod {}/{}", pod.namespace, pod.name)
    }

    fn convert(&mut self, pod: Self::Document) -> Result<Object<Uid, Arc<Pod>>, String> {
        let document::Pod {
            metadata,
            spec,
            status,
        } = pod;
        let version = version(metadata.resource_version.as_deref())?;
        let uid = present(metadata.uid, "metadata.uid")?;
        check_uid(&uid)?;
        let name = present(metadata.name, "metadata.name")?;
        check_name(&name, "metadata.name", MAX_NAME)?;
        let namespace = present(metadata.namespace, "metadata.namespace")?;
        check_name(&namespace, "metadata.namespace", MAX_LABEL)?;
        let node = self.name(spec.node_name.as_deref(), "spec.nodeName")?;
        let account = self.name(
            spec.service_account_name.as_deref(),
            "spec.serviceAccountName",
        )?;
        let mut left_out = Vec::new();
        let host_network = spec.host_network.unwrap_or_default();
        let static_uid = object::static_uid(&metadata.annotations);
        let uid: Uid = uid.into();
        let pod = Pod {
            uid: Arc::clone(&uid),
            namespace: self.0.name(&namespace),
            name: name.into(),
            node,
            service_account: account.unwrap_or_else(|| self.0.name("default")),
            labels: self.0.labels(metadata.labels),
            annotations: self.0.annotations(metadata.annotations),
            host_network,
            completed: object::is_completed(status.phase.as_deref()),
            addresses: addresses(status, host_network, &mut left_out),
            host_ports: host_ports(spec, &mut left_out),
            static_uid: note(static_uid, &mut left_out).flatten(),
            version: version.into(),
        };
        Ok(Object {
            key: uid,
            version,
            body: pod.into(),
            left_out,
        })
    }
}

impl Pods {
    // Absent when it is not set, or set to nothing.
    fn name(&mut self, name: Option<&str>, field: &str) -> Result<Option<Name>, String> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        check_name(name, field, MAX_NAME)?;
        Ok(Some(self.0.name(name)))
    }
}

fn present(text: Option<String>, field: &str) -> Result<String, String> {
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| format!("an object without {field}"))
}

/// A resource version, or 0 for one that is no number. Officially they are
/// opaque; in every API server they are etcd's revision, which only grows, and
/// from Kubernetes 1.35 on that is promised.
pub(super) fn version(text: Option<&str>) -> Result<u64, String> {
    match text.unwrap_or_default() {
        "" => Err("an answer without metadata.resourceVersion".to_owned()),
        text => Ok(text.parse().unwrap_or(0)),
    }
}

fn note<T>(result: Result<T, String>, left_out: &mut Vec<String>) -> Option<T> {
    result.map_err(|reason| left_out.push(reason)).ok()
}

fn addresses(
    status: document::Status,
    host_network: bool,
    left_out: &mut Vec<String>,
) -> BTreeSet<IpAddr> {
    let all = status.pod_ips.unwrap_or_default().into_iter();
    let all = all.filter_map(|ip| ip.ip).chain(status.pod_ip);
    let mut addresses = BTreeSet::new();
    for text in all.filter(|text| !text.is_empty()) {
        addresses.extend(note(object::address(&text, host_network), left_out));
        if addresses.len() == MAX_ADDRESSES {
            break;
        }
    }
    addresses
}

fn host_ports(spec: document::Spec, left_out: &mut Vec<String>) -> BTreeSet<u16> {
    let containers = spec.containers.into_iter().chain(spec.init_containers);
    let ports = containers
        .flatten()
        .flat_map(|container| container.ports.unwrap_or_default())
        .filter(|port| object::is_tcp(port.protocol.as_deref()))
        .filter_map(|port| port.host_port);
    let mut host_ports = BTreeSet::new();
    for number in ports {
        host_ports.extend(note(object::host_port(number), left_out).flatten());
    }
    if host_ports.len() > MAX_HOST_PORTS {
        left_out.push(format!("more than {MAX_HOST_PORTS} host ports"));
        host_ports = host_ports.into_iter().take(MAX_HOST_PORTS).collect();
    }
    host_ports
}

#[cfg(test)]
mod tests;
