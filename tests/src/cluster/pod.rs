//! Pods that run the tests' workload.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Cluster, SETTLE, image};

/// Where every workload listens.
pub const APP: u16 = 8080;

/// A pod on `node` that answers on [`APP`], with the label `app: NAME`. It is
/// ready when its own readiness probe says so.
pub fn workload(namespace: &str, name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": false,
            "containers": [{
                "name": "workload",
                "image": image::WORKLOAD,
                "imagePullPolicy": "Never",
                "args": ["serve", "--port", APP.to_string()],
                "resources": {"requests": {"cpu": "10m"}},
                "ports": [{"containerPort": APP}],
                "readinessProbe": {
                    "httpGet": {"path": "/ready", "port": APP},
                    "periodSeconds": 1,
                },
            }],
        },
    })
}

/// A Service on port 80 for the pods with the label `app: APP`.
pub fn service(namespace: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": app},
        "spec": {
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"app": app},
            "ports": [{"port": 80, "targetPort": APP}],
        },
    })
}

impl Cluster {
    /// Waits until pods are ready. Panics with what is known about them.
    pub fn wait_pods_ready(&self, namespace: &str, names: &[&str]) {
        let timeout = format!("--timeout={}s", SETTLE.as_secs());
        let mut args = vec!["wait", "-n", namespace, "--for=condition=Ready", &timeout];
        let pods: Vec<String> = names.iter().map(|name| format!("pod/{name}")).collect();
        args.extend(pods.iter().map(String::as_str));
        if let Err(error) = self.try_kubectl(&args) {
            let state = self.try_kubectl(&["describe", "pods", "-n", namespace]);
            panic!(
                "pods {names:?} are not ready: {error}\n{}",
                state.unwrap_or_else(|error| error)
            );
        }
    }

    /// Waits until a `ds/NAME` or `deployment/NAME` is as wanted, with its newest
    /// pods. Panics with what is known about them.
    pub fn wait_rollout(&self, namespace: &str, what: &str) {
        let timeout = format!("--timeout={}s", SETTLE.as_secs());
        if let Err(error) =
            self.try_kubectl(&["rollout", "status", "-n", namespace, what, &timeout])
        {
            let state = self.try_kubectl(&["describe", "pods", "-n", namespace]);
            panic!(
                "{what} is not rolled out: {error}\n{}",
                state.unwrap_or_else(|error| error)
            );
        }
    }

    /// A pod's addresses, the primary first.
    pub fn pod_ips(&self, namespace: &str, name: &str) -> Vec<IpAddr> {
        let pod = self.get(&["-n", namespace, "pod", name]);
        let list = pod["status"]["podIPs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter()
            .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
            .collect()
    }

    /// A Service's addresses, the primary first.
    pub fn service_ips(&self, namespace: &str, name: &str) -> Vec<IpAddr> {
        let service = self.get(&["-n", namespace, "service", name]);
        let list = service["spec"]["clusterIPs"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter()
            .filter_map(|ip| ip.as_str()?.parse().ok())
            .collect()
    }

    /// One call from a pod to an address: the answer, or how it failed.
    pub fn call(
        &self,
        namespace: &str,
        pod: &str,
        to: IpAddr,
        port: u16,
    ) -> Result<String, String> {
        let to = std::net::SocketAddr::new(to, port).to_string();
        self.exec(namespace, pod, &["workload", "call", &to])
            .map(|answer| answer.trim().to_owned())
    }
}
