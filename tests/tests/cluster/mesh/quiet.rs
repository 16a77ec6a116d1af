//! What must not be noticed: nobody's annotation, condition or rule changes, and
//! what is written is written once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sluice_tests::{
    cluster::{
        Cluster, Node, SETTLE,
        audit::{Mark, Request},
        monitor::Monitor,
        sluice::NAMESPACE,
    },
    lab::wait,
};

use super::shop::{NAMES, SHOP};

/// Annotation of nodes by which a replica says that it has their stream.
const CLAIM: &str = "sluice.dev/stream";
/// Agents are elsewhere by then. They take seconds; the machine may be busy.
pub(super) const MOVED: Duration = Duration::from_secs(180);

/// Nodes whose packet filters must not change, while it is there.
pub(super) struct Quiet<'a> {
    monitors: Vec<Monitor<'a>>,
}

impl<'a> Quiet<'a> {
    pub(super) fn begin(nodes: &'a [Node]) -> Self {
        let monitors = nodes.iter().map(Node::monitor).collect();
        Self { monitors }
    }

    /// Shows that no rule of ours was touched since.
    #[track_caller]
    pub(super) fn assert_kept(&self) {
        let changes = self.changes();
        assert!(changes.is_empty(), "rules were changed: {changes:#?}");
    }

    /// Shows that it would have been seen: by now rules were touched.
    #[track_caller]
    pub(super) fn assert_changed(&self) {
        assert!(!self.changes().is_empty(), "nothing was seen of a new pod");
    }

    fn changes(&self) -> Vec<String> {
        self.monitors.iter().flat_map(Monitor::ours).collect()
    }
}

/// What was written back since is right: pods that are captured were not written
/// to at all, no condition but True was said, and no claim twice.
#[track_caller]
pub(super) fn assert_written_once(cluster: &Cluster, since: Mark) {
    let all = cluster.audited(since);
    let writes: Vec<&Request> = all.iter().filter(|one| one.is_write()).collect();
    let lines = || writes.iter().map(|one| one.line()).collect::<Vec<_>>();
    let pods = writes.iter().filter(|one| one.resource == "pods/status");
    let again: Vec<String> = pods
        .filter(|one| one.namespace == SHOP && NAMES.contains(&one.name.as_str()))
        .map(|one| one.line())
        .collect();
    assert!(
        again.is_empty(),
        "captured pods were written to: {again:#?}"
    );
    let mut claims = BTreeSet::new();
    for node in writes.iter().filter(|one| one.resource == "nodes/status") {
        assert_eq!(node.capture_ready(), Some("True"), "{:#?}", lines());
        let claim = node.response["metadata"]["annotations"][CLAIM].to_string();
        let new = claims.insert((node.name.clone(), claim));
        assert!(new, "{} twice in {:#?}", node.line(), lines());
    }
    for pod in NAMES {
        assert_eq!(cluster.redirection(SHOP, pod).as_deref(), Some("enabled"));
    }
}

/// Who has the stream of a node: the replica's pod, and the stream.
pub(super) fn holder(cluster: &Cluster, node: &str) -> (String, String) {
    wait::value(&format!("a replica to have {node}"), SETTLE, || {
        let claim = claim(cluster, node).ok_or("no claim")?;
        let mut replicas = cluster.controllers().into_iter();
        let replica = replicas.find(|pod| claim.starts_with(pod.as_str()));
        replica.map(|pod| (pod, claim.clone())).ok_or(claim)
    })
}

fn claim(cluster: &Cluster, node: &str) -> Option<String> {
    let node = cluster.get(&["node", node]);
    let claim = node["metadata"]["annotations"][CLAIM].as_str();
    claim.map(str::to_owned)
}

/// Waits until no node is with a replica any more, and says how long that took.
pub(super) fn wait_moved(cluster: &Cluster, from: &str) {
    let start = Instant::now();
    for node in &cluster.nodes {
        let what = format!("{} to leave {from}", node.name);
        let look = || match claim(cluster, &node.name) {
            Some(claim) if !claim.starts_with(from) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait::value_or(&what, MOVED, look, || cluster.sluice_state());
    }
    eprintln!("no stream is {from}'s after {:.1?}", start.elapsed());
}

/// Waits until a node's stream is another than it was.
pub(super) fn wait_new_stream(cluster: &Cluster, node: &str, old: &str) {
    let start = Instant::now();
    let what = format!("{node} to have a new stream");
    let look = || match claim(cluster, node) {
        Some(claim) if claim != old => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait::value_or(&what, MOVED, look, || cluster.sluice_state());
    eprintln!("{node} has a new stream after {:.1?}", start.elapsed());
}

/// Waits until a replica is ready, or is not.
pub(super) fn wait_ready(cluster: &Cluster, replica: &str, ready: bool) {
    let what = format!("{replica} to be ready: {ready}");
    let look = || {
        let pod = cluster.get(&["-n", NAMESPACE, "pod", replica]);
        let conditions = pod["status"]["conditions"].as_array().cloned();
        let is = conditions
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready");
        let is = is.is_some_and(|one| one["status"] == "True");
        (is == ready).then_some(()).ok_or_else(String::new)
    };
    wait::value_or(&what, SETTLE, look, || cluster.sluice_state());
}
