//! The mesh as one proxy sees it: who has which address, and where a
//! connection goes. Decides; does nothing.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::workloads::{Policy, Protocol, Service, Workload, Workloads};

#[derive(Debug)]
pub(super) struct Mesh {
    by_address: BTreeMap<IpAddr, Arc<Workload>>,
    by_vip: BTreeMap<IpAddr, VirtualService>,
    pub(super) policies: Vec<Policy>,
}

#[derive(Debug)]
struct VirtualService {
    service: Service,
    endpoints: Vec<Arc<Workload>>,
    turn: AtomicUsize,
}

/// Where a connection goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The application, behind the service address if it was one.
    pub target: SocketAddr,
    /// The workload that has it; None outside the mesh.
    pub workload: Option<Arc<Workload>>,
    /// `namespace/hostname`, if a service address was dialled.
    pub service: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RouteError {
    #[error("service {0} has no port {1}")]
    NoPort(String, u16),
    #[error("service {0} has no endpoint")]
    NoEndpoint(String),
}

impl Mesh {
    pub(super) fn new(all: Workloads) -> Self {
        let workloads: Vec<_> = all.workloads.into_iter().map(Arc::new).collect();
        let addresses = workloads.iter().flat_map(|workload| {
            workload
                .workload_ips
                .iter()
                .map(|address| (*address, Arc::clone(workload)))
        });
        let virtual_services = all.services.iter().flat_map(|service| {
            service
                .vips
                .iter()
                .map(|vip| (vip.0, VirtualService::new(service, &workloads)))
        });
        Self {
            by_address: addresses.collect(),
            by_vip: virtual_services.collect(),
            policies: all.policies,
        }
    }

    pub(super) fn workload(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.by_address.get(&address)
    }

    /// Where a connection to `destination` goes. Each call takes the next
    /// endpoint of a service.
    pub(super) fn route(&self, destination: SocketAddr) -> Result<Route, RouteError> {
        let Some(virtual_service) = self.by_vip.get(&destination.ip()) else {
            return Ok(Route {
                target: destination,
                workload: self.workload(destination.ip()).cloned(),
                service: None,
            });
        };
        virtual_service.route(destination)
    }
}

impl Route {
    /// Whether the connection is tunnelled.
    pub(super) fn hbone(&self) -> Option<&Arc<Workload>> {
        self.workload
            .as_ref()
            .filter(|workload| workload.protocol == Protocol::Hbone)
    }
}

impl VirtualService {
    fn new(service: &Service, workloads: &[Arc<Workload>]) -> Self {
        let key = service.key();
        let serves = |workload: &&Arc<Workload>| {
            workload.services.contains_key(&key) && !workload.workload_ips.is_empty()
        };
        Self {
            service: service.clone(),
            endpoints: workloads.iter().filter(serves).cloned().collect(),
            turn: AtomicUsize::new(0),
        }
    }

    fn route(&self, destination: SocketAddr) -> Result<Route, RouteError> {
        let key = self.service.key();
        let port = destination.port();
        let Some(default_target) = self.service.ports.get(&port) else {
            return Err(RouteError::NoPort(key, port));
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let next = turn
            .checked_rem(self.endpoints.len())
            .and_then(|next| self.endpoints.get(next));
        let Some(workload) = next else {
            return Err(RouteError::NoEndpoint(key));
        };
        let Some(address) = address_like(workload, destination.ip()) else {
            return Err(RouteError::NoEndpoint(key));
        };
        // An endpoint may have a port map of its own.
        let own = workload
            .services
            .get(&key)
            .and_then(|ports| ports.get(&port));
        Ok(Route {
            target: SocketAddr::new(address, *own.unwrap_or(default_target)),
            workload: Some(Arc::clone(workload)),
            service: Some(key),
        })
    }
}

/// The workload's address of the same family as `like`, else its first.
fn address_like(workload: &Workload, like: IpAddr) -> Option<IpAddr> {
    own_address(workload, like).or_else(|| workload.workload_ips.first().copied())
}

/// The workload's address of the same family as `like`.
pub(super) fn own_address(workload: &Workload, like: IpAddr) -> Option<IpAddr> {
    let same_family = |address: &&IpAddr| address.is_ipv4() == like.is_ipv4();
    workload.workload_ips.iter().find(same_family).copied()
}

#[cfg(test)]
mod tests;
