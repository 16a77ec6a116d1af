//! The stand-in proxy as a DaemonSet: it learns from the API server who is where
//! and who is captured, as a real one would from istiod.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    lab::wait,
    stand_in::{CaFiles, ConnectionLog},
    workloads::{Policy, Workloads},
};

use super::{Cluster, SETTLE, tools};

pub const NAMESPACE: &str = "istio-system";
pub const DAEMON_SET: &str = "ztunnel";
/// What says that a pod is captured, and so is spoken to through its proxy.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
const MANIFEST: &str = "deploy/examples/stand-in-proxy.yaml";
const CA: &str = "stand-in-ca";
const POLICIES: &str = "stand-in-policies";
const FILE: &str = "policies.yaml";

impl Cluster {
    /// Puts the proxies on all nodes, as the example says, with policies.
    pub fn start_proxies(&self, policies: Vec<Policy>) {
        self.create_namespace(NAMESPACE, &json!({}));
        let files = CaFiles::create(self.dir()).expect("a CA of the mesh");
        let ca = json!({"ca.crt": read(&files.cert), "ca.key": read(&files.key)});
        self.apply(&object("Secret", CA, "stringData", &ca));
        let text = Workloads {
            policies,
            ..Workloads::default()
        }
        .to_yaml();
        self.apply(&object(
            "ConfigMap",
            POLICIES,
            "data",
            &json!({ FILE: text }),
        ));
        let manifest = read(&tools::project().join(MANIFEST));
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).expect("a manifest");
        let set = objects
            .iter_mut()
            .find(|object| object["kind"] == "DaemonSet");
        with_policies(&mut set.expect("a DaemonSet")["spec"]["template"]["spec"]);
        self.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}));
        self.wait_proxies();
    }

    pub fn wait_proxies(&self) {
        self.wait_rollout(NAMESPACE, &format!("ds/{DAEMON_SET}"));
    }

    /// Takes the proxies away, and what they have outside their namespace.
    pub fn remove_proxies(&self) {
        let manifest = tools::project().join(MANIFEST).display().to_string();
        self.kubectl(&[
            "delete",
            "--wait=false",
            "--ignore-not-found",
            "-f",
            &manifest,
        ]);
    }

    /// Name of the proxy's pod of a node.
    pub fn proxy_of(&self, node: &str) -> String {
        self.pod_of_node(NAMESPACE, &format!("app={DAEMON_SET}"), node)
    }

    /// What the proxy of a node has logged of connections, in this life.
    pub fn connections(&self, node: &str) -> Vec<ConnectionLog> {
        let log = self.log(NAMESPACE, &self.proxy_of(node));
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

/// Gives a proxy's pod the file with policies.
fn with_policies(spec: &mut Value) {
    let volume = json!({"name": "policies", "configMap": {"name": POLICIES}});
    push(&mut spec["volumes"], volume);
    let container = &mut spec["containers"][0];
    let mount = json!({"name": "policies", "mountPath": "/etc/policies", "readOnly": true});
    push(&mut container["volumeMounts"], mount);
    let flag = format!("--workloads=/etc/policies/{FILE}");
    push(&mut container["args"], json!(flag));
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
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
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
