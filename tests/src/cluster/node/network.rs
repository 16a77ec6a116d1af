//! A node's links, and the primary network of its pods.

use std::path::Path;

use serde_json::json;

use crate::{
    cluster::{
        address,
        control::Control,
        files,
        options::{Family, Options},
    },
    lab::{self, netns::Netns},
};

/// The reference plugins that a node has.
const PLUGINS: [&str; 6] = [
    "bridge",
    "host-local",
    "loopback",
    "portmap",
    "ptp",
    "tuning",
];
/// Where Debian has them.
const DEBIAN: &str = "/usr/lib/cni";

/// Puts a node on the bridge and routes pod ranges between nodes.
pub(super) fn wire(netns: &Netns, control: &Control, index: u8, options: &Options) {
    let family = options.family;
    let port = lab::node::name(index);
    netns.ip(&format!(
        "link add eth0 type veth peer name {port} netns {}\nlink set eth0 up",
        control.netns.name()
    ));
    control
        .netns
        .ip(&format!("link set {port} master lan\nlink set {port} up"));
    netns.sysctl("net.ipv4.ip_forward", "1");
    netns.sysctl("net.ipv6.conf.all.forwarding", "1");
    for address in family.pick(
        format!("{}/24", address::node4(index)),
        format!("{}/64", address::node6(index)),
    ) {
        netns.ip(&format!("addr add {address} dev eth0"));
    }
    let gateways = family.pick(address::CONTROL4.to_string(), address::CONTROL6.to_string());
    for gateway in gateways {
        netns.ip(&format!("route add default via {gateway}"));
    }
    routes(&control.netns, index, family);
    for other in (1..=options.nodes).filter(|other| *other != index) {
        routes(netns, other, family);
    }
}

/// Routes to the pods of node `index`.
pub(super) fn routes(netns: &Netns, index: u8, family: Family) {
    for (pods, via) in address::pods(index, family)
        .iter()
        .zip(address::node(index, family))
    {
        netns.ip(&format!("route add {pods} via {via}"));
    }
}

/// Puts plugins and configuration where a node has them.
pub(super) fn install(dir: &Path, index: u8, family: Family) {
    let bin = dir.join("opt.upper/cni/bin");
    for plugin in PLUGINS {
        files::copy(&Path::new(DEBIAN).join(plugin), &bin.join(plugin));
    }
    let conf = dir.join("etc.upper/cni/net.d/10-pods.conflist");
    files::write_json(&conf, &conflist(index, family));
}

fn conflist(index: u8, family: Family) -> serde_json::Value {
    let ranges: Vec<_> = address::pods(index, family)
        .iter()
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    let routes: Vec<_> = family
        .pick("0.0.0.0/0", "::/0")
        .iter()
        .map(|network| json!({"dst": network}))
        .collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1500,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    })
}
