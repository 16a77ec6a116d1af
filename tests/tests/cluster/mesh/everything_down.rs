//! Agents, controllers and proxies at once.

use sluice_tests::cluster::{Cluster, pod::APP, sluice, stand_in};

use super::{
    capture::assert_hidden,
    shop::{self, NAMES, SHOP},
};

/// They need none of each other to start, and everything is as before when they
/// have; meanwhile nothing is readable.
pub(super) fn everything_down(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    let tap = cluster.tap();
    for namespace in [sluice::NAMESPACE, stand_in::NAMESPACE] {
        cluster.kubectl(&[
            "delete",
            "pods",
            "--all",
            "--wait=false",
            "--grace-period=1",
            "-n",
            namespace,
        ]);
    }
    let client = cluster.running(SHOP, "a1");
    let to = cluster.pod_ips(SHOP, "b1")[0];
    let mut calls = 0;
    let answered = sluice_tests::lab::wait::until(cluster_comes_back(), || {
        calls += 1;
        let gone = cluster.try_kubectl(&[
            "get",
            "pods",
            "-A",
            "--field-selector=status.phase!=Running",
            "-o",
            "name",
        ]);
        client
            .call(to, APP, &["--line", "everything-down", "--patience", "500"])
            .is_ok()
            && gone.is_ok_and(|list| list.is_empty())
    });
    assert!(
        answered,
        "{calls} calls, and no answer\n{}",
        cluster.sluice_state()
    );
    cluster.wait_proxies();
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    cluster.wait_captured(SHOP, &NAMES);
    for to in cluster.pod_ips(SHOP, "b1") {
        shop::assert_saw(&client.say(to, APP, "everything-down"), "b1", &client, to);
    }
    assert_hidden(&tap, "everything-down");
    assert_eq!(shop::identities(cluster), before);
    shop::assert_holding(cluster, shop::PLAIN, shop::HOLDER);
}

fn cluster_comes_back() -> std::time::Duration {
    2 * sluice_tests::cluster::SETTLE
}
