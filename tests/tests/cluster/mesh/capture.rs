//! From the label to the packet.

use std::net::{IpAddr, SocketAddr};

use sluice_tests::{
    cluster::{Cluster, pod::APP, running::Running},
    lab::wire::Wire,
    stand_in::Direction,
};

use super::shop::{self, NAMES, SHOP};

/// Pods that ran before Sluice came are captured as they run, and from then on
/// nothing that they say is readable between the nodes.
pub(super) fn capture(cluster: &mut Cluster) {
    shop::installed(cluster);
    let before = shop::identities(cluster);
    shop::enrolled(cluster);
    assert_eq!(
        shop::identities(cluster),
        before,
        "something was started anew"
    );
    let tap = cluster.tap();
    let client = cluster.running(SHOP, "a1");
    for (server, node) in [("b1", "nb"), ("a2", "na")] {
        for to in cluster.pod_ips(SHOP, server) {
            through(cluster, &client, (to, APP), server, node);
        }
        for to in cluster.service_ips(SHOP, server) {
            through(cluster, &client, (to, 80), server, node);
        }
    }
    assert_hidden(&tap, "while-captured");
    for pod in NAMES {
        assert_eq!(cluster.redirection(SHOP, pod).as_deref(), Some("enabled"));
    }
    shop::assert_holding(cluster, shop::PLAIN, shop::HOLDER);
}

/// A call whose stations are looked at: the server sees the client's own address,
/// the client's proxy what was dialled, the server's proxy the client.
fn through(
    cluster: &Cluster,
    client: &Running<'_>,
    (to, port): (IpAddr, u16),
    server: &str,
    node: &str,
) {
    let mark = |node: &str| cluster.connections(node).len();
    let marks = (mark(&client.node.name), mark(node));
    let answer = client.say(to, port, "while-captured");
    shop::assert_saw(&answer, server, client, to);
    let (source, dialled) = (client.ip_like(to), SocketAddr::new(to, port));
    cluster.wait_connection(
        &client.node.name,
        marks.0,
        &format!("{source} -> {dialled}"),
        |line| {
            let out = line.direction == Direction::Outbound && line.encrypted;
            out && line.src.ip() == source && line.dst == dialled
        },
    );
    cluster.wait_connection(
        node,
        marks.1,
        &format!("{server} called by {source}"),
        |line| line.direction == Direction::Inbound && line.encrypted && line.src.ip() == source,
    );
}

/// `text` was said, is not on the wire, and tunnels are.
#[track_caller]
pub(super) fn assert_hidden(tap: &Wire, text: &str) {
    assert_eq!(tap.count(text), 0, "{text:?} can be read between the nodes");
    let tunnels = tap.packets("tcp port 15008");
    assert!(tunnels > 0, "nothing was sent through a tunnel");
}
