//! What stays outside whatever the labels say.

use serde_json::json;
use sluice_tests::cluster::{
    Cluster, pod,
    sluice::{self, MODE},
    stand_in,
};

use super::shop::{self, NAMES, SHOP};

const SYSTEM: &str = "kube-system";
const POD: &str = "resident";
const HOST: &str = "host-network";

/// Excluded namespaces and pods in the node's own network are never enrolled.
pub(super) fn outside(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let namespaces = [SYSTEM, sluice::NAMESPACE, stand_in::NAMESPACE];
    for namespace in namespaces {
        shop::label(cluster, namespace, "ambient");
    }
    cluster.apply(&pod::workload(SYSTEM, POD, "na"));
    let mut host = pod::workload(SHOP, HOST, "na");
    host["spec"]["hostNetwork"] = json!(true);
    host["spec"]["containers"][0]["args"] = json!(["serve", "--port", "18098"]);
    host["spec"]["containers"][0]["ports"] = json!([]);
    host["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = json!(18098);
    cluster.apply(&host);
    cluster.wait_pods_ready(SYSTEM, &[POD]);
    cluster.wait_pods_ready(SHOP, &[HOST]);
    // A later pod that is enrolled: those before it have had their turn.
    cluster.apply(&pod::workload(SHOP, "last", "na"));
    cluster.wait_captured(SHOP, &["last"]);
    for namespace in namespaces {
        let pods = cluster.get(&["-n", namespace, "pods"]);
        for pod in pods["items"].as_array().expect("a list of pods") {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            let value = &pod["metadata"]["annotations"][stand_in::REDIRECTION];
            assert_ne!(value, "enabled", "{namespace}/{name}");
        }
    }
    assert_eq!(cluster.redirection(SHOP, HOST), None);
    cluster.kubectl(&["delete", "pod", "-n", SHOP, HOST, "last"]);
    cluster.kubectl(&["delete", "pod", "-n", SYSTEM, POD]);
    for namespace in namespaces {
        cluster.kubectl(&["label", "namespace", namespace, &format!("{MODE}-")]);
    }
    cluster.wait_captured(SHOP, &NAMES);
}
