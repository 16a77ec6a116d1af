//! Routes: those of our tables, and which route an address takes.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RoutePreference,
        RouteScope, RouteType,
    },
};
use nix::errno::Errno;

use crate::{
    address::family,
    client::{Client, ClientError, Reply, Request},
    nft::model::address_key,
    state::{Family, Route, Target},
};

const RTM_DELROUTE: u16 = 25;
/// Index of the loopback link, in every namespace.
const LOOPBACK: u32 = 1;

/// A route with what tells whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RouteFact {
    pub(crate) route: Route,
    pub(crate) protocol: u8,
    pub(crate) link: Option<u32>,
    /// To whoever is on the link itself.
    pub(crate) direct: bool,
}

/// Which routes to list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Listing {
    Table(u32),
    Protocol(u8),
}

/// Routes of one family; a table that is not there has none.
pub(crate) fn list(
    client: &mut Client,
    of: Family,
    listing: Listing,
) -> Result<Vec<RouteFact>, ClientError> {
    Ok(replies(client, of, listing)?
        .iter()
        .filter_map(fact)
        .collect())
}

/// The routes of a table to these addresses. The kernel lists them all; only
/// these are looked at.
pub(crate) fn list_to(
    client: &mut Client,
    table: u32,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Vec<RouteFact>, ClientError> {
    let mut found = Vec::new();
    for of in Family::BOTH {
        let keys: Vec<_> = addresses
            .iter()
            .filter(|address| Family::of(**address) == of)
            .map(|address| address_key(*address))
            .collect();
        if keys.is_empty() {
            continue;
        }
        let mentioned = |reply: &&Reply| {
            let has = |key: &Vec<u8>| reply.payload.windows(key.len()).any(|part| part == key);
            keys.iter().any(has)
        };
        let replies = replies(client, of, Listing::Table(table))?;
        let facts = replies.iter().filter(mentioned).filter_map(fact);
        found.extend(facts.filter(|fact| addresses.contains(&fact.route.destination.0)));
    }
    Ok(found)
}

fn replies(client: &mut Client, of: Family, listing: Listing) -> Result<Vec<Reply>, ClientError> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    match listing {
        Listing::Table(table) => message.attributes.push(RouteAttribute::Table(table)),
        Listing::Protocol(protocol) => message.header.protocol = protocol.into(),
    }
    let request = Request::unacknowledged(&RouteNetlinkMessage::GetRoute(message), 0);
    match client.dump(&request) {
        Ok(replies) => Ok(replies),
        // ENOENT: no such table; the others: IPv6 is not there.
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::ENOENT | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// The route that a packet of this host to `address` takes, if there is one.
pub(crate) fn taken(
    client: &mut Client,
    address: IpAddr,
) -> Result<Option<RouteFact>, ClientError> {
    let of = Family::of(address);
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    message.header.destination_prefix_length = of.host_prefix();
    // The entry itself, not what one packet would see of it.
    message.header.flags = RouteFlags::FibMatch;
    message.attributes = vec![RouteAttribute::Destination(destination(address))];
    let request = Request::of(&RouteNetlinkMessage::GetRoute(message), 0);
    let (replies, refused) = client.query(&[request])?;
    match refused.into_iter().next() {
        Some(refused)
            if matches!(
                refused.errno,
                Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ESRCH | Errno::EAFNOSUPPORT
            ) =>
        {
            Ok(None)
        }
        Some(refused) => Err(refused.into()),
        None => Ok(replies.iter().find_map(fact)),
    }
}

fn fact(reply: &Reply) -> Option<RouteFact> {
    let RouteNetlinkMessage::NewRoute(message) = reply.decode().ok()? else {
        return None;
    };
    let header = &message.header;
    // Exceptions to a route (path MTU, redirects) are listed along with it.
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut read = Attributes {
        plain: true,
        ..Attributes::default()
    };
    for attribute in &message.attributes {
        read.take(attribute);
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let target = match (header.kind, read.gateway, read.link) {
        (RouteType::Unicast, Some(gateway), Some(link)) => Target::Via { gateway, link },
        (RouteType::Unreachable, None, _) => Target::Unreachable,
        (RouteType::Local, None, Some(LOOPBACK)) => Target::Local,
        _ => Target::Other,
    };
    let odd =
        read.odd || header.tos != 0 || header.source_prefix_length != 0 || target == Target::Other;
    Some(RouteFact {
        route: Route {
            table: read.table.unwrap_or_else(|| header.table.into()),
            destination: (
                read.destination.unwrap_or(unspecified),
                header.destination_prefix_length,
            ),
            metric: read.metric,
            target,
            odd: odd.then(|| reply.payload.clone()),
        },
        protocol: header.protocol.into(),
        link: read.link,
        direct: header.kind == RouteType::Unicast && read.gateway.is_none() && read.plain,
    })
}

#[derive(Default)]
struct Attributes {
    table: Option<u32>,
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    link: Option<u32>,
    metric: u32,
    odd: bool,
    /// Nothing says that there is more than one next hop, or none.
    plain: bool,
}

impl Attributes {
    fn take(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Table(table) => self.table = Some(*table),
            RouteAttribute::Destination(address) => self.destination = plain(address),
            RouteAttribute::Gateway(address) => self.gateway = plain(address),
            RouteAttribute::Oif(link) => self.link = Some(*link),
            RouteAttribute::Priority(metric) => self.metric = *metric,
            RouteAttribute::Preference(RoutePreference::Medium) | RouteAttribute::CacheInfo(_) => {}
            RouteAttribute::MultiPath(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::NhId(_) => (self.odd, self.plain) = (true, false),
            _ => self.odd = true,
        }
    }
}

fn plain(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Adds a route, unless there is one that it would compete with.
pub(crate) fn add(route: &Route, protocol: u8) -> Request {
    let message = RouteNetlinkMessage::NewRoute(described(route, protocol));
    Request::of(&message, NLM_F_CREATE | NLM_F_EXCL)
}

pub(crate) fn remove(route: &Route, protocol: u8) -> Request {
    match &route.odd {
        Some(payload) => Request::raw(RTM_DELROUTE, NLM_F_ACK, payload.clone()),
        None => Request::of(
            &RouteNetlinkMessage::DelRoute(described(route, protocol)),
            0,
        ),
    }
}

fn described(route: &Route, protocol: u8) -> RouteMessage {
    let (address, prefix) = route.destination;
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(Family::of(address)),
        destination_prefix_length: prefix,
        // RT_TABLE_COMPAT: the attribute has the number.
        table: u8::try_from(route.table).unwrap_or(252),
        protocol: protocol.into(),
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Table(route.table));
    if prefix > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination(address)));
    }
    if route.metric > 0 {
        message
            .attributes
            .push(RouteAttribute::Priority(route.metric));
    }
    match route.target {
        Target::Via { gateway, link } => {
            message.header.kind = RouteType::Unicast;
            message.header.flags = RouteFlags::Onlink;
            message
                .attributes
                .push(RouteAttribute::Gateway(destination(gateway)));
            message.attributes.push(RouteAttribute::Oif(link));
        }
        Target::Unreachable | Target::Other => message.header.kind = RouteType::Unreachable,
        Target::Local => {
            message.header.kind = RouteType::Local;
            if address.is_ipv4() {
                message.header.scope = RouteScope::Host;
            }
            message.attributes.push(RouteAttribute::Oif(LOOPBACK));
        }
    }
    message
}

fn destination(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}
