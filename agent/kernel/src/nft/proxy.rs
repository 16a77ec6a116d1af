//! The table in the proxy's namespace: what comes over our links belongs to a
//! socket of the proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    model::{Chain, ChainKind, Family, Hook, HookPoint, Policy, Protocol, Rule, Ruleset, Table},
    node::protocols,
    owner,
    statement::{End, Statements},
};
use crate::model::Settings;

const MANGLE: i32 = -150;
const STEERED: &str = "steered";

/// The proxy namespace's table. `ipv6`: the kernel has IPv6.
pub(crate) fn proxy_ruleset(settings: &Settings, ipv6: bool) -> Ruleset {
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
    let table = Table {
        comment: Some(owner(settings)),
        chains: BTreeMap::from([("prerouting".into(), prerouting), (STEERED.into(), steered)]),
        ..Table::default()
    };
    let id = (Family::Inet, settings.nft_table.clone());
    Ruleset {
        tables: BTreeMap::from([(id, table)]),
    }
}

fn steered(settings: &Settings, ipv6: bool) -> Vec<Rule> {
    let ports = settings.ports;
    let taken = |rule: Statements| rule.set_mark(settings.mark, settings.mark_mask).accept();
    let to = |link: &str, protocol| Statements::default().input(link).nfproto(protocol).tcp();
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
    std::iter::once(connection)
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
