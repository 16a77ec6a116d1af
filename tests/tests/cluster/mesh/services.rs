//! Addresses that kube-proxy makes, hosts, and what is not TCP.

use std::net::IpAddr;

use serde_json::json;
use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        pod::{self, APP},
    },
    lab::{client::Call, wait},
};

use super::shop::{self, PLAIN, SHOP};

const HOST: &str = "host";
/// Where the pod in the node's own network listens.
const HOST_PORT: u16 = 18099;

pub(super) fn services(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    host_pod(cluster);
    from_hosts(cluster);
    node_ports(cluster);
    to_hosts(cluster);
    api_server(cluster);
    datagrams(cluster);
    cluster.kubectl(&["delete", "pod", "-n", PLAIN, HOST]);
}

/// A pod of node `nb` with the node's own network.
fn host_pod(cluster: &Cluster) {
    let mut pod = pod::workload(PLAIN, HOST, "nb");
    pod["spec"]["hostNetwork"] = json!(true);
    let container = &mut pod["spec"]["containers"][0];
    container["args"] = json!(["serve", "--port", HOST_PORT.to_string(), "--name", HOST]);
    container["ports"] = json!([]);
    container["readinessProbe"]["httpGet"]["port"] = json!(HOST_PORT);
    cluster.apply(&pod);
    cluster.wait_pods_ready(PLAIN, &[HOST]);
}

/// Node, and a pod in the node's network, to captured pods of both nodes.
fn from_hosts(cluster: &Cluster) {
    let host = cluster.running(PLAIN, HOST);
    let node = cluster.node("nb");
    for server in ["a2", "b1"] {
        for to in cluster.pod_ips(SHOP, server) {
            // Whatever address the node has on that side.
            let answer = host.call(to, APP, &[]);
            let right = |text: &String| text.starts_with(&format!("{server} saw "));
            assert!(answer.as_ref().is_ok_and(right), "nb -> {to}: {answer:?}");
        }
        for to in cluster.service_ips(SHOP, server) {
            let answer = Call::to(to, 80).hello(&node.netns, "from-the-node");
            let answer = answer.unwrap_or_else(|error| panic!("nb -> {to}: {error:?}"));
            assert!(answer.starts_with(&format!("{server} saw ")), "{answer}");
        }
    }
}

/// Every node's port leads to the pod, wherever it is.
fn node_ports(cluster: &Cluster) {
    let from = cluster.node("nb");
    for server in ["a2", "b1"] {
        let service = cluster.get(&["-n", SHOP, "service", server]);
        let port = service["spec"]["ports"][0]["nodePort"]
            .as_u64()
            .expect("a port");
        let port = u16::try_from(port).expect("a port's number");
        for to in cluster.nodes.iter().flat_map(|node| node.addresses.clone()) {
            wait::value(&format!("{to} {port} to lead to {server}"), SETTLE, || {
                let answer = Call::to(to, port).hello(&from.netns, "node-port");
                let right = |text: &String| text.starts_with(&format!("{server} saw "));
                answer
                    .ok()
                    .filter(right)
                    .ok_or_else(|| "no such answer".to_owned())
            });
        }
    }
}

/// Captured pods to the node they are on, and to the other one.
fn to_hosts(cluster: &Cluster) {
    for (name, here) in [("a1", false), ("b1", true)] {
        let client = cluster.running(SHOP, name);
        for to in cluster.node("nb").addresses.clone() {
            let answer = client.call(to, HOST_PORT, &[]);
            // Between nodes the proxy may speak for the pod.
            let expected = format!("{HOST} saw {}", client.ip_like(to));
            let right = |text: &String| {
                if here {
                    *text == expected
                } else {
                    text.starts_with("host saw ")
                }
            };
            assert!(
                answer.as_ref().is_ok_and(right),
                "{name} -> {to}: {answer:?}"
            );
        }
    }
}

/// It says that it wants TLS, so it has been reached.
fn api_server(cluster: &Cluster) {
    for (to, client) in cluster
        .service_ips("default", "kubernetes")
        .into_iter()
        .flat_map(|to: IpAddr| [(to, "a1"), (to, "b1")])
    {
        let answer = cluster.running(SHOP, client).call(to, 443, &["--http"]);
        let reached = answer.as_ref().is_err_and(|error| error.contains("400"));
        assert!(reached, "{client} -> {to}: {answer:?}");
    }
}

/// UDP is nobody's business: it is readable between the nodes, as before.
fn datagrams(cluster: &Cluster) {
    let tap = cluster.tap();
    let client = cluster.running(SHOP, "a1");
    let mut calls = 0;
    for to in cluster.pod_ips(SHOP, "b1") {
        shop::assert_saw(&client.call(to, APP, &["--udp"]), "b1", &client, to);
        calls += 1;
    }
    for to in cluster.service_ips(SHOP, "b1") {
        shop::assert_saw(&client.call(to, 80, &["--udp"]), "b1", &client, to);
        calls += 1;
    }
    assert_eq!(tap.count("hello-datagram"), calls);
}
