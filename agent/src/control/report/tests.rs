use std::collections::BTreeSet;

use super::*;
use crate::{
    desired::{Intent, Origin, Wanted},
    status::{PodState, PodStatus},
};

fn uid(text: &str) -> PodUid {
    PodUid::new(text).unwrap()
}

fn pod(state: PodState) -> PodStatus {
    PodStatus {
        namespace: "default".into(),
        name: "web".into(),
        wanted: Wanted::Captured,
        hash: "h1".into(),
        state,
        reason: None,
        message: String::new(),
        steered: state == PodState::Captured,
        addresses: BTreeSet::new(),
        interface: None,
        netns: None,
    }
}

fn node(pods: &[(&str, PodState)]) -> NodeStatus {
    NodeStatus {
        pods: pods
            .iter()
            .map(|(name, state)| (uid(name), pod(*state)))
            .collect(),
        ..NodeStatus::default()
    }
}

/// A state that speaks of these pods.
fn wanted(pods: &[&str]) -> Desired {
    let intent = |name: &str| Intent {
        namespace: "default".into(),
        name: "web".into(),
        hash: "h1".into(),
        ..Intent::bare(uid(name), Wanted::Captured)
    };
    Desired {
        origin: Origin::Controller,
        revision: None,
        pods: pods.iter().map(|name| (uid(name), intent(name))).collect(),
        namespaces: BTreeMap::new(),
        leave: false,
    }
}

/// The next report of a controller that speaks of every pod.
fn next(reporter: &mut Reporter, status: &NodeStatus) -> Option<proto::StatusReport> {
    let names: Vec<_> = status.pods.keys().map(PodUid::as_str).collect();
    reporter.next(status, &wanted(&names))
}

#[test]
fn the_first_report_is_full_even_when_empty() {
    let report = next(&mut Reporter::default(), &NodeStatus::default()).unwrap();
    assert!(report.full && report.pods.is_empty() && report.node.is_some());
}

#[test]
fn then_only_what_changed_is_told() {
    let mut reporter = Reporter::default();
    let first = node(&[("a", PodState::Pending), ("b", PodState::Captured)]);
    next(&mut reporter, &first).unwrap();
    assert_eq!(next(&mut reporter, &first), None);

    let second = node(&[("a", PodState::Captured), ("b", PodState::Captured)]);
    let report = next(&mut reporter, &second).unwrap();
    assert!(!report.full && report.node.is_none());
    assert_eq!(report.pods.len(), 1);
    assert_eq!(report.pods[0].uid, "a");
    assert_eq!(report.pods[0].state(), proto::PodState::Captured);
}

#[test]
fn a_pod_that_the_controller_does_not_speak_of_is_not_told() {
    let mut reporter = Reporter::default();
    let status = node(&[("a", PodState::Captured), ("left", PodState::Failed)]);
    let report = reporter.next(&status, &wanted(&["a"])).unwrap();
    assert_eq!(report.pods.len(), 1);
    assert_eq!(reporter.next(&status, &wanted(&[])), None);
    // It comes back: news again.
    assert_eq!(
        reporter.next(&status, &wanted(&["a"])).unwrap().pods[0].uid,
        "a"
    );
}

#[test]
fn the_nodes_condition_is_told_when_it_changes() {
    let mut reporter = Reporter::default();
    next(&mut reporter, &node(&[])).unwrap();
    let ready = NodeStatus {
        capture_ready: true,
        ..NodeStatus::default()
    };
    assert!(
        next(&mut reporter, &ready)
            .unwrap()
            .node
            .unwrap()
            .capture_ready
    );
}

#[test]
fn a_report_always_fits_a_message() {
    let mut status = node(&[]);
    for number in 0..10_000 {
        let mut pod = pod(PodState::Failed);
        pod.message = "x".repeat(10_000);
        status.pods.insert(uid(&format!("{number:036}")), pod);
    }
    let report = next(&mut Reporter::default(), &status).unwrap();
    assert!(report.encoded_len() < 4 << 20);
    assert_eq!(report.pods.len(), 10_000);
}

#[test]
fn a_node_that_has_left_says_so() {
    let mut reporter = Reporter::default();
    let mut status = node(&[]);
    let left = |report: Option<proto::StatusReport>| report.unwrap().node.unwrap().left;
    assert!(!left(next(&mut reporter, &status)));
    status.leaving = crate::status::Leaving::Left;
    assert!(left(next(&mut reporter, &status)));
    status.leaving = crate::status::Leaving::No;
    assert!(!left(next(&mut reporter, &status)));
}
