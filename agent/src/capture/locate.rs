//! Where pods are: their host-side links, asked of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use sluice_kernel::model::{Link, NetnsId, Pod, PodUid};

use super::{
    journal::Entry,
    kernel::{Fault, Kernel},
    plan::{Subject, is_wanted},
};

/// The link of every pod that is to be captured, or why it was not found. A pod
/// that is held on a link that still lives is not looked for anew.
pub(super) fn links<K: Kernel>(
    kernel: &mut K,
    subjects: &BTreeMap<PodUid, Subject<'_>>,
    held: &BTreeMap<PodUid, Pod>,
) -> BTreeMap<PodUid, Result<Link, Fault>> {
    let there = kernel.links();
    let lives = |held: &&Pod| {
        there
            .as_ref()
            .map_or(true, |links| links.contains(&held.link))
    };
    subjects
        .iter()
        .filter(|(uid, subject)| is_wanted(subject.intent, held.contains_key(*uid)))
        .filter_map(|(uid, subject)| {
            let link = link(kernel, subject, held.get(uid).filter(lives))?;
            Some((uid.clone(), link))
        })
        .collect()
}

/// One pod's link. None while it has no address to look for. `living`: the pod
/// as it is held, if its link still lives.
pub(super) fn link<K: Kernel>(
    kernel: &mut K,
    subject: &Subject<'_>,
    living: Option<&Pod>,
) -> Option<Result<Link, Fault>> {
    let same = |held: &Pod| subject.addresses.is_empty() || held.addresses == subject.addresses;
    if let Some(held) = living
        && same(held)
    {
        return Some(Ok(held.link.clone()));
    }
    if subject.addresses.is_empty() {
        return None;
    }
    let hint = subject
        .entry
        .and_then(|entry| entry.sandbox.host_link.as_deref());
    let netns = subject.entry.and_then(|entry| entry.netns.as_ref());
    let found = by_hint_or_route(kernel, hint, &subject.addresses, netns);
    // What is held is not let go because it cannot be found another way.
    match (found, living) {
        (Err(_), Some(held)) if !held.addresses.is_disjoint(&subject.addresses) => {
            Some(Ok(held.link.clone()))
        }
        (found, _) => Some(found),
    }
}

/// By the name that the CNI result gave; where that leads nowhere, by the route
/// to the addresses.
pub(super) fn by_hint_or_route<K: Kernel>(
    kernel: &mut K,
    hint: Option<&str>,
    addresses: &BTreeSet<IpAddr>,
    netns: Option<&NetnsId>,
) -> Result<Link, Fault> {
    let Some(hint) = hint else {
        return kernel.locate(None, addresses, netns);
    };
    let by_hint = kernel.locate(Some(hint), addresses, netns);
    match by_hint {
        Err(fault) if fault.transient => kernel.locate(None, addresses, netns).map_err(|_| fault),
        by_hint => by_hint,
    }
}

/// Why a journal entry is not believed.
#[derive(Debug)]
pub(super) struct Disagreement {
    pub(super) reason: String,
    /// Its sandbox is gone for good; else its pod may be found anew.
    pub(super) gone: bool,
}

/// Whether a journal entry still agrees with the node, or why it does not.
pub(super) fn agrees<K: Kernel>(kernel: &mut K, entry: &Entry) -> Result<(), Disagreement> {
    if netns_is_gone(kernel, entry) {
        let links = kernel.links();
        return Err(Disagreement {
            reason: format!(
                "its network namespace {} is gone or another one",
                entry.sandbox.netns.display()
            ),
            gone: links.is_ok_and(|links| link_is_gone(entry, &links, |_| false)),
        });
    }
    let disagree = |reason| {
        Err(Disagreement {
            reason,
            gone: false,
        })
    };
    let Some(link) = &entry.link else {
        return Ok(());
    };
    match kernel.locate(
        Some(&link.name),
        &entry.sandbox.addresses,
        entry.netns.as_ref(),
    ) {
        Ok(found) if found == *link => Ok(()),
        Ok(found) => disagree(format!(
            "link {} has index {} now, and had {}",
            link.name, found.index, link.index
        )),
        Err(fault) => disagree(fault.message),
    }
}

/// Whether the sandbox's namespace is gone. What cannot be looked at is not.
pub(super) fn netns_is_gone<K: Kernel>(kernel: &K, entry: &Entry) -> bool {
    let gone = kernel.netns_gone(&entry.sandbox.netns, entry.netns.as_ref());
    gone.unwrap_or_else(|fault| {
        tracing::warn!(%fault, "cannot tell whether a sandbox is still there; it is taken to be");
        false
    })
}

/// Whether none of the links there are is the sandbox's: none has its index, and
/// none its name, unless that one has another `owner` by now.
pub(super) fn link_is_gone(
    entry: &Entry,
    links: &BTreeSet<Link>,
    owner: impl Fn(&Link) -> bool,
) -> bool {
    let alike = |link: &Link| match (&entry.link, &entry.sandbox.host_link) {
        (Some(its), _) => link.index == its.index || link.name == its.name,
        (None, Some(name)) => link.name == *name,
        // Nothing was ever done for it, so there is nothing to lose.
        (None, None) => false,
    };
    !links.iter().any(|link| alike(link) && !owner(link))
}
