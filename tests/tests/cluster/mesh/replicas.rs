//! Replicas of the controller that are killed, cut off, behind or replaced:
//! agents move, and nobody else notices.

use serde_json::json;
use sluice_tests::cluster::{
    Cluster,
    audit::{Mark, Request},
    pod,
    sluice::{CONTROLLER, MODE, NAMESPACE},
};

use super::{
    quiet::{self, Quiet},
    upgrade::{assert_arrived, newcomer, while_held},
};

/// Where agents call a replica.
const PORT: u16 = 15010;
/// A namespace that is enrolled while a replica does not look.
const LATE: &str = "late";

/// Something happens, and is undone, while captured pods talk: nothing of them
/// changes.
fn unnoticed(cluster: &mut Cluster, work: impl FnOnce(&Cluster)) {
    while_held(cluster, |cluster| {
        let rules = Quiet::begin(&cluster.nodes);
        let mark = cluster.audit_mark();
        work(cluster);
        cluster.wait_sluice();
        cluster.wait_capture_ready();
        rules.assert_kept();
        quiet::assert_written_once(cluster, mark);
        // And it works on.
        newcomer(cluster);
        assert_arrived(cluster);
        rules.assert_changed();
    });
}

pub(super) fn killed(cluster: &mut Cluster) {
    unnoticed(cluster, |cluster| {
        let (replica, stream) = quiet::holder(cluster, "na");
        cluster.kill(NAMESPACE, &replica);
        quiet::wait_new_stream(cluster, "na", &stream);
    });
}

/// Its agents go to another, which tells them what happens meanwhile; it takes part
/// again when it is back.
pub(super) fn without_the_api_server(cluster: &mut Cluster) {
    unnoticed(cluster, |cluster| {
        let (replica, _) = quiet::holder(cluster, "na");
        let fault = cluster.cut_from_api_server(NAMESPACE, &replica);
        quiet::wait_ready(cluster, &replica, false);
        quiet::wait_moved(cluster, &replica);
        drop(fault);
        quiet::wait_ready(cluster, &replica, true);
    });
}

/// It believes that it has the streams still: it must find out before it writes.
pub(super) fn without_agents(cluster: &mut Cluster) {
    unnoticed(cluster, |cluster| {
        let (replica, _) = quiet::holder(cluster, "na");
        let fault = cluster.cut_from_callers(NAMESPACE, &replica, PORT);
        quiet::wait_moved(cluster, &replica);
        drop(fault);
    });
}

/// A replica sleeps while a namespace is enrolled, and is the only one when it
/// wakes up: it must not take its agents back to what it knows.
pub(super) fn behind(cluster: &mut Cluster) {
    let pods = [("late-a", "na"), ("late-b", "nb")];
    cluster.create_namespace(LATE, &json!({}));
    for (name, node) in pods {
        cluster.apply(&pod::workload(LATE, name, node));
    }
    let names = pods.map(|(name, _)| name);
    cluster.wait_pods_ready(LATE, &names);
    while_held(cluster, |cluster| {
        let (sleeper, _) = quiet::holder(cluster, "na");
        let asleep = cluster.freeze(NAMESPACE, &sleeper);
        quiet::wait_moved(cluster, &sleeper);
        let enrol = format!("{MODE}=ambient");
        cluster.kubectl(&["label", "--overwrite", "namespace", LATE, &enrol]);
        cluster.wait_captured(LATE, &names);
        let rules = Quiet::begin(&cluster.nodes);
        let mark = cluster.audit_mark();
        let (awake, stream) = quiet::holder(cluster, "na");
        cluster.kill(NAMESPACE, &awake);
        drop(asleep);
        quiet::wait_new_stream(cluster, "na", &stream);
        cluster.wait_sluice();
        cluster.wait_capture_ready();
        rules.assert_kept();
        quiet::assert_written_once(cluster, mark);
        assert_untouched(cluster, mark, &names);
    });
    cluster.kubectl(&["delete", "namespace", LATE]);
}

#[track_caller]
fn assert_untouched(cluster: &Cluster, mark: Mark, pods: &[&str]) {
    let written: Vec<String> = cluster
        .audited(mark)
        .iter()
        .filter(|one| one.is_write() && one.namespace == LATE && one.resource == "pods/status")
        .map(Request::line)
        .collect();
    assert!(written.is_empty(), "{written:#?}");
    for pod in pods {
        assert_eq!(cluster.redirection(LATE, pod).as_deref(), Some("enabled"));
    }
}

pub(super) fn rolled(cluster: &mut Cluster) {
    unnoticed(cluster, |cluster| {
        let old = cluster.controllers();
        let what = format!("deployment/{CONTROLLER}");
        cluster.kubectl(&["rollout", "restart", "-n", NAMESPACE, &what]);
        cluster.wait_rollout(NAMESPACE, &what);
        for replica in old {
            quiet::wait_moved(cluster, &replica);
        }
    });
}
