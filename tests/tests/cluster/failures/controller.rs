//! Agents that no controller answers.

use sluice_tests::cluster::{Cluster, pod};

use super::town::{self, MESH, NoController, PLAIN, SYSTEM};

/// What is known counts on, what is not known waits, and the loss is told.
pub(super) fn down(cluster: &mut Cluster) {
    town::ready(cluster);
    let node = cluster.node("na");
    let tap = cluster.tap();
    cluster.apply(&town::dialer(cluster, MESH, "known", "na"));
    town::wait_arrived(cluster, &["known"]);
    let known = cluster.running(MESH, "known");
    let agent = town::agent_pid(cluster, "na");
    let old = town::explained(node, agent, "mesh/known").expect("it is known");
    let gone = NoController::begin(cluster);
    for (namespace, name) in [(MESH, "new"), (PLAIN, "new-plain")] {
        cluster.apply(&town::dialer(cluster, namespace, name, "na"));
    }
    cluster.apply(&pod::workload(SYSTEM, "new-system", "na"));
    known.end_sandbox();
    cluster.wait_pods_ready(SYSTEM, &["new-system"]);
    for (namespace, name) in [(MESH, "new"), (PLAIN, "new-plain")] {
        let who = format!("pod {namespace}/{name} is not known");
        let told = [
            who.as_str(),
            "the controller cannot be asked",
            "it is tried again",
        ];
        town::wait_told(cluster, namespace, name, &told);
    }
    // From the last good state.
    town::wait_reborn(node, agent, "mesh/known", &old["netns"]);
    town::wait_readyz(node, "no controller for");
    drop(gone);
    cluster.wait_pods_ready(PLAIN, &["new-plain"]);
    town::wait_arrived(cluster, &["known", "new"]);
    town::wait_readyz(node, "200 OK");
    town::assert_unread(&tap, &["known", "new."]);
    town::assert_read(&tap, "new-plain");
    town::delete(cluster, MESH, &["known", "new"]);
    town::delete(cluster, PLAIN, &["new-plain"]);
    town::delete(cluster, SYSTEM, &["new-system"]);
}
