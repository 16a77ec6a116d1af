//! Before Sluice, and its coming.

use serde_json::Value;
use sluice_tests::{
    cluster::SETTLE,
    cluster::{
        Cluster,
        pod::APP,
        sluice::{NAMESPACE, TAINT},
    },
    lab::wait,
};

use super::shop::{self, NAMES, SHOP};

/// Pods talk in the clear, and the tap sees it: what is not found there later is
/// not there.
pub(super) fn before(cluster: &mut Cluster) {
    shop::stocked(cluster);
    let tap = cluster.tap();
    let client = cluster.running(SHOP, "a1");
    let mut calls = 0;
    for to in cluster.pod_ips(SHOP, "b1") {
        shop::assert_saw(&client.say(to, APP, "before-sluice"), "b1", &client, to);
        calls += 1;
    }
    for to in cluster.service_ips(SHOP, "b1") {
        let answer = wait::value("the Service to answer", SETTLE, || client.call(to, 80, &[]));
        shop::assert_saw(&Ok(answer), "b1", &client, to);
        shop::assert_saw(&client.say(to, 80, "before-sluice"), "b1", &client, to);
        calls += 1;
    }
    assert_eq!(tap.count("before-sluice\n"), calls);
    assert_eq!(tap.packets("tcp port 15008"), 0);
}

pub(super) fn install(cluster: &mut Cluster) {
    shop::stocked(cluster);
    let pods = shop::identities(cluster);
    cluster.kubectl(&["taint", "node", "nb", &format!("{TAINT}=true:NoSchedule")]);
    shop::installed(cluster);
    let controllers = cluster.get(&["-n", NAMESPACE, "deployment", "sluice-controller"]);
    assert_eq!(controllers["status"]["readyReplicas"], 2, "{controllers:#}");
    let agents = cluster.get(&["-n", NAMESPACE, "daemonset", "sluice-agent"]);
    assert_eq!(agents["status"]["numberReady"], 2, "{agents:#}");
    wait::value("the start-up taint to go", SETTLE, || {
        let node = cluster.get(&["node", "nb"]);
        let text = node["spec"]["taints"].to_string();
        (!text.contains(TAINT)).then_some(()).ok_or(text)
    });
    for node in &cluster.nodes {
        assert_conflist_is_first(node);
        let config = node.run("cat", &["/etc/ambient-config/config.json"]);
        let config: Value = serde_json::from_str(&config).expect("JSON in config.json");
        assert_eq!(config["ztunnelReady"], true, "{}: {config}", node.name);
        assert_eq!(
            config["redirectMode"], "iptables",
            "{}: {config}",
            node.name
        );
    }
    // Nobody was enrolled, so nobody is touched.
    assert_eq!(shop::identities(cluster), pods);
    for pod in NAMES {
        assert_eq!(cluster.redirection(SHOP, pod), None, "{pod}");
    }
    before(cluster);
}

fn assert_conflist_is_first(node: &sluice_tests::cluster::Node) {
    let listing = node.run("ls", &["/etc/cni/net.d"]);
    let first = listing.lines().next().unwrap_or_default();
    assert_eq!(first, "02-sluice.conflist", "{}: {listing}", node.name);
    let text = node.run("cat", &[&format!("/etc/cni/net.d/{first}")]);
    let list: Value = serde_json::from_str(&text).expect("JSON of a conflist");
    let plugins = list["plugins"].as_array().expect("plugins");
    let types: Vec<&str> = plugins
        .iter()
        .filter_map(|plugin| plugin["type"].as_str())
        .collect();
    assert_eq!(
        types,
        ["ptp", "portmap", "sluice-cni"],
        "{}: {text}",
        node.name
    );
    let bin = node.run("ls", &["/opt/cni/bin"]);
    assert!(
        bin.lines().any(|name| name == "sluice-cni"),
        "{}: {bin}",
        node.name
    );
}
