//! The order in which a node starts.

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{Cluster, SETTLE, sluice::TAINT},
    lab::wait,
};

use super::town::{self, MESH, PLAIN};

/// A node loses power and comes back: its pods are started by themselves, with our
/// configuration in place and no agent yet. Whoever is enrolled waits for it, and
/// whoever it needs does not.
pub(super) fn power_lost(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let names = ["up-1", "up-2", "up-3"];
    for name in names {
        cluster.apply(&town::dialer(cluster, MESH, name, "na"));
    }
    cluster.apply(&town::dialer(cluster, PLAIN, "up-plain", "na"));
    town::wait_arrived(cluster, &names);
    cluster.wait_pods_ready(PLAIN, &["up-plain"]);
    let lives = |cluster: &Cluster| names.map(|name| cluster.running(MESH, name).identity);
    let before = lives(cluster);
    cluster.node_mut("na").power_off();
    cluster.node_mut("na").power_on();
    // kubelet begins slowly where it finds what has died.
    let look = || {
        for (name, old) in names.iter().zip(&before) {
            let new = cluster.try_running(MESH, name)?.identity;
            let anew = new.uid == old.uid && new.containers != old.containers;
            anew.then_some(())
                .ok_or_else(|| format!("{name} is as before"))?;
        }
        Ok(())
    };
    let state = || cluster.sluice_state();
    wait::value_or("all pods to live anew", SETTLE * 2, look, state);
    town::ready(cluster);
    town::wait_arrived(cluster, &names);
    cluster.wait_pods_ready(PLAIN, &["up-plain"]);
    town::assert_unread(&tap, &["up-1", "up-2", "up-3"]);
    town::assert_read(&tap, "up-plain");
    town::delete(cluster, MESH, &names);
    town::delete(cluster, PLAIN, &["up-plain"]);
}

/// A node joins on which nothing of Sluice has ever been, and a pod waits for it: it
/// starts when the node can capture, and not before.
pub(super) fn fresh_node(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    // Scheduled, not sent: what holds it back is the node's taint.
    let mut pod = town::dialer(cluster, MESH, "settler", "nc");
    let spec = pod["spec"].as_object_mut().expect("a spec");
    spec.remove("nodeName");
    spec.insert(
        "nodeSelector".into(),
        json!({"kubernetes.io/hostname": "nc"}),
    );
    cluster.apply(&pod);
    let name = cluster.add_node();
    assert_eq!(name, "nc");
    town::wait_arrived(cluster, &["settler"]);
    town::ready(cluster);
    let taints = cluster.get(&["node", &name])["spec"]["taints"].clone();
    assert!(!taints.to_string().contains(TAINT), "{taints}");
    let since = |what: &str, kind: &str, name: &str| {
        let object = cluster.get(&["-n", MESH, what, name]);
        let conditions = object["status"]["conditions"].as_array().cloned();
        let all: Vec<Value> = conditions.unwrap_or_default();
        let one = all.iter().find(|one| one["type"] == kind);
        one.and_then(|one| one["lastTransitionTime"].as_str().map(str::to_owned))
    };
    // Times of the API server, in seconds; they sort as text.
    let (capture, scheduled) = (
        since("node", "CaptureReady", &name),
        since("pod", "PodScheduled", "settler"),
    );
    assert!(
        capture.is_some() && capture <= scheduled,
        "{capture:?} {scheduled:?}"
    );
    town::assert_unread(&tap, &["settler"]);
    town::delete(cluster, MESH, &["settler"]);
}
