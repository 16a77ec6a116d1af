//! The address plan. The same in every cluster: each has namespaces of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::options::Family;

/// Networks of all pods, of all Services.
pub const PODS4: &str = "10.244.0.0/16";
pub const PODS6: &str = "fd44::/32";
pub const SERVICES4: &str = "10.96.0.0/16";
pub const SERVICES6: &str = "fd96::/112";
/// First address of each Service network: the API server's own Service.
pub const API4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
pub const API6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 1);
/// The control namespace on the nodes' network.
pub const CONTROL4: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
pub const CONTROL6: Ipv6Addr = Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 1);

/// Where nodes reach the API server.
pub fn control(family: Family) -> IpAddr {
    if family.has_v4() {
        CONTROL4.into()
    } else {
        CONTROL6.into()
    }
}

pub fn node4(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 30, 0, 10 + index)
}

pub fn node6(index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(index))
}

/// The node's addresses, the primary first.
pub fn node(index: u8, family: Family) -> Vec<IpAddr> {
    family.pick(node4(index).into(), node6(index).into())
}

/// Networks of the pods of one node.
pub fn pods(index: u8, family: Family) -> Vec<String> {
    family.pick(
        format!("10.244.{index}.0/24"),
        format!("fd44:0:{index:x}::/64"),
    )
}
