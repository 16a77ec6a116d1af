//! Agents and controllers that go and come: no pod loses a connection.

use sluice_tests::cluster::{Cluster, pod, sluice};

use super::{
    capture::assert_hidden,
    shop::{self, PLAIN, SHOP},
};

/// Captured, and holding a connection through both proxies.
const KEEPER: &str = "keeper";
/// Starts in the middle of it.
const NEWCOMER: &str = "newcomer";

pub(super) fn restarts(cluster: &mut Cluster) {
    while_held(cluster, |cluster| {
        for node in ["na", "nb"] {
            let agent = cluster.agent_of(node);
            delete_now(cluster, &agent);
        }
        newcomer(cluster);
        cluster.wait_sluice();
        assert_arrived(cluster);
        shop::assert_holding(cluster, SHOP, KEEPER);
        for controller in cluster.controllers() {
            delete_now(cluster, &controller);
        }
        newcomer(cluster);
        cluster.wait_sluice();
        assert_arrived(cluster);
    });
}

pub(super) fn upgrade_and_roll_back(cluster: &mut Cluster) {
    while_held(cluster, |cluster| {
        cluster.tag_sluice("0.1.0", "0.1.1");
        let old = cluster.agent_of("na");
        newcomer(cluster);
        cluster.upgrade_sluice(&["image.tag=0.1.1"]);
        assert_arrived(cluster);
        assert_ne!(cluster.agent_of("na"), old);
        assert_eq!(agent_image(cluster), "sluice.dev/sluice-agent:0.1.1");
        shop::assert_holding(cluster, SHOP, KEEPER);
        newcomer(cluster);
        cluster.roll_back_sluice();
        assert_arrived(cluster);
        assert_eq!(agent_image(cluster), "sluice.dev/sluice-agent:0.1.0");
    });
}

/// Nothing is left of a scenario that failed, so that this one does not fail too.
fn tidied(cluster: &Cluster) {
    let left = ["--ignore-not-found", KEEPER, NEWCOMER];
    cluster.kubectl(&[&["delete", "pods", "-n", SHOP], &left[..]].concat());
    shop::hold_again(cluster);
}

/// Something is done while a captured and an uncaptured pod hold a connection each.
pub(super) fn while_held(cluster: &mut Cluster, work: impl FnOnce(&mut Cluster)) {
    shop::enrolled(cluster);
    tidied(cluster);
    let to = cluster.pod_ips(SHOP, "b1")[0];
    cluster.apply(&shop::holding(SHOP, KEEPER, "na", to));
    cluster.wait_captured(SHOP, &[KEEPER]);
    shop::wait_holding(cluster, SHOP, KEEPER);
    let before = shop::identities(cluster);
    let tap = cluster.tap();
    work(cluster);
    shop::assert_holding(cluster, SHOP, KEEPER);
    shop::assert_holding(cluster, PLAIN, shop::HOLDER);
    assert_hidden(&tap, "held by keeper");
    assert_eq!(shop::identities(cluster), before);
    cluster.kubectl(&["delete", "pod", "-n", SHOP, KEEPER]);
}

/// A pod that starts while nobody may be there to capture it.
pub(super) fn newcomer(cluster: &Cluster) {
    cluster.apply(&pod::workload(SHOP, NEWCOMER, "na"));
}

/// It has started, captured.
pub(super) fn assert_arrived(cluster: &Cluster) {
    cluster.wait_captured(SHOP, &[NEWCOMER]);
    cluster.wait_pods_ready(SHOP, &[NEWCOMER]);
    cluster.kubectl(&["delete", "pod", "-n", SHOP, NEWCOMER]);
}

fn delete_now(cluster: &Cluster, pod: &str) {
    cluster.kubectl(&[
        "delete",
        "pod",
        "--wait=false",
        "-n",
        sluice::NAMESPACE,
        pod,
    ]);
}

fn agent_image(cluster: &Cluster) -> String {
    let agent = cluster.agent_of("na");
    let pod = cluster.get(&["-n", sluice::NAMESPACE, "pod", &agent]);
    pod["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}
