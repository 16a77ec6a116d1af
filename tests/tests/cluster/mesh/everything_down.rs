//! Agents, controllers and proxies at once.

use serde_json::Value;
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
    let all_run = |pods: &Value| {
        let mut pods = pods["items"].as_array().into_iter().flatten();
        pods.all(|pod| pod["status"]["phase"] == "Running")
    };
    let answered = sluice_tests::lab::wait::until(cluster_comes_back(), || {
        calls += 1;
        let pods = cluster.try_get(&["pods", "-A"]);
        client
            .call(to, APP, &["--line", "everything-down", "--patience", "500"])
            .is_ok()
            && pods.is_ok_and(|pods| all_run(&pods))
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
