//! Which pods can be captured as they are described.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::{
    error::PodError,
    link::LinkFact,
    model::{Link, Node, Pod, PodUid},
};

/// Pods that are laid out, and those that are not.
#[derive(Debug, Default)]
pub(crate) struct Accepted<'a> {
    /// Their addresses are kept closed or steered.
    pub(crate) pods: BTreeMap<&'a PodUid, &'a Pod>,
    /// Those of them whose link is not there: nothing can be taken from it, but
    /// the address stays closed until the pod is no longer wanted.
    pub(crate) without_link: BTreeSet<&'a PodUid>,
    pub(crate) failed: BTreeMap<PodUid, PodError>,
}

/// Sorts the wanted pods. The first of two that claim the same has it.
pub(crate) fn accept<'a>(
    node: &'a Node,
    links: &[LinkFact],
    ipv6: bool,
    refused: &BTreeSet<PodUid>,
) -> Accepted<'a> {
    let mut accepted = Accepted::default();
    let mut addresses: BTreeMap<IpAddr, &PodUid> = BTreeMap::new();
    let mut taken: BTreeMap<&Link, &PodUid> = BTreeMap::new();
    for (uid, pod) in node.pods.iter().filter(|(uid, _)| !refused.contains(*uid)) {
        if let Err(error) = claim(node, pod, ipv6, &addresses, &taken) {
            accepted.failed.insert(uid.clone(), error);
            continue;
        }
        addresses.extend(pod.addresses.iter().map(|address| (*address, uid)));
        taken.insert(&pod.link, uid);
        accepted.pods.insert(uid, pod);
        if !links.iter().any(|fact| fact.link() == pod.link) {
            accepted.without_link.insert(uid);
            let link = pod.link.clone();
            accepted
                .failed
                .insert(uid.clone(), PodError::LinkGone { link });
        }
    }
    accepted
}

fn claim(
    node: &Node,
    pod: &Pod,
    ipv6: bool,
    addresses: &BTreeMap<IpAddr, &PodUid>,
    links: &BTreeMap<&Link, &PodUid>,
) -> Result<(), PodError> {
    if pod.addresses.is_empty() {
        return Err(PodError::NoAddress);
    }
    if !ipv6 && let Some(address) = pod.addresses.iter().find(|address| address.is_ipv6()) {
        return Err(PodError::NoIpv6 { address: *address });
    }
    if let Some(by) = links.get(&pod.link) {
        return Err(PodError::LinkTaken {
            link: pod.link.clone(),
            by: (*by).clone(),
        });
    }
    let proxy = node.proxy.iter().flat_map(|proxy| &proxy.addresses);
    let own = proxy.copied().collect::<BTreeSet<_>>();
    for address in &pod.addresses {
        if own.contains(address) {
            return Err(PodError::AddressOfProxy { address: *address });
        }
        if let Some(by) = addresses.get(address) {
            return Err(PodError::AddressTaken {
                address: *address,
                by: (*by).clone(),
            });
        }
    }
    Ok(())
}
