//! Finds the network namespace of a pod that nobody told of.
//!
//! The kernel itself says into which namespace the other end of a pod's link
//! leads, so that no address that somebody has given himself is believed, and
//! no namespace has to be entered.

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use netlink_sys::protocols::NETLINK_ROUTE;

use crate::{
    client::{Client, ClientError},
    error::KernelError,
    link,
    locate::{self, LocateError},
    model::{NetnsId, Settings},
    netns::{self, Netns},
    nsid,
    place::Side,
};

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
        let link = locate::locate(&mut self.client, None, addresses, None)?;
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
        let number = nsid::number(&mut self.client, &netns)?;
        Ok((number == Some(peer.0)).then_some(id))
    }
}
