//! kubelet.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::cluster::{files, tools};

use super::Node;

/// Where kubelet finds static pods.
pub(super) const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Settings for a machine that has neither systemd nor a whole cgroup tree to
/// give away: pods are put below one group, and nothing is reserved or evicted.
pub(super) fn config(cgroup: &str, dns: IpAddr) -> Value {
    let pki = |name: &str| format!("/etc/kubernetes/pki/{name}");
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki("kubelet-server.key"),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDNS": [dns],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "cgroupsPerQOS": false,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "protectKernelDefaults": true,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "maxPods": 250,
        "serializeImagePulls": false,
        "shutdownGracePeriod": "0s",
        "staticPodPath": MANIFESTS,
    })
}

impl Node {
    /// Has kubelet run a pod by itself, named `NAME-NODE`.
    pub fn write_static_pod(&self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        files::write_json(&self.path(&static_pod(name)), pod);
    }

    pub fn remove_static_pod(&self, name: &str) {
        self.run("rm", &[&static_pod(name)]);
    }

    /// Starts kubelet. The node is ready some time later.
    pub fn start_kubelet(&mut self) {
        self.stop_kubelet();
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let mut args = vec![
            "--config=/etc/kubernetes/kubelet.yaml".to_owned(),
            "--kubeconfig=/etc/kubernetes/kubelet.conf".to_owned(),
            format!("--hostname-override={}", self.name),
            format!("--node-ip={}", addresses.join(",")),
            "--v=2".to_owned(),
        ];
        if !self.taints.is_empty() {
            args.push(format!("--register-with-taints={}", self.taints.join(",")));
        }
        self.kubelet = Some(self.spawn("kubelet", &tools::kubernetes("kubelet"), &args));
    }
}

fn static_pod(name: &str) -> String {
    format!("{MANIFESTS}/{name}.json")
}
