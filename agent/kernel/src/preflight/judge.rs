//! From what was found to reasons to refuse. Pure.

use std::collections::BTreeSet;

use crate::{
    address::AddressFact,
    layout,
    link::LinkFact,
    model::{Node, Refusal, Settings},
    nft::Claimed,
    place::Side,
    route::RouteFact,
    rule::RuleFact,
    state::{Action, Family},
};

/// What was found in one namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) side: Side,
    pub(super) links: Vec<LinkFact>,
    /// Those of our tables, and all with our protocol number.
    pub(super) routes: Vec<RouteFact>,
    pub(super) rules: Vec<RuleFact>,
    pub(super) claimed: Vec<Claimed>,
}

/// Everything that was found, and what it is judged by.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) settings: &'a Settings,
    pub(super) wanted: &'a Node,
    pub(super) node: Namespace,
    pub(super) proxy: Option<Namespace>,
    pub(super) addresses: Vec<AddressFact>,
    pub(super) ipvs_services: usize,
    pub(super) path_checks: Vec<String>,
    /// Of IPv4 and IPv6.
    pub(super) forwarding: [bool; 2],
    pub(super) ephemeral: (u16, u16),
    pub(super) reserved: Option<String>,
}

impl Judged<'_> {
    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        refusals.extend(self.ipvs());
        refusals.extend(self.reverse_path());
        refusals.extend(self.not_forwarding());
        refusals.extend(self.ports());
        for namespace in std::iter::once(&self.node).chain(&self.proxy) {
            refusals.extend(self.names(namespace));
            refusals.extend(self.routing(namespace));
            refusals.extend(self.packet_tables(namespace));
        }
        refusals
    }

    fn ipvs(&self) -> Option<Refusal> {
        let link = self
            .node
            .links
            .iter()
            .find(|fact| fact.name == "kube-ipvs0");
        let addresses = link.map_or(0, |link| {
            let on_link = |fact: &&AddressFact| fact.link == link.index && !fact.odd_link_local();
            self.addresses.iter().filter(on_link).count()
        });
        if addresses == 0 && self.ipvs_services == 0 {
            return None;
        }
        Some(Refusal {
            check: "ipvs",
            evidence: format!(
                "kube-proxy runs in IPVS mode: {addresses} service addresses on link kube-ipvs0, \
                 {} IPVS services",
                self.ipvs_services
            ),
            remedy: "run kube-proxy in iptables or nftables mode, or choose another redirect mode"
                .into(),
        })
    }

    fn reverse_path(&self) -> Option<Refusal> {
        (!self.path_checks.is_empty()).then(|| Refusal {
            check: "rpfilter",
            evidence: format!(
                "a packet that comes from the proxy with a pod's address would be dropped by a \
                 reverse-path check: {}",
                self.path_checks.join("; ")
            ),
            remedy: format!(
                "let the rule pass packets of link {} (firewalld: IPv6_rpfilter=no), or use \
                 net.ipv4.conf.*.rp_filter instead, which is handled",
                self.settings.link_out
            ),
        })
    }

    fn not_forwarding(&self) -> Vec<Refusal> {
        let pods = self.wanted.pods.values().flat_map(|pod| &pod.addresses);
        let used: BTreeSet<_> = pods.map(|address| Family::of(*address)).collect();
        let checks = [
            (Family::V4, "net.ipv4.ip_forward"),
            (Family::V6, "net.ipv6.conf.all.forwarding"),
        ];
        let off = checks.into_iter().zip(self.forwarding);
        off.filter(|((family, _), on)| !on && used.contains(family))
            .map(|((family, key), _)| Refusal {
                check: "forwarding",
                evidence: format!("pods have {family} addresses, but {key} is 0 on the node"),
                remedy: format!("sysctl -w {key}=1"),
            })
            .collect()
    }

    /// A reply to a connection of the node's own must not look like a call to
    /// one of these ports.
    fn ports(&self) -> Option<Refusal> {
        let (low, high) = self.ephemeral;
        let (first, last) = (
            *self.settings.node_ports.start(),
            *self.settings.node_ports.end(),
        );
        let reserved = reserved(self.reserved.as_deref().unwrap_or_default());
        let is_free = |port: &u16| {
            (low..=high).contains(port)
                && !reserved
                    .iter()
                    .any(|(low, high)| (low..=high).contains(&port))
        };
        let mut taken: Vec<_> = self
            .wanted
            .host_ports
            .iter()
            .copied()
            .filter(is_free)
            .collect();
        taken.extend((first..=last).find(is_free));
        if taken.is_empty() {
            return None;
        }
        let taken: Vec<_> = taken.iter().map(ToString::to_string).collect();
        Some(Refusal {
            check: "ports",
            evidence: format!(
                "net.ipv4.ip_local_port_range is {low} to {high}, which overlaps NodePorts \
                 ({first} to {last}) or hostPorts of pods: {}",
                taken.join(", ")
            ),
            remedy: "move the range, or reserve the ports in net.ipv4.ip_local_reserved_ports"
                .into(),
        })
    }

    fn names(&self, namespace: &Namespace) -> Vec<Refusal> {
        let settings = self.settings;
        let place = namespace.side.place();
        let other = match namespace.side {
            Side::Node => self.proxy.as_ref(),
            Side::Proxy => Some(&self.node),
        };
        // A link of ours whose address was changed still has its other end.
        let has_our_end = |fact: &LinkFact| {
            let ends = other.iter().flat_map(|other| &other.links);
            ends.filter(|end| layout::ours(settings, end))
                .any(|end| Some(end.index) == fact.peer && end.peer == Some(fact.index))
        };
        let taken = namespace.links.iter().filter(|fact| {
            [&settings.link_in, &settings.link_out].contains(&&fact.name)
                && !layout::ours(settings, fact)
                && !has_our_end(fact)
        });
        taken
            .map(|fact| Refusal {
                check: "link",
                evidence: format!("somebody else has a link named {} {place}", fact.name),
                remedy: format!(
                    "ip -d link show {} tells whose it is; remove it, or choose other names with \
                     --link-in and --link-out",
                    fact.name
                ),
            })
            .collect()
    }

    fn routing(&self, namespace: &Namespace) -> Vec<Refusal> {
        let settings = self.settings;
        let (tables, priorities) = namespace.side.claims(settings);
        let mut found = Vec::new();
        for fact in &namespace.routes {
            let (number, table) = (settings.protocol, fact.route.table);
            match (fact.protocol == number, tables.contains(&table)) {
                (true, true) | (false, false) => {}
                (false, true) => found.push(("route-table", format!("{}", fact.route))),
                (true, false) => found.push(("protocol", format!("{}", fact.route))),
            }
        }
        for fact in &namespace.rules {
            let rule = &fact.rule;
            let ours = fact.protocol == settings.protocol;
            let claimed = priorities.contains(&rule.priority);
            let looks_up = matches!(rule.action, Action::Lookup(table) if tables.contains(&table));
            let marks = namespace.side == Side::Proxy
                && rule
                    .mark
                    .is_some_and(|(_, mask)| mask & settings.mark_mask != 0);
            match (ours, claimed) {
                (true, true) => {}
                (true, false) => found.push(("protocol", rule.to_string())),
                (false, true) => found.push(("rule-priority", rule.to_string())),
                (false, false) if looks_up => found.push(("route-table", rule.to_string())),
                (false, false) if marks => found.push(("mark", rule.to_string())),
                (false, false) => {}
            }
        }
        collected(&found, namespace.side.place())
    }

    fn packet_tables(&self, namespace: &Namespace) -> Vec<Refusal> {
        let place = namespace.side.place();
        let refusal = |claimed: &Claimed| Refusal {
            check: "nft-table",
            evidence: format!(
                "table {} {} {place} is not ours: its comment is {:?}",
                claimed.family, claimed.table, claimed.comment
            ),
            remedy: "choose another name with --nft-table, or remove the table".into(),
        };
        namespace.claimed.iter().map(refusal).collect()
    }
}

/// One refusal per kind, with all that was found.
fn collected(found: &[(&'static str, String)], place: &str) -> Vec<Refusal> {
    let checks: BTreeSet<_> = found.iter().map(|(check, _)| *check).collect();
    let mut refusals = Vec::new();
    for check in checks {
        let of_check = found.iter().filter(|(other, _)| *other == check);
        let objects: BTreeSet<_> = of_check.map(|(_, object)| object.as_str()).collect();
        let shown: Vec<_> = objects.iter().take(5).copied().collect();
        let (what, remedy) = match check {
            "route-table" => (
                "a routing table that we need",
                "choose other tables with --pod-table, --local-table and --return-table",
            ),
            "rule-priority" => (
                "a priority of routing rules that we need",
                "choose other priorities with --node-priorities and --proxy-priorities",
            ),
            "mark" => (
                "mark bits that we need",
                "choose other bits with --mark and --mark-mask",
            ),
            _ => (
                "the protocol number by which we tell our routes and rules",
                "choose another number with --route-protocol; if these are ours from before a \
                 change of settings, run `sluice-agent cleanup` with the old ones",
            ),
        };
        refusals.push(Refusal {
            check,
            evidence: format!(
                "somebody else uses {what} {place}: {} ({} in all)",
                shown.join("; "),
                objects.len()
            ),
            remedy: remedy.into(),
        });
    }
    refusals
}

/// `1-3,7` as ranges.
fn reserved(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
    };
    text.split(',').filter_map(range).collect()
}

impl AddressFact {
    /// What the kernel gives every link by itself.
    fn odd_link_local(&self) -> bool {
        matches!(self.address, std::net::IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

#[cfg(test)]
mod tests;
