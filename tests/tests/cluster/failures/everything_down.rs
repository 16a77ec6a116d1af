//! Agents, controllers and proxies are all away, and come back in the least
//! convenient order.

use sluice_tests::cluster::{
    Cluster, pod,
    sluice::{self, CONTROLLER},
};

use serde_json::json;

use super::town::{self, AGENTS, MESH, NoController, PROXY, SYSTEM};

const NODES: [&str; 2] = ["na", "nb"];

/// Each comes up without the others, and so does whoever is never enrolled; who is
/// enrolled comes last, captured.
pub(super) fn everything_down(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let agents = NODES.map(|node| AGENTS.going(cluster, node));
    let proxies = NODES.map(|node| PROXY.going(cluster, node));
    let controller = NoController::begin(cluster);
    for part in [AGENTS, PROXY] {
        part.wait_gone(cluster);
    }
    cluster.apply(&town::dialer(cluster, MESH, "last", "na"));
    cluster.apply(&pod::workload(SYSTEM, "first", "na"));
    cluster.apply(&on_the_host());
    cluster.wait_pods_ready(SYSTEM, &["first"]);
    cluster.wait_pods_ready(MESH, &["host"]);
    drop(proxies);
    cluster.wait_proxies();
    drop(controller);
    cluster.wait_rollout(sluice::NAMESPACE, &format!("deployment/{CONTROLLER}"));
    town::assert_waits(cluster, MESH, "last");
    drop(agents);
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    town::wait_arrived(cluster, &["last"]);
    town::assert_unread(&tap, &["last"]);
    assert_eq!(cluster.redirection(MESH, "host"), None);
    town::delete(cluster, MESH, &["last", "host"]);
    town::delete(cluster, SYSTEM, &["first"]);
}

/// Enrolled by its namespace, and in the node's own network.
fn on_the_host() -> serde_json::Value {
    let mut host = pod::workload(MESH, "host", "na");
    host["spec"]["hostNetwork"] = json!(true);
    let container = &mut host["spec"]["containers"][0];
    container["args"] = json!(["serve", "--port", "18097"]);
    container["ports"] = json!([]);
    container["readinessProbe"]["httpGet"]["port"] = json!(18097);
    host
}
