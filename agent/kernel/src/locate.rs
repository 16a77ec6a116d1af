//! Finds the host's side of a pod's interface, and says why it cannot be used.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use crate::{
    client::{Client, ClientError},
    link::{self, LinkFact},
    model::{Link, NetnsId},
    netns::{Netns, NetnsError},
    nsid,
    route::{self, Listing, RouteFact},
    state::Family,
    tc,
};

/// The main routing table.
const MAIN: u32 = 254;

/// Why a pod cannot be captured where it is attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    #[error("the link {name} that the CNI named is not in the node's network namespace")]
    NotFound { name: String },
    #[error(
        "no route of the node leads to the pod's address {address}: either the network plugin is \
         not done with it, or it attaches the pod past the node (macvlan, ipvlan, SR-IOV), where \
         nothing of the node sees what the pod sends; use a CNI configuration that routes to each \
         pod (ptp, Calico), or another redirect mode"
    )]
    NoRoute { address: IpAddr },
    #[error("the pod has no address to look for")]
    NoAddress,
    #[error(
        "the pod's link {name} is a port of the {kind} {master}: packets between pods of it never \
         pass the node's routing, so what other pods send to this one could not be taken; use a \
         CNI configuration that routes to each pod (ptp, Calico), or another redirect mode"
    )]
    OnBridge {
        name: String,
        /// `bridge`, `openvswitch`, `vrf`...
        kind: String,
        master: String,
    },
    #[error(
        "the pod's address {address} is reached over the bridge {name}: packets between pods of \
         it never pass the node's routing, so what other pods send to this one could not be \
         taken; use a CNI configuration that routes to each pod (ptp, Calico), or another \
         redirect mode"
    )]
    OverBridge { name: String, address: IpAddr },
    #[error(
        "what the pod sends is redirected from its link {name} to {to} before the node's packet \
         filter sees it, as the bandwidth plugin does to limit it: remove the pod's annotation \
         kubernetes.io/egress-bandwidth (ingress-bandwidth may stay), or use another redirect mode"
    )]
    Redirected { name: String, to: String },
    #[error(
        "the pod's link {name} is of kind {kind:?}, not veth: packets of the pod cannot be taken \
         at ingress of it; use a CNI that attaches pods by veth, or another redirect mode"
    )]
    NotVeth { name: String, kind: String },
    #[error(
        "the pod's address {address} has no host route over link {name} ({found}): use a CNI \
         configuration that routes to each pod, or another redirect mode"
    )]
    NoHostRoute {
        name: String,
        address: IpAddr,
        found: String,
    },
    #[error(
        "link {name} does not lead into the pod's network namespace {}: the CNI result is about \
         another pod, and that one must not be captured for this; look at what the plugins before \
         sluice-cni answer",
        netns.display()
    )]
    Elsewhere { name: String, netns: PathBuf },
    #[error("cannot ask the kernel for {what}")]
    Kernel {
        what: &'static str,
        source: ClientError,
    },
}

/// Why it is not known what leads into a namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachedError {
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("cannot list the links and routes of the node")]
    Kernel(#[from] ClientError),
}

impl LocateError {
    /// Whether the same can succeed later without anybody's doing: the CNI may
    /// not be done yet.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::NoRoute { .. } | Self::Kernel { .. } => true,
            Self::NoAddress
            | Self::OnBridge { .. }
            | Self::OverBridge { .. }
            | Self::Redirected { .. }
            | Self::NotVeth { .. }
            | Self::Elsewhere { .. }
            | Self::NoHostRoute { .. } => false,
        }
    }
}

/// The link by which all `addresses` are attached, if it is one that can be
/// captured. It leads into `netns`, if that is known and still there.
pub(crate) fn locate(
    client: &mut Client,
    hint: Option<&str>,
    addresses: &BTreeSet<IpAddr>,
    netns: Option<&NetnsId>,
) -> Result<Link, LocateError> {
    let first = addresses.first().ok_or(LocateError::NoAddress)?;
    let fact = match hint {
        Some(name) => by_name(client, name)?,
        None => by_route(client, *first)?,
    };
    usable(client, &fact)?;
    for address in addresses {
        let taken = taken(client, *address)?;
        routed(&fact, *address, &taken)?;
    }
    if let Some(netns) = netns {
        leads_into(client, &fact, netns)?;
    }
    Ok(fact.link())
}

fn leads_into(client: &mut Client, fact: &LinkFact, netns: &NetnsId) -> Result<(), LocateError> {
    // One that is gone is another's to judge.
    let Ok(open) = Netns::open_same(netns) else {
        return Ok(());
    };
    let number = nsid::number(client, &open).map_err(asking("where the pod's link leads"))?;
    if number.is_some() && number == fact.peer_netns {
        return Ok(());
    }
    Err(LocateError::Elsewhere {
        name: fact.name.clone(),
        netns: netns.path.clone(),
    })
}

/// What leads into a namespace: the veth links, each with the addresses that are
/// routed to it alone.
pub(crate) fn attached(
    client: &mut Client,
    netns: &Netns,
) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, ClientError> {
    let links = link::list(client)?;
    // Only now that they were listed, it has a number for sure.
    let Some(number) = nsid::number(client, netns)? else {
        return Ok(BTreeMap::new());
    };
    let mut attached: BTreeMap<u32, (Link, BTreeSet<IpAddr>)> = links
        .iter()
        .filter(|fact| fact.kind == "veth" && fact.peer_netns == Some(number))
        .map(|fact| (fact.index, (fact.link(), BTreeSet::new())))
        .collect();
    for of in Family::BOTH {
        for fact in route::list(client, of, Listing::Table(MAIN))? {
            let (address, prefix) = fact.route.destination;
            let its = fact.link.filter(|_| prefix == of.host_prefix());
            let Some((link, addresses)) = its.and_then(|index| attached.get_mut(&index)) else {
                continue;
            };
            // The node's own address has such a route, too, and does not take it.
            let taken = route::taken(client, address)?;
            if taken.is_some_and(|taken| is_routed(link.index, address, &taken)) {
                addresses.insert(address);
            }
        }
    }
    Ok(attached.into_values().collect())
}

fn by_name(client: &mut Client, name: &str) -> Result<LinkFact, LocateError> {
    let fact = link::by_name(client, name).map_err(asking("the pod's link"))?;
    fact.ok_or_else(|| LocateError::NotFound { name: name.into() })
}

fn by_route(client: &mut Client, address: IpAddr) -> Result<LinkFact, LocateError> {
    let no_route = || LocateError::NoRoute { address };
    let route = taken(client, address)?;
    let index = route.link.ok_or_else(no_route)?;
    let fact = link::by_index(client, index).map_err(asking("the pod's link"))?;
    let fact = fact.ok_or_else(no_route)?;
    if fact.kind == "bridge" {
        let name = fact.name;
        return Err(LocateError::OverBridge { name, address });
    }
    // Not on this node, or not yet.
    if route.route.destination.1 == 0 {
        return Err(no_route());
    }
    routed(&fact, address, &route)?;
    Ok(fact)
}

fn taken(client: &mut Client, address: IpAddr) -> Result<RouteFact, LocateError> {
    let taken = route::taken(client, address).map_err(asking("the route to the pod"))?;
    taken.ok_or(LocateError::NoRoute { address })
}

fn usable(client: &mut Client, fact: &LinkFact) -> Result<(), LocateError> {
    if let Some(index) = fact.master {
        let (master, kind) = named(client, index)?;
        let name = fact.name.clone();
        return Err(LocateError::OnBridge { name, kind, master });
    }
    if fact.kind != "veth" {
        return Err(LocateError::NotVeth {
            name: fact.name.clone(),
            kind: fact.kind.clone(),
        });
    }
    let redirect = tc::redirect(client, fact.index);
    if let Some(index) = redirect.map_err(asking("the filters of the pod's link"))? {
        let name = fact.name.clone();
        let (to, _) = named(client, index)?;
        return Err(LocateError::Redirected { name, to });
    }
    Ok(())
}

/// Name and kind of a link that another one leads to.
fn named(client: &mut Client, index: u32) -> Result<(String, String), LocateError> {
    let fact = link::by_index(client, index).map_err(asking("where the pod's link leads"))?;
    Ok(fact.map_or_else(
        || (format!("link {index}"), String::new()),
        |fact| (fact.name, fact.kind),
    ))
}

/// Whether `address` alone is routed to the link.
fn routed(fact: &LinkFact, address: IpAddr, taken: &RouteFact) -> Result<(), LocateError> {
    if is_routed(fact.index, address, taken) {
        return Ok(());
    }
    Err(LocateError::NoHostRoute {
        name: fact.name.clone(),
        address,
        found: format!("the node would take the {}", taken.route),
    })
}

fn is_routed(index: u32, address: IpAddr, taken: &RouteFact) -> bool {
    let whole = taken.route.destination.1 == Family::of(address).host_prefix();
    whole && taken.direct && taken.link == Some(index)
}

fn asking(what: &'static str) -> impl Fn(ClientError) -> LocateError {
    move |source| LocateError::Kernel { what, source }
}
