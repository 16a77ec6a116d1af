//! Which ports of the proxy have a listener that steered connections reach.
//!
//! Asks for each port the question that `tproxy` asks: who takes a connection
//! to the loopback address. So "listening" means that steering works, not that
//! something has the port.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::NLM_F_ACK;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;

use crate::{
    client::{Client, Reply, Request},
    error::KernelError,
    netns::Netns,
    place::Side,
    sysctl,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
/// `struct inet_diag_msg`, before its attributes.
const ANSWER: usize = 72;
const INET_DIAG_SOCKOPT: u16 = 22;
/// In the first byte of `struct inet_diag_sockopt`.
const TRANSPARENT: u8 = 1 << 5;

/// A socket in the proxy's namespace, which keeps that alive.
#[derive(Debug)]
pub(crate) struct Listeners {
    client: Client,
    ipv6: bool,
}

impl Listeners {
    pub(crate) fn open(netns: &Netns) -> Result<Self, KernelError> {
        let open = || (Client::open(NETLINK_SOCK_DIAG), sysctl::ipv6_usable());
        let (client, ipv6) = netns.run(open).map_err(KernelError::ProxyNetns)?;
        let client = client.map_err(|source| KernelError::Open {
            place: Side::Proxy.name(),
            source,
        })?;
        Ok(Self { client, ipv6 })
    }

    /// Those of `ports` that are listened to in every family in use.
    pub(crate) fn listening(&mut self, ports: [u16; 3]) -> Result<BTreeSet<u16>, KernelError> {
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        if self.ipv6 {
            addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
        }
        let questions: Vec<_> = ports
            .iter()
            .flat_map(|port| addresses.iter().map(move |address| (*port, *address)))
            .collect();
        let requests: Vec<_> = questions
            .iter()
            .map(|(port, address)| question(*port, *address))
            .collect();
        let failed = |source| KernelError::Read {
            what: "listening sockets",
            place: Side::Proxy.name(),
            source,
        };
        let (replies, refused) = self.client.query(&requests).map_err(failed)?;
        let serious = refused
            .into_iter()
            .find(|refused| refused.errno != Errno::ENOENT);
        if let Some(refused) = serious {
            return Err(failed(refused.into()));
        }
        let reached: BTreeSet<usize> = replies
            .iter()
            .filter(|reply| listens(reply))
            .map(|reply| reply.index)
            .collect();
        let missing: BTreeSet<u16> = (questions.iter().enumerate())
            .filter(|(index, _)| !reached.contains(index))
            .map(|(_, (port, _))| *port)
            .collect();
        Ok(ports
            .into_iter()
            .filter(|port| !missing.contains(port))
            .collect())
    }
}

/// `struct inet_diag_req_v2` for the socket that would take a connection to
/// `address`.
fn question(port: u16, address: IpAddr) -> Request {
    let (family, octets) = match address {
        IpAddr::V4(address) => (nix::libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (nix::libc::AF_INET6, address.octets().to_vec()),
    };
    let family = u8::try_from(family).unwrap_or_default();
    let mut payload = vec![family, IPPROTO_TCP, 0, 0];
    payload.extend(u32::MAX.to_ne_bytes());
    payload.extend(port.to_be_bytes());
    payload.extend([0; 2]);
    let source = payload.len();
    payload.extend(octets);
    // The rest of the source, the destination, and the link: any.
    payload.resize(source + 16 + 16 + 4, 0);
    // No cookie.
    payload.extend([0xff; 8]);
    Request::raw(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, payload)
}

fn listens(reply: &Reply) -> bool {
    reply.payload.get(1) == Some(&TCP_LISTEN) && transparent(&reply.payload).unwrap_or(true)
}

/// Whether the socket is `IP_TRANSPARENT`, without which `tproxy` passes it by;
/// kernels before 5.10 do not say.
fn transparent(payload: &[u8]) -> Option<bool> {
    let mut attributes = payload.get(ANSWER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == INET_DIAG_SOCKOPT {
            return value.first().map(|bits| bits & TRANSPARENT != 0);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}
