//! The stand-in proxy as a DaemonSet, and what a mesh's control plane would tell
//! it: who is where, and who is captured.

use std::{net::IpAddr, path::Path};

use serde_json::{Value, json};

use crate::{
    lab::wait,
    stand_in::{CaFiles, ConnectionLog},
    workloads::{Policy, Protocol, Service, Workload, Workloads},
};

use super::{Cluster, SETTLE, tools};

pub const NAMESPACE: &str = "istio-system";
pub const DAEMON_SET: &str = "ztunnel";
/// What says that a pod is captured, and so is spoken to through its proxy.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
const MANIFEST: &str = "deploy/examples/stand-in-proxy.yaml";
const MESH: &str = "stand-in-mesh";
const CA: &str = "stand-in-ca";
const FILE: &str = "workloads.yaml";
/// What a proxy says when it has read its file again.
const READ: &str = "workload file re-read";

impl Cluster {
    /// Puts the proxies on all nodes and waits for them.
    pub fn start_proxies(&self) {
        self.create_namespace(NAMESPACE, &json!({}));
        let files = CaFiles::create(self.dir()).expect("a CA of the mesh");
        let ca = json!({"ca.crt": read(&files.cert), "ca.key": read(&files.key)});
        self.apply(&object("Secret", CA, "stringData", &ca));
        self.apply(&mesh_file(&Workloads::default().to_yaml()));
        let manifest = tools::project().join(MANIFEST);
        self.kubectl(&["apply", "-f", &manifest.display().to_string()]);
        self.wait_proxies();
    }

    pub fn wait_proxies(&self) {
        let set = format!("ds/{DAEMON_SET}");
        self.wait_rollout(NAMESPACE, &set);
    }

    /// Tells the proxies of the pods and Services of a namespace, as the API server
    /// has them now; waits until every proxy has read it.
    pub fn publish(&self, namespace: &str, policies: &[Policy]) {
        let text = self.mesh(namespace, policies).to_yaml();
        let known = self.get(&["-n", NAMESPACE, "configmap", MESH]);
        if known["data"][FILE] == *text {
            return;
        }
        let pods = self.proxies();
        let reads = |pod: &str| {
            let log = self.kubectl(&["logs", "-n", NAMESPACE, pod]);
            log.matches(READ).count()
        };
        let before: Vec<usize> = pods.iter().map(|pod| reads(pod)).collect();
        self.apply(&mesh_file(&text));
        for (pod, before) in pods.iter().zip(before) {
            // kubelet looks at a pod that changes at once, and at its files then.
            let now = format!("sluice.dev/test-nudge={}", before + 1);
            self.kubectl(&["annotate", "--overwrite", "-n", NAMESPACE, "pod", pod, &now]);
            let read = wait::until(SETTLE, || reads(pod) > before);
            assert!(read, "{pod} has not read its new file:\n{text}");
        }
    }

    /// The mesh of one namespace.
    fn mesh(&self, namespace: &str, policies: &[Policy]) -> Workloads {
        let items = |kind: &str| {
            let list = self.get(&["-n", namespace, kind]);
            list["items"].as_array().cloned().unwrap_or_default()
        };
        let services: Vec<(Service, Value)> =
            items("services").iter().filter_map(service).collect();
        let workloads = items("pods");
        let workloads = workloads.iter().filter_map(|pod| {
            let mine = services
                .iter()
                .filter(|(_, selector)| selects(selector, pod));
            let start = workload(namespace, pod)?;
            Some(mine.fold(start, |workload, (service, _)| workload.serving(service)))
        });
        Workloads {
            workloads: workloads.collect(),
            services: services
                .iter()
                .map(|(service, _)| service.clone())
                .collect(),
            policies: policies.to_vec(),
        }
    }

    /// Names of the proxies' pods, in the order of the nodes.
    pub fn proxies(&self) -> Vec<String> {
        let nodes = self.nodes.iter();
        nodes.map(|node| self.proxy_of(&node.name)).collect()
    }

    /// Name of the proxy's pod of a node.
    pub fn proxy_of(&self, node: &str) -> String {
        self.pod_of_node(NAMESPACE, &format!("app={DAEMON_SET}"), node)
    }

    /// What the proxy of a node has logged of connections, in this life.
    pub fn connections(&self, node: &str) -> Vec<ConnectionLog> {
        let log = self.kubectl(&["logs", "-n", NAMESPACE, &self.proxy_of(node)]);
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until the proxy of a node has logged, after `mark`, a connection that
    /// is wanted.
    pub fn wait_connection(
        &self,
        node: &str,
        mark: usize,
        what: &str,
        wanted: impl Fn(&ConnectionLog) -> bool,
    ) -> ConnectionLog {
        wait::value(
            &format!("the proxy of {node} to log {what}"),
            SETTLE,
            || {
                let all = self.connections(node);
                let later = all.get(mark..).unwrap_or_default();
                let found = later.iter().find(|line| wanted(line)).cloned();
                found.ok_or_else(|| format!("{later:#?}"))
            },
        )
    }
}

fn mesh_file(text: &str) -> Value {
    object("ConfigMap", MESH, "data", &json!({ FILE: text }))
}

fn object(kind: &str, name: &str, field: &str, content: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"namespace": NAMESPACE, "name": name},
        field: content,
    })
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file just written")
}

/// A pod with addresses of its own, spoken to as its annotation says.
fn workload(namespace: &str, pod: &Value) -> Option<Workload> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    if spec["hostNetwork"] == true || ended {
        return None;
    }
    let list = status["podIPs"].as_array()?;
    let ips: Vec<IpAddr> = list
        .iter()
        .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
        .collect();
    let (name, node) = (
        pod["metadata"]["name"].as_str()?,
        spec["nodeName"].as_str()?,
    );
    let mut workload = Workload::hbone(namespace, name, node, &ips);
    if pod["metadata"]["annotations"][REDIRECTION] != "enabled" {
        workload.protocol = Protocol::Tcp;
    }
    Some(workload)
}

/// A Service with one port, and what it selects.
fn service(service: &Value) -> Option<(Service, Value)> {
    let (meta, spec) = (&service["metadata"], &service["spec"]);
    let port = |field: &str| u16::try_from(spec["ports"][0][field].as_u64()?).ok();
    let ips: Vec<IpAddr> = spec["clusterIPs"]
        .as_array()?
        .iter()
        .filter_map(|ip| ip.as_str()?.parse().ok())
        .collect();
    let made = Service::new(
        meta["namespace"].as_str()?,
        meta["name"].as_str()?,
        &ips,
        port("port")?,
        port("targetPort")?,
    );
    Some((made, spec["selector"].clone()))
}

fn selects(selector: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    let wanted = selector.as_object();
    wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
}
