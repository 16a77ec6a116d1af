//! A node whose agent is away, and one whose agent does not move.

use serde_json::json;
use sluice_tests::{
    cluster::{Cluster, Node, SETTLE, pod, sluice},
    lab::wait,
};

use super::town::{self, AGENTS, MESH, PLAIN, SYSTEM};

/// A namespace that is made while nobody on the node hears of it.
const UNHEARD: &str = "unheard";
/// What a person is told of a pod that cannot start without its agent.
const ADVICE: [&str; 4] = [
    "cannot start now: the Sluice agent of this node does not answer",
    "see to the sluice-agent pod of this node",
    "kubectl -n sluice-system get pods",
    "the pod starts by itself once the agent is back",
];

pub(super) fn down(cluster: &mut Cluster) {
    without_agent(cluster, "down", |cluster, node| {
        let away = AGENTS.away(cluster, "na");
        assert_eq!(status(node), 50);
        by_hand(node);
        away
    });
}

pub(super) fn hung(cluster: &mut Cluster) {
    without_agent(cluster, "hung", |cluster, node| {
        // A busy machine may keep it from answering in time now and then.
        assert!(wait::until(SETTLE, || status(node) == 0));
        let agent = cluster.agent_of("na");
        let asleep = cluster.freeze(sluice::NAMESPACE, &agent);
        assert_eq!(status(node), 50);
        asleep
    });
}

/// Pods of every kind start and go on a node whose agent does not answer, until
/// what `take` returns is dropped. Names end with `how`.
fn without_agent<'a, T>(
    cluster: &'a Cluster,
    how: &str,
    take: impl FnOnce(&'a Cluster, &'a Node) -> T,
) {
    town::ready(cluster);
    let node = cluster.node("na");
    let tap = cluster.tap();
    let [waits, passes, blocked, leaver] =
        ["waits", "passes", "blocked", "leaver"].map(|what| format!("{what}-{how}"));
    cluster.apply(&pod::workload(MESH, &leaver, "na"));
    town::wait_arrived(cluster, &[&leaver]);
    let address = format!("{} ", cluster.pod_ips(MESH, &leaver)[0]);
    let unheard = format!("{UNHEARD}-{how}");
    let fault = take(cluster, node);
    cluster.create_namespace(&unheard, &json!({}));
    cluster.apply(&town::dialer(cluster, MESH, &waits, "na"));
    cluster.apply(&pod::workload(SYSTEM, &passes, "na"));
    cluster.apply(&town::dialer(cluster, PLAIN, &passes, "na"));
    cluster.apply(&pod::workload(&unheard, &blocked, "na"));
    // Gone for kubelet within a while, whatever the agent does.
    town::delete(cluster, MESH, &[&leaver]);
    assert!(
        town::rules(node).contains(&address),
        "nobody could have removed them"
    );
    cluster.wait_pods_ready(SYSTEM, &[&passes]);
    cluster.wait_pods_ready(PLAIN, &[&passes]);
    for (namespace, pod, why) in [
        (MESH, &waits, "has pods in the mesh"),
        (&unheard, &blocked, "it is not known whether namespace"),
    ] {
        let who = format!("pod {namespace}/{pod}");
        let told = [&ADVICE[..], &[who.as_str(), why]].concat();
        town::wait_told(cluster, namespace, pod, &told);
    }
    drop(fault);
    town::wait_arrived(cluster, &[&waits]);
    cluster.wait_pods_ready(&unheard, &[&blocked]);
    assert_eq!(cluster.redirection(&unheard, &blocked), None);
    wait::value("the rules of the one that left to be swept", SETTLE, || {
        let rules = town::rules(node);
        if rules.contains(&address) {
            Err(rules)
        } else {
            Ok(())
        }
    });
    town::assert_unread(&tap, &[&waits]);
    town::assert_read(&tap, &passes);
    joins(cluster, &passes);
    town::delete(cluster, MESH, &[&waits]);
    for namespace in [SYSTEM, PLAIN] {
        town::delete(cluster, namespace, &[&passes]);
    }
    cluster.kubectl(&["delete", "namespace", "--wait=false", &unheard]);
}

/// A pod that passed is looked at by the agent: its namespace joins, and it is
/// captured as it runs.
fn joins(cluster: &Cluster, pod: &str) {
    let label = |value: &str| {
        let label = format!("{}{value}", sluice::MODE);
        cluster.kubectl(&["label", "--overwrite", "namespace", PLAIN, &label]);
    };
    label("=ambient");
    cluster.wait_captured(PLAIN, &[pod]);
    label("-");
    cluster.wait_redirection(PLAIN, pod, None);
}

/// What a runtime that speaks CNI 1.1.0 is told of the node: an error's code, or 0.
fn status(node: &Node) -> u64 {
    let called = node.call_shim(
        &json!({"cniVersion": "1.1.0"}),
        &[("CNI_COMMAND", "STATUS")],
    );
    let code = called.code();
    assert_eq!(called.succeeded, code == 0, "{called:?}");
    code
}

/// What the shim answers a runtime: codes, and what it is told to do with pods of
/// namespaces that are known.
fn by_hand(node: &Node) {
    for (namespace, changes, code) in [
        (MESH, json!({}), 11),
        ("never-heard-of", json!({}), 11),
        (PLAIN, json!({}), 0),
        (SYSTEM, json!({}), 0),
        (PLAIN, json!({"onAgentDown": "deny"}), 11),
        (SYSTEM, json!({"onAgentDown": "deny"}), 0),
    ] {
        let called = node.add_by_hand(namespace, &changes);
        assert_eq!(called.code(), code, "{namespace} {changes}: {called:?}");
        assert_eq!(called.succeeded, code == 0, "{called:?}");
    }
}
