//! What should be in the kernel for a node to be as wanted. Pure.
//!
//! The data path, for reference:
//! - TCP of a captured pod is taken at ingress of its own link and handed to the
//!   proxy over the `out` pair (packet rules).
//! - TCP to a captured pod finds a route in our table, over the `in` pair; an
//!   `unreachable` route of a higher metric keeps the address closed when that
//!   one is gone.
//! - What the proxy sends with a foreign source comes back over the `out` pair,
//!   so that no foreign source appears on the CNI's own link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod pods;
mod tunnel;

pub(crate) use self::{
    pods::{Accepted, accept},
    tunnel::{LinkStep, Peer, Tunnel, Which, end, mtu, ours, plan as plan_links},
};
use crate::{
    model::{Link, Pod, PodUid, Proxy, Settings},
    state::{Action, Family, Object, Owner, Route, Rule, Target, Wanted},
    sysctl::Sysctl,
};

/// Metric of the routes that keep an address closed: lower than any other's
/// preference.
const BACKSTOP_METRIC: u32 = 4_000_000_000;
/// What the kernel makes of "no metric" in IPv6.
const IPV6_METRIC: u32 = 1024;
/// Link-local addresses of the pairs' ends.
pub(crate) const NODE_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const PROXY_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The routing table `main`.
const MAIN: u32 = 254;

/// Settings and what was found of the namespaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) proxy: Option<&'a Proxy>,
    /// The pairs between node and proxy, if both namespaces are there.
    pub(crate) tunnel: Option<&'a Tunnel>,
    /// IPv6 can be used in every namespace of the data path.
    pub(crate) ipv6: bool,
}

impl Ground<'_> {
    fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let ipv6 = self.ipv6;
        Family::BOTH
            .into_iter()
            .filter(move |family| *family == Family::V4 || ipv6)
    }
}

/// Objects of the node's namespace that do not belong to one pod.
pub(crate) fn node_shared(ground: Ground<'_>) -> Wanted {
    let settings = ground.settings;
    let mut objects = Vec::new();
    if let Some(tunnel) = ground.tunnel {
        let (v4, v6) = settings.hairpin;
        for which in Which::BOTH {
            let peer = &tunnel.of(which).node;
            link_objects(ground, which, peer, false, &mut objects);
            neighbour(peer, settings.next_hop, &mut objects);
            if ground.ipv6 {
                address(&peer.link, NODE_HOP_V6, 64, &mut objects);
                neighbour(peer, PROXY_HOP_V6, &mut objects);
            }
        }
        let inward = &tunnel.of(Which::In).node.link;
        let outward = &tunnel.of(Which::Out).node.link;
        address(inward, v4, 32, &mut objects);
        address(outward, settings.link_address, 32, &mut objects);
        if ground.ipv6 {
            address(inward, v6, 128, &mut objects);
        }
    }
    for family in ground.families() {
        objects.extend(node_rules(settings, family).map(Object::Rule));
    }
    shared(objects)
}

/// The host itself is exempt, and so are the answers of link-local addresses,
/// to which nothing is taken; TCP to captured pods goes to the proxy, and what
/// finds no route there goes on where it would have gone.
fn node_rules(settings: &Settings, family: Family) -> [Rule; 4] {
    let [host, captured, rest] = settings.node_priorities;
    let link_local: (IpAddr, u8) = match family {
        Family::V4 => (Ipv4Addr::new(169, 254, 0, 0).into(), 16),
        Family::V6 => (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
    };
    [
        Rule {
            source: Some(link_local),
            ..rule(family, host, Action::Goto(rest))
        },
        Rule {
            iif: Some("lo".into()),
            ..rule(family, host, Action::Goto(rest))
        },
        Rule {
            tcp: true,
            ..rule(family, captured, Action::Lookup(settings.pod_table))
        },
        rule(family, rest, Action::Nop),
    ]
}

/// Objects of the node's namespace that belong to one pod.
pub(crate) fn node_pod(ground: Ground<'_>, pod: &Pod) -> Vec<Object> {
    let mut objects = Vec::new();
    for address in &pod.addresses {
        let family = Family::of(*address);
        if family == Family::V6 && !ground.ipv6 {
            continue;
        }
        let to_pod = |metric, target| {
            Object::Route(Route {
                table: ground.settings.pod_table,
                destination: (*address, family.host_prefix()),
                metric,
                target,
                odd: None,
            })
        };
        objects.push(to_pod(BACKSTOP_METRIC, Target::Unreachable));
        if let Some(tunnel) = ground.tunnel {
            let gateway = next_hop(ground.settings, family, PROXY_HOP_V6);
            let link = tunnel.of(Which::In).node.link.index;
            objects.push(to_pod(metric(family), Target::Via { gateway, link }));
        }
    }
    objects
}

/// Everything wanted in the node's namespace.
pub(crate) fn node<'a>(
    ground: Ground<'_>,
    pods: impl IntoIterator<Item = (&'a PodUid, &'a Pod)>,
) -> Wanted {
    let mut wanted = node_shared(ground);
    for (uid, pod) in pods {
        for object in node_pod(ground, pod) {
            wanted.insert(object, Owner::Pod(uid.clone()));
        }
    }
    wanted
}

/// Everything wanted in the proxy's namespace: nothing there is per pod.
pub(crate) fn proxy(ground: Ground<'_>) -> Wanted {
    let settings = ground.settings;
    let mut objects = Vec::new();
    let (Some(tunnel), Some(proxy)) = (ground.tunnel, ground.proxy) else {
        return Wanted::new();
    };
    for which in Which::BOTH {
        let peer = &tunnel.of(which).proxy;
        link_objects(ground, which, peer, true, &mut objects);
        address(&peer.link, settings.link_address, 32, &mut objects);
        if ground.ipv6 {
            address(&peer.link, PROXY_HOP_V6, 64, &mut objects);
            neighbour(peer, NODE_HOP_V6, &mut objects);
        }
    }
    let outward = &tunnel.of(Which::Out).proxy;
    neighbour(outward, settings.next_hop, &mut objects);
    for family in ground.families() {
        let rules = proxy_rules(settings, proxy, family);
        objects.extend(rules.into_iter().map(Object::Rule));
        let routes = proxy_routes(settings, outward.link.index, family);
        objects.extend(routes.map(Object::Route));
    }
    shared(objects)
}

/// Steered packets are delivered here; the proxy's own traffic goes as it would
/// without us; what has a foreign source goes back to the node.
fn proxy_rules(settings: &Settings, proxy: &Proxy, family: Family) -> Vec<Rule> {
    let [marked, own, none, foreign] = settings.proxy_priorities;
    let from = |priority, address| Rule {
        source: Some((address, family.host_prefix())),
        ..rule(family, priority, Action::Lookup(MAIN))
    };
    let mut rules = vec![
        Rule {
            mark: Some((settings.mark, settings.mark_mask)),
            ..rule(family, marked, Action::Lookup(settings.local_table))
        },
        from(none, unspecified(family)),
        Rule {
            iif: Some("lo".into()),
            ..rule(family, foreign, Action::Lookup(settings.return_table))
        },
    ];
    let addresses = proxy.addresses.iter().copied();
    rules.extend(
        addresses
            .filter(|address| Family::of(*address) == family)
            .map(|address| from(own, address)),
    );
    rules
}

fn proxy_routes(settings: &Settings, outward: u32, family: Family) -> [Route; 2] {
    let to_all = |table, target| Route {
        table,
        destination: (unspecified(family), 0),
        metric: metric(family),
        target,
        odd: None,
    };
    let gateway = next_hop(settings, family, NODE_HOP_V6);
    let back = Target::Via {
        gateway,
        link: outward,
    };
    [
        to_all(settings.local_table, Target::Local),
        to_all(settings.return_table, back),
    ]
}

fn link_objects(
    ground: Ground<'_>,
    which: Which,
    peer: &Peer,
    in_proxy: bool,
    objects: &mut Vec<Object>,
) {
    let link = &peer.link;
    for (sysctl, value) in sysctls(which, &link.name, in_proxy, ground.ipv6) {
        objects.push(Object::Sysctl {
            link: link.clone(),
            family: sysctl.family,
            key: sysctl.key,
            value,
        });
    }
    objects.push(Object::Up { link: link.clone() });
}

/// What the sysctls of one of our links should be.
pub(crate) fn sysctls(
    which: Which,
    link: &str,
    in_proxy: bool,
    ipv6: bool,
) -> Vec<(Sysctl, String)> {
    let mut sysctls = Vec::new();
    let mut set = |family, key, value: &str| {
        let link = link.to_owned();
        sysctls.push((Sysctl { family, link, key }, value.to_owned()));
    };
    // The kernel takes the maximum of this and `all`: loose is the only value
    // that always works.
    set(Family::V4, "rp_filter", "2");
    if in_proxy {
        // A pod that calls its own service comes back to the proxy with the
        // proxy's own address.
        set(Family::V4, "accept_local", "1");
    } else if which == Which::Out {
        set(Family::V4, "accept_local", "1");
        set(Family::V4, "forwarding", "1");
    }
    if ipv6 {
        set(Family::V6, "disable_ipv6", "0");
        // No address of the link's own, hence nothing to detect duplicates of.
        set(Family::V6, "addr_gen_mode", "1");
        set(Family::V6, "accept_ra", "0");
        set(Family::V6, "accept_dad", "0");
    }
    sysctls
}

fn shared(objects: Vec<Object>) -> Wanted {
    let owned = objects.into_iter().map(|object| (object, Owner::Shared));
    owned.collect()
}

fn address(link: &Link, address: impl Into<IpAddr>, prefix: u8, objects: &mut Vec<Object>) {
    objects.push(Object::Address {
        link: link.clone(),
        address: address.into(),
        prefix,
        odd: false,
    });
}

fn neighbour(peer: &Peer, address: impl Into<IpAddr>, objects: &mut Vec<Object>) {
    objects.push(Object::Neighbour {
        link: peer.link.clone(),
        address: address.into(),
        mac: Some(peer.other),
    });
}

fn rule(family: Family, priority: u32, action: Action) -> Rule {
    Rule {
        family,
        priority,
        source: None,
        iif: None,
        mark: None,
        tcp: false,
        action,
        odd: None,
    }
}

fn next_hop(settings: &Settings, family: Family, v6: Ipv6Addr) -> IpAddr {
    match family {
        Family::V4 => settings.next_hop.into(),
        Family::V6 => v6.into(),
    }
}

fn metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => IPV6_METRIC,
    }
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests;
