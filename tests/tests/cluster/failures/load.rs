//! Agents are replaced while pods come and go.

use std::collections::VecDeque;

use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        sluice::{AGENT, NAMESPACE},
    },
    lab::wait,
};

use super::town::{self, MESH};

/// At least so many pods come meanwhile, and so many are there at a time.
const PODS: usize = 20;
const AT_A_TIME: usize = 6;

/// None is uncaptured at any moment, all that stay arrive, and all that go are
/// gone.
pub(super) fn replaced(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let daemon_set = format!("ds/{AGENT}");
    let old = ["na", "nb"].map(|node| cluster.agent_of(node));
    cluster.kubectl(&["rollout", "restart", "-n", NAMESPACE, &daemon_set]);
    let mut there = VecDeque::new();
    for number in 0.. {
        if number >= PODS && rolled_out(cluster) {
            break;
        }
        assert!(number < 5 * PODS, "{}", cluster.sluice_state());
        let name = format!("load-{number}");
        let node = if number % 2 == 0 { "na" } else { "nb" };
        cluster.apply(&town::dialer(cluster, MESH, &name, node));
        there.push_back(name);
        if there.len() > AT_A_TIME
            && let Some(oldest) = there.pop_front()
        {
            cluster.kubectl(&["delete", "pod", "--wait=false", "-n", MESH, &oldest]);
        }
    }
    cluster.wait_sluice();
    for (node, old) in ["na", "nb"].into_iter().zip(old) {
        assert_ne!(cluster.agent_of(node), old);
    }
    let names: Vec<&str> = there.iter().map(String::as_str).collect();
    town::wait_arrived(cluster, &names);
    town::assert_unread(&tap, &["load-"]);
    town::delete(cluster, MESH, &names);
    wait::value("all of them to be gone", SETTLE, || {
        let pods = cluster.kubectl(&["get", "pods", "-n", MESH, "-o", "name"]);
        if pods.contains("load-") {
            Err(pods)
        } else {
            Ok(())
        }
    });
}

fn rolled_out(cluster: &Cluster) -> bool {
    let what = format!("ds/{AGENT}");
    let said = cluster.kubectl(&["rollout", "status", "--watch=false", "-n", NAMESPACE, &what]);
    said.contains("successfully rolled out")
}
