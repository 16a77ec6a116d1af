//! Finds the network namespace of a pod that nobody told of.
//!
//! The kernel itself says into which namespace the other end of a pod's link
//! leads, so that no address that somebody has given himself is believed, and
//! no namespace has to be entered.

use std::{collections::BTreeSet, net::IpAddr, os::fd::AsRawFd as _, path::Path};

use netlink_packet_core::NLM_F_ACK;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;

use crate::{
    client::{Client, ClientError, Request},
    error::KernelError,
    link,
    locate::{self, LocateError},
    model::{NetnsId, Settings},
    netns::{self, Netns},
    place::Side,
};

const RTM_GETNSID: u16 = 90;
/// `struct rtgenmsg`, padded.
const HEADER: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// Asks on a socket of its own, so that it can live on another thread than the
/// kernel's handle.
#[derive(Debug)]
pub struct Finder {
    client: Client,
    node: NetnsId,
}

/// Why a pod's namespace cannot be looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    #[error("its link cannot be used")]
    Locate(#[from] LocateError),
    #[error("its link {name} does not say where its other end is")]
    NoPeer { name: String },
    #[error("cannot ask the kernel where its link leads")]
    Kernel(#[from] ClientError),
}

/// The other end of a pod's link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer(i32);

impl Finder {
    /// Opens a socket in the node's namespace.
    pub fn open(settings: &Settings) -> Result<Self, KernelError> {
        let netns = Netns::open(&settings.node_netns).map_err(KernelError::NodeNetns)?;
        let client = netns
            .run(|| Client::open(NETLINK_ROUTE))
            .map_err(KernelError::NodeNetns)?
            .map_err(|source| KernelError::Open {
                place: Side::Node.name(),
                source,
            })?;
        Ok(Self {
            client,
            node: netns.id().clone(),
        })
    }

    /// The other end of the link by which all of these addresses are reached.
    pub fn peer(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Peer, FindError> {
        let link = locate::locate(&mut self.client, None, addresses)?;
        let fact = link::by_index(&mut self.client, link.index)?;
        let netns = fact.and_then(|fact| fact.peer_netns);
        netns.map(Peer).ok_or(FindError::NoPeer { name: link.name })
    }

    /// The namespace that `path` leads to, if that other end is in it.
    pub fn holds(&mut self, peer: Peer, path: &Path) -> Result<Option<NetnsId>, ClientError> {
        let Ok(netns) = Netns::open(path) else {
            return Ok(None);
        };
        let id = netns.id().clone();
        if (id.device, id.inode) == (self.node.device, self.node.inode)
            || !netns::is_network(netns.file())
        {
            return Ok(None);
        }
        let number = self.number(&netns)?;
        Ok((number == Some(peer.0)).then_some(id))
    }

    /// The number by which the node's namespace knows another.
    fn number(&mut self, netns: &Netns) -> Result<Option<i32>, ClientError> {
        let mut payload = vec![0; HEADER];
        payload.extend(8_u16.to_ne_bytes());
        payload.extend(NETNSA_FD.to_ne_bytes());
        payload.extend(netns.file().as_raw_fd().to_ne_bytes());
        let request = Request::raw(RTM_GETNSID, NLM_F_ACK, payload);
        let (replies, refused) = self.client.query(&[request])?;
        match refused.into_iter().next() {
            // It went away just now.
            Some(refused) if refused.errno == Errno::EINVAL => return Ok(None),
            Some(refused) => return Err(refused.into()),
            None => {}
        }
        let number = replies
            .first()
            .and_then(|reply| read_number(&reply.payload));
        // Negative: the node's namespace has no link into it.
        Ok(number.filter(|number| *number >= 0))
    }
}

fn read_number(payload: &[u8]) -> Option<i32> {
    let mut attributes = payload.get(HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == NETNSA_NSID {
            return Some(i32::from_ne_bytes(value.get(..4)?.try_into().ok()?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_among_attributes_and_garbage_is_none() {
        let mut payload = vec![0; HEADER];
        payload.extend([8, 0, 9, 0, 1, 2, 3, 4]);
        payload.extend([8, 0, 1, 0]);
        payload.extend(7_i32.to_ne_bytes());
        assert_eq!(read_number(&payload), Some(7));
        for end in 0..payload.len() {
            assert_eq!(read_number(&payload[..end]), None);
        }
        assert_eq!(read_number(&[0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
