//! kube-proxy.

use serde_json::{Value, json};

use crate::cluster::{address, options::Options, tools};

use super::Node;

pub(super) fn config(node: &str, options: &Options) -> Value {
    let family = options.family;
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
        "mode": options.proxy_mode.name(),
        "hostnameOverride": node,
        "bindAddress": if family.has_v4() { "0.0.0.0" } else { "::" },
        "clusterCIDR": family.list(address::PODS4, address::PODS6),
        "detectLocalMode": "ClusterCIDR",
        // The machine's limit is not a node's to change.
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}

impl Node {
    /// Starts kube-proxy.
    pub fn start_kube_proxy(&mut self) {
        self.stop_kube_proxy();
        let args = ["--config=/etc/kubernetes/kube-proxy.yaml".to_owned()];
        self.kube_proxy = Some(self.spawn("kube-proxy", &tools::kubernetes("kube-proxy"), &args));
    }
}
