//! A pod that comes when its namespace is enrolled already.

use serde_json::json;
use sluice_tests::cluster::{Cluster, pod};

use super::{
    capture::assert_hidden,
    shop::{self, SHOP},
};

const LATE: &str = "late";

/// Its first packet is captured: it calls before it does anything else, again and
/// again until its proxy knows it, and nothing of that is readable.
pub(super) fn late_pod(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let tap = cluster.tap();
    let to = cluster.pod_ips(SHOP, "b1")[0];
    let to = std::net::SocketAddr::new(to, pod::APP);
    let mut pod = pod::workload(SHOP, LATE, "na");
    let container = &mut pod["spec"]["containers"][0];
    let script = format!(
        "until workload call {to} --line first-words; do sleep 0.1; done; exec workload serve"
    );
    container["command"] = json!(["sh", "-c", script]);
    container
        .as_object_mut()
        .expect("a container")
        .remove("args");
    cluster.apply(&pod);
    cluster.wait_captured(SHOP, &[LATE]);
    cluster.wait_pods_ready(SHOP, &[LATE]);
    let late = cluster.running(SHOP, LATE);
    let said = cluster.kubectl(&["logs", "-n", SHOP, LATE]);
    let expected = format!("b1 saw {}", late.ip_like(to.ip()));
    assert!(said.contains(&expected), "no {expected:?} in {said:?}");
    assert_hidden(&tap, "first-words");
    // Its proxy has seen every try, also those before it knew the pod.
    let tries = cluster.connections("na");
    let tries = tries
        .iter()
        .filter(|line| line.src.ip() == late.ip_like(to.ip()));
    let refusals = said
        .lines()
        .filter(|line| line.starts_with("reset"))
        .count();
    assert!(tries.count() > refusals, "{refusals} refusals in {said:?}");
    cluster.kubectl(&["delete", "pod", "-n", SHOP, LATE]);
}
