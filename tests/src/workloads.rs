//! The workload file: what a proxy knows of the mesh.
//!
//! It is the file that ztunnel reads from `LOCAL_XDS_PATH`, so one file serves
//! the stand-in and a real ztunnel. What this module does not understand is an
//! error and never ignored: a policy that is silently dropped is a hole that a
//! test would call a pass.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

mod policy;
mod write;

#[cfg(test)]
mod tests;

pub use policy::{Action, Match, Policy, Scope, StringMatch};

/// The largest file that is read.
const MAX_BYTES: u64 = 8 << 20;
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Everything in one workload file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workloads {
    #[serde(default)]
    pub workloads: Vec<Workload>,
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// How a workload is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Protocol {
    /// Plain TCP: it is not in the mesh.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// Through its node's proxy, over mutual TLS.
    #[serde(rename = "HBONE")]
    Hbone,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub name: String,
    pub namespace: String,
    #[serde(default = "default_service_account")]
    pub service_account: String,
    #[serde(default = "default_trust_domain")]
    pub trust_domain: String,
    pub workload_ips: Vec<IpAddr>,
    #[serde(default)]
    pub protocol: Protocol,
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub network: String,
    /// `namespace/name` of the policies whose scope is `WorkloadSelector`.
    #[serde(default)]
    pub authorization_policies: Vec<String>,
    /// `namespace/hostname` of a service to the port map of this endpoint.
    /// ztunnel insists that it is there.
    pub services: BTreeMap<String, BTreeMap<u16, u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    pub name: String,
    pub namespace: String,
    pub hostname: String,
    /// `<network>/<address>`; the network is empty here.
    pub vips: Vec<Vip>,
    pub ports: BTreeMap<u16, u16>,
}

/// A service address, written `<network>/<address>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Vip(pub IpAddr);

#[derive(Debug, thiserror::Error)]
pub enum WorkloadsError {
    #[error("failed to read the workload file {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the workload file {path} has {bytes} bytes; at most {MAX_BYTES} are read")]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("the workload file is not in ztunnel's local format")]
    Parse(#[source] Box<serde_saphyr::Error>),
    #[error("workload {uid:?} is on network {network:?}; only the empty network is understood")]
    Network { uid: String, network: String },
    #[error("{address} belongs to workload {first:?} and to {second:?}; addresses must be unique")]
    DuplicateAddress {
        address: IpAddr,
        first: String,
        second: String,
    },
    #[error("workload {uid:?} names the service {service:?}, which the file does not have")]
    UnknownService { uid: String, service: String },
    #[error("workload {uid:?} names the policy {policy:?}, which the file does not have")]
    UnknownPolicy { uid: String, policy: String },
}

impl Workloads {
    /// Reads what [`Workloads::to_yaml`] writes and what ztunnel's local
    /// format allows of it.
    pub fn parse(text: &str) -> Result<Self, WorkloadsError> {
        let all: Self =
            serde_saphyr::from_str(text).map_err(|error| WorkloadsError::Parse(Box::new(error)))?;
        all.check()?;
        Ok(all)
    }

    pub fn read(path: &Path) -> Result<Self, WorkloadsError> {
        Self::parse(&read_bounded(path)?)
    }

    /// Replaces the file as a whole: a reader sees the old one or the new one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".new");
        fs::write(&partial, self.to_yaml())?;
        fs::rename(&partial, path)
    }

    fn check(&self) -> Result<(), WorkloadsError> {
        let mut owners = BTreeMap::<IpAddr, &str>::new();
        for workload in &self.workloads {
            self.check_references(workload)?;
            for address in &workload.workload_ips {
                if let Some(first) = owners.insert(*address, &workload.uid) {
                    return Err(WorkloadsError::DuplicateAddress {
                        address: *address,
                        first: first.to_owned(),
                        second: workload.uid.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn check_references(&self, workload: &Workload) -> Result<(), WorkloadsError> {
        let uid = || workload.uid.clone();
        if !workload.network.is_empty() {
            let network = workload.network.clone();
            return Err(WorkloadsError::Network {
                uid: uid(),
                network,
            });
        }
        let known = |key: &String| self.services.iter().any(|service| service.key() == *key);
        if let Some(service) = workload.services.keys().find(|key| !known(key)) {
            let service = service.clone();
            return Err(WorkloadsError::UnknownService {
                uid: uid(),
                service,
            });
        }
        let known = |key: &&String| self.policies.iter().any(|policy| policy.key() == **key);
        if let Some(policy) = workload
            .authorization_policies
            .iter()
            .find(|key| !known(key))
        {
            let policy = policy.clone();
            return Err(WorkloadsError::UnknownPolicy { uid: uid(), policy });
        }
        Ok(())
    }
}

impl Workload {
    /// A workload in the mesh; the service account is named like the pod.
    pub fn hbone(namespace: &str, name: &str, node: &str, addresses: &[IpAddr]) -> Self {
        Self {
            uid: format!("Kubernetes//Pod/{namespace}/{name}"),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            service_account: name.to_owned(),
            trust_domain: default_trust_domain(),
            workload_ips: addresses.to_vec(),
            protocol: Protocol::Hbone,
            node: node.to_owned(),
            network: String::new(),
            authorization_policies: Vec::new(),
            services: BTreeMap::new(),
        }
    }

    /// Makes this an endpoint of `service`, with the ports of the service.
    pub fn serving(mut self, service: &Service) -> Self {
        self.services.insert(service.key(), service.ports.clone());
        self
    }
}

impl Service {
    /// `name` in `namespace` at `vips`, with one port.
    pub fn new(namespace: &str, name: &str, vips: &[IpAddr], port: u16, target: u16) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            hostname: format!("{name}.{namespace}.svc.{DEFAULT_TRUST_DOMAIN}"),
            vips: vips.iter().copied().map(Vip).collect(),
            ports: BTreeMap::from([(port, target)]),
        }
    }

    /// How workloads name this service.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.hostname)
    }
}

impl TryFrom<String> for Vip {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (network, address) = text
            .split_once('/')
            .ok_or_else(|| format!("{text:?} is not <network>/<address>"))?;
        if !network.is_empty() {
            return Err(format!("{text:?}: only the empty network is understood"));
        }
        address
            .parse()
            .map(Vip)
            .map_err(|error| format!("{text:?}: {error}"))
    }
}

fn read_bounded(path: &Path) -> Result<String, WorkloadsError> {
    let failed = |source| WorkloadsError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        let path = path.to_owned();
        return Err(WorkloadsError::TooLarge { path, bytes });
    }
    fs::read_to_string(path).map_err(failed)
}

fn default_service_account() -> String {
    "default".to_owned()
}

fn default_trust_domain() -> String {
    DEFAULT_TRUST_DOMAIN.to_owned()
}
