//! The tables in the proxy's namespace: what comes over our links belongs to a
//! socket of the proxy. What belongs to none: [`super::reset`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    model::{Chain, ChainKind, Family, Hook, HookPoint, Policy, Protocol, Rule, Ruleset, Table},
    node::protocols,
    owner, reset,
    reset::Resets,
    statement::{End, Statements},
};
use crate::model::Settings;

pub(super) const MANGLE: i32 = -150;
const STEERED: &str = "steered";

/// What the proxy's rules depend on besides the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProxyFacts {
    /// Index of the proxy's end of that link, while it is there.
    pub(crate) link_out: Option<u32>,
    pub(crate) resets: Resets,
    /// The kernel has IPv6.
    pub(crate) ipv6: bool,
}

/// The proxy namespace's tables.
pub(crate) fn proxy_ruleset(settings: &Settings, facts: ProxyFacts) -> Ruleset {
    let name = &settings.nft_table;
    let taking = ((Family::Inet, name.clone()), taking(settings, facts.ipv6));
    let resetting = protocols(facts.ipv6)
        .filter(|protocol| facts.resets.of(*protocol))
        .filter_map(|protocol| {
            let table = reset::table(settings, protocol, facts.link_out?)?;
            Some(((reset::family(protocol), name.clone()), table))
        });
    Ruleset {
        tables: resetting.chain([taking]).collect(),
    }
}

fn taking(settings: &Settings, ipv6: bool) -> Table {
    let links = [&settings.link_in, &settings.link_out];
    let arrivals = links
        .into_iter()
        .map(|link| Statements::default().input(link).tcp().jump(STEERED));
    let prerouting = Chain {
        hook: Some(Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Prerouting,
            priority: MANGLE,
            devices: BTreeSet::new(),
            policy: Policy::Accept,
        }),
        rules: arrivals.collect(),
    };
    let steered = Chain {
        hook: None,
        rules: steered(settings, ipv6),
    };
    Table {
        comment: Some(owner(settings)),
        chains: BTreeMap::from([("prerouting".into(), prerouting), (STEERED.into(), steered)]),
        ..Table::default()
    }
}

fn steered(settings: &Settings, ipv6: bool) -> Vec<Rule> {
    let ports = settings.ports;
    let taken = |rule: Statements| rule.set_mark(settings.mark, settings.mark_mask).accept();
    let to = |link: &str, protocol| Statements::default().input(link).nfproto(protocol).tcp();
    // Found to be the proxy's before, by the rules for what is lost.
    let known = Statements::default().marked(settings.mark, settings.mark_mask);
    let connection = taken(Statements::default().tcp().transparent_connection());
    let outbound = protocols(ipv6).map(|protocol| {
        taken(to(&settings.link_out, protocol).tproxy(loopback(protocol), ports.outbound))
    });
    let inbound = protocols(ipv6).flat_map(|protocol| {
        let arriving = to(&settings.link_in, protocol);
        let hbone = arriving
            .clone()
            .port(End::Destination, ports.hbone)
            .tproxy(loopback(protocol), ports.hbone);
        let plain = arriving
            .port_not(End::Destination, ports.hbone)
            .tproxy(loopback(protocol), ports.inbound);
        [taken(hbone), taken(plain)]
    });
    // Nobody listens: say so at once.
    let refused = Statements::default().tcp().reject();
    [known.accept(), connection]
        .into_iter()
        .chain(outbound)
        .chain(inbound)
        .chain([refused])
        .collect()
}

fn loopback(protocol: Protocol) -> IpAddr {
    match protocol {
        Protocol::Ipv4 => Ipv4Addr::LOCALHOST.into(),
        Protocol::Ipv6 => Ipv6Addr::LOCALHOST.into(),
    }
}
