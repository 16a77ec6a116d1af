//! What is there and what is to be done about it, as one picture each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    address::AddressFact,
    diff::{self, Step},
    error::{KernelError, PodError},
    layout::{self, Accepted, Ground, LinkStep, Tunnel},
    link::LinkFact,
    model::{Node, Pod, PodUid, Repair, Settings},
    nft::{self, Change, NodeFacts, ProxyFacts, Resets, Ruleset},
    place::Place,
    state::{Found, Owner, Wanted},
};

/// Service addresses of kube-proxy in IPVS mode sit on this link: they are the
/// node's by name only.
const IPVS_LINK: &str = "kube-ipvs0";

/// Both namespaces as they were found.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) resets: Resets,
    pub(crate) node_links: Vec<LinkFact>,
    pub(crate) proxy_links: Vec<LinkFact>,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) ipv6: bool,
    /// Addresses that reach the node itself.
    pub(crate) local: BTreeSet<IpAddr>,
    pub(crate) node: Found,
    pub(crate) proxy: Found,
    pub(crate) node_rules: Ruleset,
    pub(crate) proxy_rules: Ruleset,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    /// If there are any, the rest is decided again after them.
    pub(crate) links: Vec<LinkStep>,
    pub(crate) node: Vec<Step>,
    pub(crate) proxy: Vec<Step>,
    pub(crate) node_rules: Vec<Change>,
    pub(crate) proxy_rules: Vec<Change>,
    /// Pods that have packet rules.
    pub(crate) steered: BTreeMap<PodUid, Pod>,
    pub(crate) failed: BTreeMap<PodUid, PodError>,
}

impl Plan {
    /// Every change, in words.
    pub(crate) fn repairs(&self, settings: &Settings, wanted: &Node) -> Vec<Repair> {
        let links = self.links.iter().map(|step| Repair {
            kind: "link",
            object: step.describe(settings),
            pod: None,
        });
        let steps = self.node.iter().chain(&self.proxy).map(|step| Repair {
            kind: step.object.kind(),
            object: step.to_string(),
            pod: step.owner.as_ref().and_then(Owner::pod).cloned(),
        });
        let rules = self
            .node_rules
            .iter()
            .map(|change| (change, change.pod(&wanted.pods)));
        let rules = rules.chain(self.proxy_rules.iter().map(|change| (change, None)));
        let rules = rules.map(|(change, pod)| Repair {
            kind: "nft",
            object: change.describe(),
            pod: pod.cloned(),
        });
        links.chain(steps).chain(rules).collect()
    }

    /// Whether it would change the same.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (&self.links, &self.node, &self.proxy) == (&other.links, &other.node, &other.proxy)
            && (&self.node_rules, &self.proxy_rules) == (&other.node_rules, &other.proxy_rules)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
            && self.node.is_empty()
            && self.proxy.is_empty()
            && self.node_rules.is_empty()
            && self.proxy_rules.is_empty()
    }
}

/// Reads everything that `wanted` is compared with.
pub(crate) fn look(
    settings: &Settings,
    resets: Resets,
    wanted: &Node,
    node: &mut Place,
    mut proxy: Option<&mut Place>,
) -> Result<Picture, KernelError> {
    let node_links = node.links()?;
    let (mut proxy_links, mut ipv6) = (Vec::new(), node.ipv6_usable()?);
    if let Some(proxy) = proxy.as_deref_mut() {
        proxy_links = proxy.links()?;
        ipv6 &= proxy.ipv6_usable()?;
    }
    let addresses = node.addresses()?;
    let mut picture = Picture {
        resets,
        tunnel: Tunnel::found(settings, &node_links, &proxy_links),
        local: local(settings, &node_links, &addresses),
        node_links,
        proxy_links,
        ipv6,
        node: Found::new(),
        proxy: Found::new(),
        node_rules: node.ruleset(settings)?,
        proxy_rules: Ruleset::default(),
    };
    let ground = ground(settings, wanted, &picture, proxy.is_some());
    let sysctls = layout::node_shared(ground);
    let ours = own(&picture, false);
    let node_found = node.found(settings, &ours, &addresses, &sysctls)?;
    if let Some(proxy) = proxy {
        let (sysctls, ours) = (layout::proxy(ground), own(&picture, true));
        let addresses = proxy.addresses()?;
        picture.proxy_rules = proxy.ruleset(settings)?;
        picture.proxy = proxy.found(settings, &ours, &addresses, &sysctls)?;
    }
    picture.node = node_found;
    Ok(picture)
}

/// What has to be done for the node to be as wanted. Pure.
pub(crate) fn decide(
    settings: &Settings,
    wanted: &Node,
    picture: &Picture,
    with_proxy: bool,
    refused: &BTreeSet<PodUid>,
) -> Plan {
    let ground = ground(settings, wanted, picture, with_proxy);
    let mtu = ground
        .proxy
        .map(|proxy| layout::mtu(&picture.node_links, &proxy.link));
    let Accepted {
        pods,
        without_link,
        failed,
    } = layout::accept(wanted, &picture.node_links, ground.ipv6, refused);
    let steered: BTreeMap<PodUid, Pod> = pods
        .iter()
        .filter(|(uid, _)| !without_link.contains(*uid))
        .map(|(uid, pod)| ((*uid).clone(), (*pod).clone()))
        .collect();
    // A node with nothing to capture and no proxy is left alone.
    let active = with_proxy || !wanted.pods.is_empty();
    let (node, proxy) = if active {
        (layout::node(ground, pods), layout::proxy(ground))
    } else {
        (Wanted::new(), Wanted::new())
    };
    let proxy_rules = if with_proxy {
        let pair = ground.tunnel.map(|tunnel| tunnel.of(layout::Which::Out));
        let facts = ProxyFacts {
            link_out: pair.map(|pair| pair.proxy.link.index),
            resets: picture.resets,
            ipv6: ground.ipv6,
        };
        nft::proxy_ruleset(settings, facts)
    } else {
        Ruleset::default()
    };
    Plan {
        links: layout::plan_links(settings, &picture.node_links, &picture.proxy_links, mtu),
        node: diff::plan(&node, &picture.node),
        proxy: diff::plan(&proxy, &picture.proxy),
        node_rules: node_rules(settings, wanted, picture, with_proxy, &steered),
        proxy_rules: nft::plan(&proxy_rules, &picture.proxy_rules),
        steered,
        failed,
    }
}

/// What has to be done to the node's packet rules so that `pods` are taken.
pub(crate) fn node_rules(
    settings: &Settings,
    wanted: &Node,
    picture: &Picture,
    with_proxy: bool,
    pods: &BTreeMap<PodUid, Pod>,
) -> Vec<Change> {
    let ground = ground(settings, wanted, picture, with_proxy);
    let links = &picture.node_links;
    let own = ground.proxy.map(|proxy| &proxy.link);
    let index = |which| Some(ground.tunnel?.of(which).node.link.index);
    let facts = NodeFacts {
        link_in: index(layout::Which::In),
        link_out: index(layout::Which::Out),
        proxy_link: own.filter(|link| links.iter().any(|fact| fact.link() == **link)),
        local: &picture.local,
        host_ports: &wanted.host_ports,
        pods,
        ipv6: ground.ipv6,
    };
    nft::plan(&nft::node_ruleset(settings, &facts), &picture.node_rules)
}

pub(crate) fn ground<'a>(
    settings: &'a Settings,
    wanted: &'a Node,
    picture: &'a Picture,
    with_proxy: bool,
) -> Ground<'a> {
    Ground {
        settings,
        proxy: wanted.proxy.as_ref().filter(|_| with_proxy),
        tunnel: picture.tunnel.as_ref().filter(|_| with_proxy),
        ipv6: picture.ipv6,
    }
}

/// Addresses that reach the node itself: not the ones that we put there, nor
/// service addresses. Link-local ones are never taken anyway.
pub(crate) fn local(
    settings: &Settings,
    links: &[LinkFact],
    addresses: &[AddressFact],
) -> BTreeSet<IpAddr> {
    let not_the_nodes: BTreeSet<_> = links
        .iter()
        .filter(|fact| fact.name == IPVS_LINK || named_ours(settings, fact))
        .map(|fact| fact.index)
        .collect();
    addresses
        .iter()
        .filter(|fact| !not_the_nodes.contains(&fact.link))
        .map(|fact| fact.address)
        .filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        })
        .collect()
}

fn named_ours(settings: &Settings, fact: &LinkFact) -> bool {
    layout::ours(settings, fact) || [&settings.link_in, &settings.link_out].contains(&&fact.name)
}

/// The links of ours in one namespace.
fn own(picture: &Picture, in_proxy: bool) -> Vec<LinkFact> {
    let Some(tunnel) = &picture.tunnel else {
        return Vec::new();
    };
    let links = if in_proxy {
        &picture.proxy_links
    } else {
        &picture.node_links
    };
    let ends = layout::Which::BOTH.map(|which| {
        let pair = tunnel.of(which);
        let peer = if in_proxy { &pair.proxy } else { &pair.node };
        peer.link.index
    });
    let own = links.iter().filter(|fact| ends.contains(&fact.index));
    own.cloned().collect()
}
