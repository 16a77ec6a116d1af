//! Links: reading them, and making and removing the pair of ours.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkMessage,
    },
};
use nix::errno::Errno;

use crate::{
    client::{Client, ClientError, Request},
    model::Link,
    state::Mac,
};

/// What is known of one link.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LinkFact {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    /// `veth`, `bridge`...; empty for hardware.
    pub(crate) kind: String,
    pub(crate) master: Option<u32>,
    /// Up, with neighbours.
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    /// Index of the other end, in its own namespace.
    pub(crate) peer: Option<u32>,
    /// Where that is, in the numbers by which the namespace of this link knows
    /// others; None if it is the same one.
    pub(crate) peer_netns: Option<i32>,
}

impl LinkFact {
    pub(crate) fn link(&self) -> Link {
        Link {
            index: self.index,
            name: self.name.clone(),
        }
    }

    fn of(message: LinkMessage) -> Self {
        let mut fact = Self {
            index: message.header.index,
            up: message.header.flags & (LinkFlags::Up | LinkFlags::Noarp) == LinkFlags::Up,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => fact.name = name,
                LinkAttribute::Address(address) => {
                    fact.mac = address.try_into().ok().map(Mac);
                }
                LinkAttribute::Mtu(mtu) => fact.mtu = mtu,
                LinkAttribute::Link(peer) => fact.peer = Some(peer),
                LinkAttribute::LinkNetNsId(netns) => fact.peer_netns = Some(netns),
                LinkAttribute::Controller(master) => fact.master = Some(master),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            fact.kind = kind.to_string();
                        }
                    }
                }
                _ => {}
            }
        }
        fact
    }
}

/// All links of the namespace.
pub(crate) fn list(client: &mut Client) -> Result<Vec<LinkFact>, ClientError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![without_statistics()];
    let found = client.dump_of(&RouteNetlinkMessage::GetLink(message))?;
    Ok(found.into_iter().filter_map(fact).collect())
}

/// One link, if it is there.
pub(crate) fn by_index(client: &mut Client, index: u32) -> Result<Option<LinkFact>, ClientError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    one(client, message)
}

/// One link, if it is there.
pub(crate) fn by_name(client: &mut Client, name: &str) -> Result<Option<LinkFact>, ClientError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.into())];
    one(client, message)
}

fn one(client: &mut Client, mut message: LinkMessage) -> Result<Option<LinkFact>, ClientError> {
    message.attributes.push(without_statistics());
    let request = Request::of(&RouteNetlinkMessage::GetLink(message), 0);
    let (replies, refused) = client.query(&[request])?;
    match refused.into_iter().next() {
        // ERANGE and EINVAL: a name that no link can have.
        Some(refused) if matches!(refused.errno, Errno::ENODEV | Errno::ERANGE | Errno::EINVAL) => {
            Ok(None)
        }
        Some(refused) => Err(refused.into()),
        None => match replies.first() {
            Some(reply) => Ok(fact(reply.decode()?)),
            None => Ok(None),
        },
    }
}

fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn fact(message: RouteNetlinkMessage) -> Option<LinkFact> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(LinkFact::of(message)),
        _ => None,
    }
}

/// One end of a pair that is to be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct End {
    pub(crate) name: String,
    pub(crate) mac: Mac,
}

/// Makes a pair: `here` in the socket's namespace, `there` in another.
pub(crate) fn create_pair(here: &End, there: &End, mtu: u32, other: BorrowedFd<'_>) -> Request {
    let mut peer = described(there, mtu);
    peer.attributes
        .push(LinkAttribute::NetNsFd(other.as_raw_fd()));
    let mut message = described(here, mtu);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    Request::of(
        &RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

fn described(end: &End, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(end.name.clone()),
        LinkAttribute::Address(end.mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    message
}

/// Removes a link, and with a pair its other end.
pub(crate) fn delete(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Request::of(&RouteNetlinkMessage::DelLink(message), 0)
}

/// Puts right what was changed on a link of ours.
pub(crate) fn correct(index: u32, mac: Option<Mac>, mtu: Option<u32>) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
        .attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    Request::of(&RouteNetlinkMessage::SetLink(message), NLM_F_ACK)
}

/// Sets a link up or down.
pub(crate) fn set_up(index: u32, up: bool) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
    if up {
        message.header.flags = LinkFlags::Up;
    }
    Request::of(&RouteNetlinkMessage::SetLink(message), 0)
}
