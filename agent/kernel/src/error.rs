//! What can go wrong at the seam, for the whole node or for one pod.

use std::{error::Error, io, net::IpAddr};

use crate::{
    client::ClientError,
    model::{Link, PodUid},
    netns::NetnsError,
};

/// Nothing can be said or done about the node as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    #[error(
        "the instance name {instance:?} cannot be written on what is ours: it has to have 1 to \
         {limit} bytes; choose another with --instance"
    )]
    Instance { instance: String, limit: usize },
    #[error("the node's network namespace cannot be used")]
    NodeNetns(#[source] NetnsError),
    #[error("the proxy's network namespace cannot be used")]
    ProxyNetns(#[source] NetnsError),
    #[error(
        "the proxy's network namespace is the node's own: a proxy on the host network cannot be used"
    )]
    ProxyOnHost,
    #[error("cannot open netlink sockets in {place}")]
    Open {
        place: &'static str,
        source: ClientError,
    },
    #[error("cannot read {what} in {place}")]
    Read {
        what: &'static str,
        place: &'static str,
        source: ClientError,
    },
    #[error("cannot read {what} in {place}")]
    ReadFile {
        what: &'static str,
        place: &'static str,
        source: io::Error,
    },
    #[error("cannot set {object} in {place}")]
    Apply {
        object: String,
        place: &'static str,
        source: ClientError,
    },
    #[error("cannot set {object} in {place}; is /proc/sys writable?")]
    Sysctl {
        object: String,
        place: &'static str,
        source: io::Error,
    },
    #[error("the packet rules cannot be changed in {place}")]
    Nft {
        place: &'static str,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "somebody else keeps changing what was set, or the kernel keeps it otherwise: {}",
        objects.join("; ")
    )]
    NotVerified { objects: Vec<String> },
    #[error("cannot watch {place} for changes")]
    Watch {
        place: &'static str,
        source: io::Error,
    },
}

/// Why one pod is not captured, or not entirely.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PodError {
    #[error("the pod is not among those wanted")]
    NotWanted,
    #[error("the pod has no address")]
    NoAddress,
    #[error(
        "the pod's link {} (index {}) is not there any more", link.name, link.index
    )]
    LinkGone { link: Link },
    #[error("the pod's link {} belongs to the captured pod {by}", link.name)]
    LinkTaken { link: Link, by: PodUid },
    #[error("the pod's address {address} belongs to the captured pod {by}")]
    AddressTaken { address: IpAddr, by: PodUid },
    #[error("the pod's address {address} is the proxy's")]
    AddressOfProxy { address: IpAddr },
    #[error(
        "the pod has the address {address}, but IPv6 is disabled in the namespace of the node or \
         of the proxy: enable it there (net.ipv6.conf.all.disable_ipv6=0) or give the pod IPv4 only"
    )]
    NoIpv6 { address: IpAddr },
    #[error("cannot set the pod's {object}")]
    Apply { object: String, source: ClientError },
    #[error("the kernel does not take the pod's packet rules")]
    Nft(#[source] Box<dyn Error + Send + Sync>),
    #[error(
        "the kernel does not show what was set for the pod: {}", objects.join("; ")
    )]
    NotVerified { objects: Vec<String> },
    #[error("the node cannot capture")]
    Node(#[source] KernelError),
}

impl PodError {
    /// Whether the same can succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::LinkGone { .. }
            | Self::LinkTaken { .. }
            | Self::AddressTaken { .. }
            | Self::Apply { .. }
            | Self::Nft(_)
            | Self::NotVerified { .. }
            | Self::Node(_) => true,
            Self::NotWanted
            | Self::NoAddress
            | Self::AddressOfProxy { .. }
            | Self::NoIpv6 { .. } => false,
        }
    }
}
