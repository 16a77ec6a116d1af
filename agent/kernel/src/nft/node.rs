//! The node's tables: who is taken where.
//!
//! Everything about a single pod is an element of a set or a chain on its own
//! link, so a packet passes the same few rules however many pods there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    model::{
        Chain, ChainKind, DataType, Element, Family, Hook, HookPoint, Policy, Protocol, Rule,
        Ruleset, Set, Table, address_key,
    },
    owner,
    statement::{
        End, Statements,
        segment::{RST, SYN, URG},
    },
};
use crate::{
    layout::PROXY_HOP_V6,
    model::{Link, Pod, PodUid, Settings},
};

/// Just before kube-proxy and everybody else who masquerades (`srcnat`, 100).
const BEFORE_SOURCE_NAT: i32 = 99;
/// Never taken: link-local and multicast.
const NEVER_TAKEN: [(IpAddr, u32); 4] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

const FROM_POD: &str = "from_pod";
const FROM_PROXY: &str = "from_proxy";
const FROM_PROXY_TCP: &str = "from_proxy_tcp";
const HOST_PORTS: &str = "hostports";

/// What the node's rules depend on besides the settings.
#[derive(Clone, Debug)]
pub(crate) struct NodeFacts<'a> {
    /// Indexes of the node's ends of our links, while they are there.
    pub(crate) link_in: Option<u32>,
    pub(crate) link_out: Option<u32>,
    /// The node's end of the proxy's own interface, while it is there.
    pub(crate) proxy_link: Option<&'a Link>,
    /// Addresses that reach the node itself.
    pub(crate) local: &'a BTreeSet<IpAddr>,
    pub(crate) host_ports: &'a BTreeSet<u16>,
    /// Pods whose link is there.
    pub(crate) pods: &'a BTreeMap<PodUid, Pod>,
    /// The kernel has IPv6.
    pub(crate) ipv6: bool,
}

impl NodeFacts<'_> {
    fn protocols(&self) -> impl Iterator<Item = Protocol> + use<> {
        protocols(self.ipv6)
    }
}

pub(super) fn protocols(ipv6: bool) -> impl Iterator<Item = Protocol> {
    Protocol::BOTH
        .into_iter()
        .filter(move |protocol| ipv6 || *protocol == Protocol::Ipv4)
}

/// The node's tables; none if there is neither a pod nor a proxy.
pub(crate) fn node_ruleset(settings: &Settings, facts: &NodeFacts<'_>) -> Ruleset {
    if facts.pods.is_empty() && facts.proxy_link.is_none() {
        return Ruleset::default();
    }
    let name = &settings.nft_table;
    let steering = ((Family::Netdev, name.clone()), steering(settings, facts));
    let translation = ((Family::Inet, name.clone()), translation(settings, facts));
    Ruleset {
        tables: BTreeMap::from([steering, translation]),
    }
}

/// The part of the node's tables that is this pod's alone: its chain and its
/// elements.
pub(crate) fn pod_ruleset(settings: &Settings, pod: &Pod, ipv6: bool) -> Ruleset {
    let mut table = empty_steering(settings, ipv6);
    add_pod(&mut table, pod);
    let id = (Family::Netdev, settings.nft_table.clone());
    Ruleset {
        tables: BTreeMap::from([(id, table)]),
    }
}

/// The name of the chain on a pod's link.
pub(crate) fn pod_chain(link: &str) -> String {
    format!("in-{link}")
}

fn steering(settings: &Settings, facts: &NodeFacts<'_>) -> Table {
    let mut table = empty_steering(settings, facts.ipv6);
    let from_pod = Chain {
        hook: None,
        rules: from_pod(settings, facts),
    };
    table.chains.insert(FROM_POD.into(), from_pod);
    for address in facts.local {
        let set = Protocol::of(*address).set("local");
        add(&mut table, &set, address_key(*address), Vec::new());
    }
    for port in facts.host_ports {
        add(
            &mut table,
            HOST_PORTS,
            port.to_be_bytes().into(),
            Vec::new(),
        );
    }
    for pod in facts.pods.values() {
        add_pod(&mut table, pod);
    }

    let out = facts.link_out.map(|_| settings.link_out.clone());
    let own = facts.proxy_link.map(|link| link.name.clone());
    let devices = BTreeSet::from_iter(out.into_iter().chain(own));
    // The kernel refuses a chain on a link that is not there.
    if !devices.is_empty() {
        let rules = from_proxy(settings, facts);
        let tcp = Chain { hook: None, rules };
        table.chains.insert(FROM_PROXY_TCP.into(), tcp);
        let chain = ingress(devices, FROM_PROXY_TCP);
        table.chains.insert(FROM_PROXY.into(), chain);
    }
    table
}

/// The table with its sets, all empty.
fn empty_steering(settings: &Settings, ipv6: bool) -> Table {
    let mut table = Table {
        comment: Some(owner(settings)),
        ..Table::default()
    };
    for protocol in protocols(ipv6) {
        let address = match protocol {
            Protocol::Ipv4 => DataType::Ipv4Address,
            Protocol::Ipv6 => DataType::Ipv6Address,
        };
        for name in ["cap", "local"] {
            let set = Set::of(address, None);
            table.sets.insert(protocol.set(name), set);
        }
        let map = Set::of(address, Some(DataType::InterfaceIndex));
        table.sets.insert(protocol.set("dev"), map);
    }
    let ports = Set::of(DataType::Service, None);
    table.sets.insert(HOST_PORTS.into(), ports);
    table
}

fn add_pod(table: &mut Table, pod: &Pod) {
    for address in &pod.addresses {
        let protocol = Protocol::of(*address);
        let key = address_key(*address);
        let index = pod.link.index.to_ne_bytes();
        add(table, &protocol.set("cap"), key.clone(), Vec::new());
        add(table, &protocol.set("dev"), key, index.into());
    }
    let devices = BTreeSet::from([pod.link.name.clone()]);
    let chain = ingress(devices, FROM_POD);
    table.chains.insert(pod_chain(&pod.link.name), chain);
}

fn add(table: &mut Table, set: &str, key: Vec<u8>, data: Vec<u8>) {
    if let Some(set) = table.sets.get_mut(set) {
        let other = Vec::new();
        set.elements.insert(key, Element { data, other });
    }
}

/// A chain on links. TCP is matched positively: ARP has no transport protocol,
/// so "not TCP" would not match it either.
fn ingress(devices: BTreeSet<String>, target: &str) -> Chain {
    Chain {
        hook: Some(Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Ingress,
            priority: 0,
            devices,
            policy: Policy::Accept,
        }),
        rules: vec![Statements::default().tcp().jump(target)],
    }
}

/// Everything to the proxy, but for what the node itself answers.
fn from_pod(settings: &Settings, facts: &NodeFacts<'_>) -> Vec<Rule> {
    let rule = |protocol| Statements::default().ether(protocol);
    let (low, high) = (*settings.node_ports.start(), *settings.node_ports.end());
    let known = |protocol: &Protocol| facts.protocols().any(|known| known == *protocol);

    let never = NEVER_TAKEN
        .into_iter()
        .map(|(prefix, length)| (Protocol::of(prefix), prefix, length))
        .filter(|(protocol, ..)| known(protocol))
        .map(|(protocol, prefix, length)| {
            rule(protocol)
                .address_within(End::Destination, prefix, length)
                .accept()
        });
    // Ports of the node that lead to pods go through the proxy as well.
    let local = facts.protocols().map(|protocol| {
        rule(protocol)
            .address_in(End::Destination, protocol, "local")
            .tcp()
            .port_outside(End::Destination, low, high)
            .port_not_in(End::Destination, HOST_PORTS)
            .accept()
    });
    let proxy = facts.link_out.into_iter().flat_map(|link| {
        facts
            .protocols()
            .map(move |protocol| rule(protocol).forward(link, next_hop(settings, protocol)))
    });
    let closed = std::iter::once(Statements::default().drop());
    never.chain(local).chain(proxy).chain(closed).collect()
}

/// Straight to the pod; HBONE of pods of this node back to the proxy. What is
/// made for pods only ([`super::reset`]) goes nowhere else.
fn from_proxy(settings: &Settings, facts: &NodeFacts<'_>) -> Vec<Rule> {
    let hbone = settings.ports.hbone;
    let back = |rule: Statements, protocol| match facts.link_in {
        Some(link) => rule.forward(link, next_hop(settings, protocol)),
        None => rule.drop(),
    };
    let hairpin = facts.protocols().flat_map(|protocol| {
        let to = Statements::default()
            .ether(protocol)
            .address_in(End::Destination, protocol, "cap")
            .tcp()
            .port(End::Destination, hbone);
        let reply = Statements::default()
            .ether(protocol)
            .address_in(End::Source, protocol, "cap")
            .address_in(End::Destination, protocol, "cap")
            .tcp()
            .port(End::Source, hbone);
        [back(to, protocol), back(reply, protocol)]
    });
    let pods = facts.protocols().map(|protocol| {
        Statements::default()
            .ether(protocol)
            .forward_by(protocol, "dev")
    });
    let for_pods_only =
        [RST | URG, SYN | URG].map(|flags| Statements::default().tcp().with_flags(flags).drop());
    hairpin.chain(pods).chain(for_pods_only).collect()
}

fn next_hop(settings: &Settings, protocol: Protocol) -> IpAddr {
    match protocol {
        Protocol::Ipv4 => settings.next_hop.into(),
        Protocol::Ipv6 => PROXY_HOP_V6.into(),
    }
}

/// Connections on our links keep their source: a binding made here is final, so
/// nobody masquerades them later.
fn translation(settings: &Settings, facts: &NodeFacts<'_>) -> Table {
    let from_proxy = std::iter::once(settings.link_out.as_str())
        .chain(facts.proxy_link.map(|link| link.name.as_str()));
    // A pod's call to a NodePort of its own node that ends at a captured pod of
    // the same node passes the proxy twice; the source tells the legs apart.
    let second_leg = from_proxy.flat_map(|input| {
        facts.protocols().map(move |protocol| {
            let address = match protocol {
                Protocol::Ipv4 => settings.hairpin.0.into(),
                Protocol::Ipv6 => settings.hairpin.1.into(),
            };
            Statements::default()
                .input(input)
                .output(&settings.link_in)
                .tcp()
                .destination_translated()
                .nfproto(protocol)
                .source_nat(address)
        })
    });
    let keep = [&settings.link_in, &settings.link_out]
        .into_iter()
        .flat_map(|output| {
            facts.protocols().map(move |protocol| {
                Statements::default()
                    .output(output)
                    .tcp()
                    .nfproto(protocol)
                    .keep_source(protocol)
            })
        });
    let chain = Chain {
        hook: Some(Hook {
            kind: ChainKind::Nat,
            point: HookPoint::Postrouting,
            priority: BEFORE_SOURCE_NAT,
            devices: BTreeSet::new(),
            policy: Policy::Accept,
        }),
        rules: second_leg.chain(keep).collect(),
    };
    Table {
        comment: Some(owner(settings)),
        chains: BTreeMap::from([("postrouting".into(), chain)]),
        ..Table::default()
    }
}
