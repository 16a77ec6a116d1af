//! Addresses and permanent neighbours.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use crate::{
    client::{Client, ClientError, Request},
    state::{Family, Mac},
};

/// An address of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AddressFact {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Not of the scope, or not in the state, that ours are in.
    pub(crate) odd: bool,
}

/// A neighbour of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct NeighbourFact {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    /// None unless the entry is permanent.
    pub(crate) mac: Option<Mac>,
}

/// All addresses of the namespace, or those of one link.
pub(crate) fn list(
    client: &mut Client,
    link: Option<u32>,
) -> Result<Vec<AddressFact>, ClientError> {
    let mut message = AddressMessage::default();
    message.header.index = link.unwrap_or_default();
    let found = client.dump_of(&RouteNetlinkMessage::GetAddress(message))?;
    Ok(found.into_iter().filter_map(address_fact).collect())
}

fn address_fact(message: RouteNetlinkMessage) -> Option<AddressFact> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let header = &message.header;
    let (mut local, mut peer) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            _ => {}
        }
    }
    let address = local.or(peer)?;
    let broken = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    let odd = match Family::of(address) {
        Family::V4 => header.scope != AddressScope::Link || peer != Some(address),
        Family::V6 => header.flags.intersects(broken),
    };
    Some(AddressFact {
        link: header.index,
        address,
        prefix: header.prefix_len,
        odd,
    })
}

/// Adds an address that is chosen as a source by nobody.
pub(crate) fn add(link: u32, address: IpAddr, prefix: u8) -> Request {
    let mut message = described(link, address, prefix);
    message
        .attributes
        .push(AddressAttribute::Flags(AddressFlags::Nodad));
    Request::of(
        &RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

pub(crate) fn remove(link: u32, address: IpAddr, prefix: u8) -> Request {
    let message = described(link, address, prefix);
    Request::of(&RouteNetlinkMessage::DelAddress(message), 0)
}

fn described(link: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(Family::of(address));
    message.header.index = link;
    message.header.prefix_len = prefix;
    if address.is_ipv4() {
        message.header.scope = AddressScope::Link;
    } else {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

/// Neighbours of one link, but for those that the kernel keeps by itself.
pub(crate) fn neighbours(
    client: &mut Client,
    link: u32,
) -> Result<Vec<NeighbourFact>, ClientError> {
    let mut message = NeighbourMessage::default();
    message.attributes = vec![NeighbourAttribute::IfIndex(link)];
    let found = client.dump_of(&RouteNetlinkMessage::GetNeighbour(message))?;
    Ok(found.into_iter().filter_map(neighbour_fact).collect())
}

fn neighbour_fact(message: RouteNetlinkMessage) -> Option<NeighbourFact> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else {
        return None;
    };
    // Multicast and the link's own addresses.
    if message.header.state == NeighbourState::Noarp {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(NeighbourFact {
        link: message.header.ifindex,
        address: address?,
        mac: mac.filter(|_| message.header.state == NeighbourState::Permanent),
    })
}

/// Sets a permanent neighbour, whatever is there.
pub(crate) fn set_neighbour(link: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = neighbour(link, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    Request::of(
        &RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

pub(crate) fn remove_neighbour(link: u32, address: IpAddr) -> Request {
    let message = neighbour(link, address);
    Request::of(&RouteNetlinkMessage::DelNeighbour(message), 0)
}

fn neighbour(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(Family::of(address));
    message.header.ifindex = link;
    message.attributes = vec![NeighbourAttribute::Destination(match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    })];
    message
}

pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
