//! The end, and that it leaves nothing.

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        pod::{self, APP},
        sluice, stand_in,
    },
    lab::wait,
};

use super::shop::{self, NAMES, PLAIN, SHOP, STRICT};

const NOBODY: &str = "nobody";

/// `helm uninstall` while pods are captured: they run on, in the clear; new ones
/// start; and when those of the test are gone too, both nodes are as they were.
pub(super) fn uninstall(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    cluster.uninstall_sluice();
    for node in &cluster.nodes {
        assert_eq!(cluster.capture_ready(&node.name), None, "{}", node.name);
    }
    for pod in NAMES {
        assert_eq!(cluster.redirection(SHOP, pod), None, "{pod}");
    }
    assert_eq!(shop::identities(cluster), before);
    let tap = cluster.tap();
    let client = cluster.running(SHOP, "a1");
    for to in cluster.pod_ips(SHOP, "b1") {
        shop::assert_saw(&client.say(to, APP, "after-sluice"), "b1", &client, to);
    }
    assert_eq!(
        tap.count("after-sluice\n"),
        cluster.pod_ips(SHOP, "b1").len()
    );
    shop::assert_holding(cluster, PLAIN, shop::HOLDER);
    cluster.apply(&pod::workload(SHOP, "after", "na"));
    cluster.wait_pods_ready(SHOP, &["after"]);
    nothing_is_left(cluster);
}

/// Endpoints of no Service. With nftables kube-proxy 1.34 deletes the chains of a
/// Service that is gone when it next has something to do, at the latest after an
/// hour: any change of these is something to do.
fn nobodys_endpoints(number: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": NOBODY, "labels": {"kubernetes.io/service-name": NOBODY}},
        "addressType": "IPv6",
        "ports": [{"port": number}],
        "endpoints": [{"addresses": ["2001:db8::1"]}],
    })
}

/// Everything that the scenarios made goes, and the nodes are compared.
fn nothing_is_left(cluster: &Cluster) {
    cluster.remove_proxies();
    let namespaces = [SHOP, STRICT, PLAIN, stand_in::NAMESPACE, sluice::NAMESPACE];
    for namespace in namespaces {
        cluster.kubectl(&[
            "delete",
            "namespace",
            "--wait=false",
            "--ignore-not-found",
            namespace,
        ]);
    }
    for namespace in namespaces {
        let gone = format!("namespace/{namespace}");
        cluster.kubectl(&["wait", "--for=delete", "--timeout=90s", &gone]);
    }
    let mut looks = 0;
    for node in &cluster.nodes {
        let before = shop::snapshot_before(cluster, &node.name);
        wait::value(&format!("{} to be as it was", node.name), SETTLE, || {
            let differences = before.differences(&node.snapshot());
            if differences.is_empty() {
                return Ok(());
            }
            looks += 1;
            cluster.apply(&nobodys_endpoints(looks));
            Err(differences.join("\n"))
        });
    }
    cluster.kubectl(&["delete", "--ignore-not-found", "endpointslice", NOBODY]);
    for what in [
        "clusterroles",
        "clusterrolebindings",
        "validatingadmissionpolicies",
    ] {
        let list = cluster.get(&[what]);
        let names: Vec<&str> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item: &Value| item["metadata"]["name"].as_str())
            .filter(|name| name.contains("sluice"))
            .collect();
        assert!(names.is_empty(), "{what}: {names:?}");
    }
}
