//! Pods: a network namespace, attached by a real CNI chain.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::{
    APP, Lab,
    cni::{Attachment, Chain, CniError},
    folder::{MODE, PodDocument},
    netns::Netns,
    server::{Server, UdpServer},
};

/// Namespace of the proxies.
pub const PROXY_NAMESPACE: &str = "istio-system";

static UIDS: AtomicU32 = AtomicU32::new(1);

/// A pod to be made.
#[derive(Clone, Debug)]
pub struct PodSpec {
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Last part of its addresses.
    pub host: u8,
    pub namespace: String,
    pub service_account: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    pub host_ports: Vec<u16>,
    /// metadata.uid, if it matters.
    pub uid: String,
}

impl PodSpec {
    pub fn new(name: &str, node: &str, host: u8, namespace: &str) -> Self {
        let number = UIDS.fetch_add(1, Ordering::SeqCst);
        Self {
            name: name.into(),
            node: node.into(),
            host,
            namespace: namespace.into(),
            service_account: name.into(),
            labels: Vec::new(),
            annotations: Vec::new(),
            host_ports: Vec::new(),
            uid: format!("{:08x}-0000-4000-8000-{number:012x}", process::id()),
        }
    }

    /// The proxy's pod of a node.
    pub fn proxy(name: &str, node: &str) -> Self {
        let mut spec = Self::new(name, node, 9, PROXY_NAMESPACE);
        spec.service_account = "ztunnel".into();
        spec.labels.push(("app".into(), "ztunnel".into()));
        spec
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Opts the pod out of its namespace's mode.
    pub fn opted_out(self) -> Self {
        self.label(MODE, "none")
    }

    pub fn host_port(mut self, port: u16) -> Self {
        self.host_ports.push(port);
        self
    }

    pub fn is_proxy(&self) -> bool {
        self.namespace == PROXY_NAMESPACE
    }

    /// Its YAML, with the addresses it has by now.
    pub fn document(&self, addresses: &[IpAddr]) -> PodDocument {
        PodDocument {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            node: self.node.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            service_account: self.service_account.clone(),
            host_network: false,
            host_ports: self.host_ports.clone(),
            addresses: addresses.to_vec(),
        }
    }
}

/// A pod of the lab.
#[derive(Debug)]
pub struct Pod {
    pub spec: PodSpec,
    servers: (Option<Server>, Option<UdpServer>),
    pub netns: Netns,
    /// Host-side interface.
    pub link: String,
    pub ip4: Ipv4Addr,
    pub ip6: Ipv6Addr,
    pub attachment: Attachment,
    pub chain: Chain,
}

impl Pod {
    pub fn addresses(&self) -> Vec<IpAddr> {
        vec![self.ip4.into(), self.ip6.into()]
    }
}

impl Lab {
    /// A pod that was there before us: attached without our shim.
    pub fn pod_before(&mut self, spec: PodSpec) {
        self.attach(spec, false)
            .unwrap_or_else(|error| panic!("the chain without our shim: {error:?}"));
    }

    /// A pod made while our shim is installed.
    pub fn add_pod(&mut self, spec: PodSpec) {
        self.try_pod(spec)
            .unwrap_or_else(|error| panic!("the chain with our shim: {error:?}"));
    }

    /// The same, as a runtime does it: after a failure comes a DEL, and the
    /// pod is not there.
    pub fn try_pod(&mut self, spec: PodSpec) -> Result<(), CniError> {
        self.attach(spec, true)
    }

    fn attach(&mut self, spec: PodSpec, with_shim: bool) -> Result<(), CniError> {
        // Scheduled: known to the controller, no address yet.
        self.folder.pod(&spec.document(&[]));
        self.attach_unannounced(spec, with_shim)
    }

    /// Attaches a pod without telling the controller of it first.
    pub fn attach_unannounced(&mut self, spec: PodSpec, with_shim: bool) -> Result<(), CniError> {
        let (pod, chain, attachment) = self.sandbox(&spec, with_shim);
        let node = self.node(&spec.node).netns.clone();
        self.write_workloads();
        let result = chain.add(&node, &attachment).inspect_err(|_| {
            // What libcni's callers do. Its own failure is not the news.
            let _ = chain.del(&node, &attachment);
        })?;
        let (ip4, ip6) = addresses(&result);
        self.folder.pod(&spec.document(&[ip4.into(), ip6.into()]));
        let serve = !spec.is_proxy();
        let made = Pod {
            servers: (
                serve.then(|| Server::start(&pod, &spec.name, APP)),
                serve.then(|| UdpServer::start(&pod, &spec.name, APP)),
            ),
            netns: pod,
            link: host_link(&result),
            ip4,
            ip6,
            attachment,
            chain,
            spec,
        };
        self.pods.insert(made.spec.name.clone(), made);
        Ok(())
    }

    /// A pod's processes and namespace go without a word to anybody: no DEL,
    /// and its object stays. [`Lab::remove_pod`] tidies up later.
    pub fn vanish(&mut self, name: &str) {
        for node in &mut self.nodes {
            if Self::proxy_name(&node.name) == name {
                node.proxy = None;
            }
        }
        let pod = self.pods.get_mut(name);
        let pod = pod.unwrap_or_else(|| panic!("no pod {name} in the lab"));
        pod.servers = (None, None);
        pod.netns.delete();
    }

    /// A namespace for a pod, the chain that will attach it, and how.
    pub fn sandbox(&self, spec: &PodSpec, with_shim: bool) -> (Netns, Chain, Attachment) {
        let node = self.node(&spec.node);
        let number = UIDS.fetch_add(1, Ordering::SeqCst);
        let netns = self.netns(&format!("{}-{number}", spec.name));
        let mut chain = node.current_chain(with_shim);
        chain.plugins[0]["args"] = json!({
            "cni": { "ips": [node.pod4(spec.host), node.pod6(spec.host)] }
        });
        let attachment = Attachment {
            container_id: format!("{number:064x}"),
            netns: netns.path().display().to_string(),
            ifname: "eth0".into(),
            args: format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};\
                 K8S_POD_INFRA_CONTAINER_ID={number:064x};K8S_POD_UID={}",
                spec.namespace, spec.name, spec.uid
            ),
        };
        (netns, chain, attachment)
    }

    /// Ends a pod as a kubelet does: DEL, then its namespace, then its object.
    pub fn remove_pod(&mut self, name: &str) {
        let pod = self
            .pods
            .remove(name)
            .unwrap_or_else(|| panic!("no pod {name} in the lab"));
        let node = self.node(&pod.spec.node);
        // With directories of its own the runtime has read them again since.
        let chain = match &node.runtime {
            Some(_) => node.current_chain(true),
            None => pod.chain,
        };
        let node = node.netns.clone();
        let result = chain.del(&node, &pod.attachment);
        result.unwrap_or_else(|error| panic!("DEL of {name}: {error:?}"));
        self.folder.remove_pod(&pod.spec.document(&[]));
    }
}

fn addresses(result: &Value) -> (Ipv4Addr, Ipv6Addr) {
    let all: Vec<IpAddr> = result["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
        .collect();
    let v4 = all.iter().find_map(|ip| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    });
    let v6 = all.iter().find_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    v4.zip(v6)
        .unwrap_or_else(|| panic!("the CNI result lacks an address: {result}"))
}

fn host_link(result: &Value) -> String {
    result["interfaces"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|interface| interface["sandbox"].as_str().unwrap_or_default().is_empty())
        .and_then(|interface| interface["name"].as_str())
        .unwrap_or_else(|| panic!("the CNI result has no host-side interface: {result}"))
        .into()
}
