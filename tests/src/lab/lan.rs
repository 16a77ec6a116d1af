//! The wires between nodes, the outside and the controller.

use super::{netns::Netns, node::Node};

/// The controller's address as a node sees it.
pub fn controller_address(node: &Node) -> String {
    format!("172.30.{}.1", node.index)
}

/// Connects everything.
pub fn wire(nodes: &[Node], ext: &Netns, control: &Netns) {
    for node in nodes {
        let link = format!("mg{}", node.index);
        let network = format!("172.30.{}", node.index);
        veth(&node.netns, control, &link);
        node.netns
            .ip(&format!("addr add {network}.2/24 dev {link}"));
        control.ip(&format!("addr add {network}.1/24 dev {link}"));
    }
    let Some(first) = nodes.first() else { return };
    veth(&first.netns, ext, "uplk");
    first.netns.ip("addr add 192.168.77.1/24 dev uplk
addr add fd00:77::1/64 dev uplk nodad
route add default via 192.168.77.2
route add default via fd00:77::2");
    ext.ip("addr add 192.168.77.2/24 dev uplk
addr add fd00:77::2/64 dev uplk nodad
route add default via 192.168.77.1
route add default via fd00:77::1");
    if let [first, second] = nodes {
        between(&first.netns, &second.netns);
    }
}

fn between(first: &Netns, second: &Netns) {
    veth(first, second, "wire");
    first.ip("addr add 172.31.9.1/24 dev wire
addr add fd00:31::1/64 dev wire nodad
route add 10.91.2.0/24 via 172.31.9.2
route add fd00:91:2::/64 via fd00:31::2");
    second.ip("addr add 172.31.9.2/24 dev wire
addr add fd00:31::2/64 dev wire nodad
route add 10.91.1.0/24 via 172.31.9.1
route add fd00:91:1::/64 via fd00:31::1
route add default via 172.31.9.1
route add default via fd00:31::1");
}

/// A link of the same name on both sides, up.
fn veth(one: &Netns, other: &Netns, link: &str) {
    one.ip(&format!(
        "link add {link} type veth peer name {link} netns {}\nlink set {link} up",
        other.name()
    ));
    other.ip(&format!("link set {link} up"));
}

/// More addresses that are the node's own: a bridge, loopback aliases, and one
/// of the kind that node-local DNS uses.
pub fn more_local_addresses(node: &Netns) {
    node.ip("link add br0 type bridge
link set br0 up
addr add 10.77.0.1/24 dev br0
addr add fd00:aa::1/64 dev br0 nodad
addr add 10.99.99.1/32 dev lo
addr add fd00:99::1/128 dev lo nodad
link add nodelocal type bridge
link set nodelocal up
addr add 169.254.20.10/32 dev nodelocal");
}
