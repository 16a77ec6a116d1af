//! What about a node forbids capture, found before anything is changed.
//!
//! Reading is here, judging in `judge`, which is pure.

use std::{error::Error as _, io, path::Path};

mod judge;

use judge::{Judged, Namespace};

use crate::{
    error::KernelError,
    legacy,
    model::{Node, Refusal, Settings},
    nft,
    place::{Place, Side},
    route::{self, Listing},
    rule,
    state::Family,
    sysctl,
};

/// Everything that forbids capture, in both namespaces.
pub(crate) fn check(
    settings: &Settings,
    wanted: &Node,
    node: &mut Place,
    proxy: Option<&mut Place>,
) -> Result<Vec<Refusal>, KernelError> {
    let node_facts = namespace(settings, node)?;
    let proxy_facts = proxy.map(|proxy| namespace(settings, proxy)).transpose()?;
    let judged = Judged {
        settings,
        wanted,
        addresses: node.addresses()?,
        node: node_facts,
        proxy: proxy_facts,
        ipvs_services: node.inside("IPVS services", ipvs_services)?,
        path_checks: path_checks(settings, node)?,
        forwarding: forwarding(node)?,
        ephemeral: ephemeral(node)?,
        reserved: node.inside("reserved ports", || text("ipv4/ip_local_reserved_ports"))?,
    };
    Ok(judged.refusals())
}

fn namespace(settings: &Settings, place: &mut Place) -> Result<Namespace, KernelError> {
    let (tables, _) = place.side.claims(settings);
    let mut routes = Vec::new();
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let listings = tables.iter().map(|table| Listing::Table(*table));
        for listing in listings.chain([Listing::Protocol(settings.protocol)]) {
            let listed = route::list(&mut place.route, family, listing);
            routes.extend(listed.map_err(place.read("routes"))?);
        }
        let listed = rule::list(&mut place.route, family);
        rules.extend(listed.map_err(place.read("routing rules"))?);
    }
    let claimed = nft::claimed_tables(&mut place.netfilter, settings);
    Ok(Namespace {
        side: place.side,
        links: place.links()?,
        routes,
        rules,
        claimed: claimed.map_err(place.read("packet rules"))?,
    })
}

/// Rules that drop what comes back from the proxy, in words.
fn path_checks(settings: &Settings, node: &mut Place) -> Result<Vec<String>, KernelError> {
    let native = nft::reverse_path_checks(&mut node.netfilter, settings);
    let native = native.map_err(node.read("packet rules"))?;
    let legacy = node.inside("old iptables tables", || {
        legacy::reverse_path_checks(&settings.link_out).map_err(|error| {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            io::Error::other(format!("{error}: {source}"))
        })
    })?;
    let native = native.into_iter().map(|check| {
        let (family, table, chain) = (check.family, check.table, check.chain);
        let (base, priority) = (check.base, check.priority);
        format!("nft chain {family} {table} {chain} (in {base}, prerouting priority {priority})")
    });
    let legacy = legacy
        .into_iter()
        .map(|check| format!("{} -t {} PREROUTING", check.command, check.table));
    Ok(native.chain(legacy).collect())
}

fn ipvs_services() -> io::Result<usize> {
    let listing = sysctl::read(Path::new("/proc/thread-self/net/ip_vs"))?.unwrap_or_default();
    let services = listing.lines().filter(|line| {
        ["TCP ", "UDP ", "SCTP ", "FWM "]
            .iter()
            .any(|kind| line.starts_with(kind))
    });
    // The first lines explain the format.
    Ok(services.count())
}

fn forwarding(node: &Place) -> Result<[bool; 2], KernelError> {
    node.inside("forwarding settings", || {
        let on = |path| Ok::<_, io::Error>(text(path)?.as_deref() == Some("1"));
        Ok([on("ipv4/ip_forward")?, on("ipv6/conf/all/forwarding")?])
    })
}

fn ephemeral(node: &Place) -> Result<(u16, u16), KernelError> {
    let range = node.inside("ephemeral ports", || text("ipv4/ip_local_port_range"))?;
    let range = range.unwrap_or_default();
    let mut ports = range
        .split_whitespace()
        .filter_map(|port| port.parse().ok());
    Ok((ports.next().unwrap_or(1), ports.next().unwrap_or(0)))
}

fn text(path: &str) -> io::Result<Option<String>> {
    sysctl::read(&Path::new("/proc/sys/net").join(path))
}

impl Side {
    /// How to name it to whoever has to look there.
    fn place(self) -> &'static str {
        match self {
            Self::Node => "on the node",
            Self::Proxy => "in the proxy's network namespace",
        }
    }
}
