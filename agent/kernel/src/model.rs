//! Plain values: what is configured, what is wanted of a node, what was found.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
};

/// A pod's metadata.uid. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PodUid(Arc<str>);

impl PodUid {
    /// A uid, unless it is empty.
    pub fn new(uid: impl Into<Arc<str>>) -> Option<Self> {
        let uid = uid.into();
        (!uid.is_empty()).then_some(Self(uid))
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every name and number the kernel will see, so that several agents can share
/// a machine and none has to collide with a neighbour.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Owner tag: written into whatever can carry one (nft table comment) and
    /// hashed into the links' MAC addresses. 1 to 64 bytes.
    pub instance: String,
    /// The node's network namespace.
    pub node_netns: PathBuf,
    /// Both ends of the link that carries traffic to captured pods, and of the
    /// one that carries traffic from them. At most 15 bytes.
    pub link_in: String,
    pub link_out: String,
    /// nftables table, in families netdev and inet of the node and inet, ip and
    /// ip6 of the proxy's namespace.
    pub nft_table: String,
    /// Protocol number on every route and rule of ours (`rtm_protocol`,
    /// `FRA_PROTOCOL`): how ours are told from other people's.
    pub protocol: u8,
    /// Node: table with a route per captured pod address.
    pub pod_table: u32,
    /// Node: priorities of "the host itself is exempt", "to captured pods",
    /// and the jump's target.
    pub node_priorities: [u32; 3],
    /// Proxy namespace: table that delivers steered packets locally, and the
    /// one that sends foreign sources back over the link.
    pub local_table: u32,
    pub return_table: u32,
    /// Proxy namespace: priorities of "marked packets are local", "own source
    /// as usual", "no source as usual", "everything else over the link".
    pub proxy_priorities: [u32; 4],
    /// Proxy namespace: mark of steered packets, under its mask. Two more values
    /// under the mask are on packets for the time they are in the namespace's
    /// hooks: this one with the mask's lowest bits turned over (of 0x111/0xfff:
    /// 0x110 and 0x113). A mask of one bit has none, and
    /// [`Kernel::limits`](crate::Kernel::limits) says what is missing then.
    pub mark: u32,
    pub mark_mask: u32,
    /// Where the proxy listens.
    pub ports: ProxyPorts,
    /// Next hop on the links: an address that nobody owns.
    pub next_hop: Ipv4Addr,
    /// Dummy address for the links (RFC 7600), so that loose `rp_filter` works.
    pub link_address: Ipv4Addr,
    /// Source of the second leg of a pod's call to its own node's NodePort.
    pub hairpin: (Ipv4Addr, Ipv6Addr),
    /// NodePort range: dialled at a node-local address by a captured pod these
    /// go through the proxy. Must not overlap the node's ephemeral ports.
    pub node_ports: RangeInclusive<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            instance: "sluice".into(),
            node_netns: "/proc/self/ns/net".into(),
            link_in: "sl-in".into(),
            link_out: "sl-out".into(),
            nft_table: "sluice".into(),
            protocol: 83,
            pod_table: 8301,
            node_priorities: [104, 105, 106],
            local_table: 8302,
            return_table: 8303,
            proxy_priorities: [100, 110, 111, 112],
            mark: 0x111,
            mark_mask: 0xfff,
            ports: ProxyPorts::default(),
            next_hop: Ipv4Addr::new(169, 254, 0, 1),
            link_address: Ipv4Addr::new(192, 0, 0, 8),
            hairpin: (
                Ipv4Addr::new(192, 0, 0, 9),
                Ipv6Addr::new(0xfd5e, 0, 0, 0, 0, 0, 0, 9),
            ),
            node_ports: 30000..=32767,
        }
    }
}

/// Ports of a proxy that listens like ztunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyPorts {
    pub outbound: u16,
    pub inbound: u16,
    pub hbone: u16,
}

impl Default for ProxyPorts {
    fn default() -> Self {
        Self {
            outbound: 15001,
            inbound: 15006,
            hbone: 15008,
        }
    }
}

/// Which namespace a path led to when it was last looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NetnsId {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
}

/// The host's side of a pod's interface.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Link {
    pub index: u32,
    pub name: String,
}

/// A pod that is to be captured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    pub link: Link,
    pub addresses: BTreeSet<IpAddr>,
}

/// The proxy that traffic is handed to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    pub netns: NetnsId,
    pub link: Link,
    pub addresses: BTreeSet<IpAddr>,
}

/// What is wanted of the node: the whole of it, as one value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    /// None: no proxy is known, or it is gone. Pods that are captured stay
    /// closed: their traffic is dropped or refused, never passed.
    pub proxy: Option<Proxy>,
    pub pods: BTreeMap<PodUid, Pod>,
    /// Host ports of any pod of the node, besides `Settings::node_ports`.
    pub host_ports: BTreeSet<u16>,
}

/// A difference from what is wanted that was found and mended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repair {
    /// Kind of object: `link`, `address`, `neighbour`, `sysctl`, `rule`,
    /// `route`, `nft`. A metric label: the set is closed.
    pub kind: &'static str,
    /// Which, in words.
    pub object: String,
    /// The pod whose capture it belongs to.
    pub pod: Option<PodUid>,
}

/// Something that forbids capture on the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Short name of the check, such as `ipvs` or `rpfilter`.
    pub check: &'static str,
    /// What was found, where.
    pub evidence: String,
    /// What to do about it.
    pub remedy: String,
}

/// One object that a pod's capture consists of, freshly read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    pub object: String,
    pub present: bool,
}
