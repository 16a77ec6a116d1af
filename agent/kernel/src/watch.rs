//! Wakes when the kernel says that something of ours may have changed.
//!
//! The kernel announces changes of everybody's objects. What cannot concern us
//! is left out here, so that a busy node does not keep the agent busy.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    task::{Context, Poll, ready},
};

use netlink_sys::{
    Socket,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{error::KernelError, layout, model::Settings, netns::Netns, place::Side};

mod relevance;

use relevance::Relevance;

/// `RTNLGRP_*`: links, neighbours, and for both families addresses, routes and
/// rules.
const ROUTE_GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// `NFNLGRP_NFTABLES`.
const NFTABLES_GROUP: u32 = 7;
const BUFFER: usize = 64 * 1024;

/// Changes in the node's and the proxy's namespace.
#[derive(Debug)]
pub struct Watch {
    relevance: Relevance,
    idle: Vec<Socket>,
    sockets: Vec<AsyncFd<Socket>>,
    buffer: Vec<u8>,
}

impl Watch {
    pub(crate) fn open(
        settings: &Settings,
        namespaces: &[(Side, &Netns)],
    ) -> Result<Self, KernelError> {
        let mut idle = Vec::new();
        for (side, netns) in namespaces {
            let opened = netns.run(|| {
                let route = subscribe(NETLINK_ROUTE, &ROUTE_GROUPS)?;
                Ok([route, subscribe(NETLINK_NETFILTER, &[NFTABLES_GROUP])?])
            });
            let opened = opened.map_err(|error| side.netns(error))?;
            idle.extend(opened.map_err(|source| KernelError::Watch {
                place: side.name(),
                source,
            })?);
        }
        let hops = [
            IpAddr::from(settings.next_hop),
            layout::NODE_HOP_V6.into(),
            layout::PROXY_HOP_V6.into(),
        ];
        Ok(Self {
            relevance: Relevance::new(settings, hops),
            idle,
            sockets: Vec::new(),
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Returns once something may have changed since the last call. Changes
    /// that come together are one.
    ///
    /// To be called in a tokio runtime with I/O; cancelling it loses nothing.
    pub async fn changed(&mut self) -> io::Result<()> {
        while let Some(socket) = self.idle.pop() {
            self.sockets.push(register(socket)?);
        }
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut changed = false;
        for socket in &self.sockets {
            match drain(socket, context, &mut self.buffer, &self.relevance) {
                Poll::Ready(result) => changed |= result?,
                Poll::Pending => {}
            }
        }
        if changed {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}

/// Reads all that is there, and whether any of it concerns us. Pending if none
/// does, with the task to be woken.
fn drain(
    socket: &AsyncFd<Socket>,
    context: &mut Context<'_>,
    buffer: &mut Vec<u8>,
    relevance: &Relevance,
) -> Poll<io::Result<bool>> {
    let mut changed = false;
    loop {
        let mut ready = match socket.poll_read_ready(context) {
            Poll::Pending if changed => return Poll::Ready(Ok(true)),
            state => ready!(state)?,
        };
        buffer.clear();
        match ready.try_io(|socket| socket.get_ref().recv(buffer, 0)) {
            Ok(Ok(_)) => changed |= relevance.concerns_us(buffer),
            // Announcements were lost: anything may have changed.
            Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => changed = true,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Poll::Ready(Err(error)),
            Err(_would_block) => {}
        }
    }
}

#[expect(
    unsafe_code,
    reason = "tokio cannot see that a socket keeps its descriptor"
)]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: a netlink socket owns one open descriptor, returns that and no
    // other, and closes it only when it is dropped, after the registration.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}
