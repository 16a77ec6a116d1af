//! Primary networks of the reference plugins, as people configure them.

use serde_json::{Value, json};

use crate::cluster::Family;

/// The node's pods.
const RANGES: [&str; 2] = ["10.91.1.0/24", "fd00:91:1::/64"];

/// Each pod by a veth pair of its own and a route to it, then plugins that other
/// things are done with.
pub fn ptp(family: Family) -> Value {
    list(&json!([
        {"type": "ptp", "mtu": 1500, "ipam": ipam(family)},
        {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        {"type": "bandwidth", "capabilities": {"bandwidth": true}},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "512"}},
    ]))
}

/// All pods on one bridge that is their gateway.
pub fn bridge(family: Family) -> Value {
    list(&json!([
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": ipam(family)},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]))
}

/// All pods on one bridge, and the node has no address there.
pub fn switched(family: Family) -> Value {
    list(&json!([{"type": "bridge", "bridge": "cni0", "ipam": ipam(family)}]))
}

fn list(plugins: &Value) -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
}

/// `host-local` with the ranges and routes of a family.
pub fn ipam(family: Family) -> Value {
    let ranges: Vec<Value> = family
        .pick(RANGES[0], RANGES[1])
        .into_iter()
        .map(|subnet| json!([{"subnet": subnet}]))
        .collect();
    let routes: Vec<Value> = family
        .pick("0.0.0.0/0", "::/0")
        .into_iter()
        .map(|network| json!({"dst": network}))
        .collect();
    json!({"type": "host-local", "ranges": ranges, "routes": routes})
}
