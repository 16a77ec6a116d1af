//! Which pod gets which address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use sluice_kernel::model::{Pod, PodUid};

use super::{Facts, Left, Subject, found, is_wanted};
use crate::status::{PodState, Reason};

/// Who has an address.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Owner {
    Proxy,
    Pod(PodUid),
}

/// Gives each address one owner, and each pod that is wanted and found all of
/// its addresses or none. The proxy comes first; then a pod that holds the
/// address on a link that still lives; then one whose sandbox was seen to get
/// it; then the first by uid.
pub(super) fn assign(
    subjects: &BTreeMap<PodUid, Subject<'_>>,
    facts: &Facts,
) -> BTreeMap<PodUid, Result<Pod, Left>> {
    let mut owners: BTreeMap<IpAddr, Owner> = facts
        .proxy
        .iter()
        .flat_map(|proxy| &proxy.addresses)
        .map(|address| (*address, Owner::Proxy))
        .collect();
    let ranked = ranked(subjects, facts);
    for (_, uid, kept, _) in &ranked {
        for address in kept {
            owners
                .entry(*address)
                .or_insert_with(|| Owner::Pod((*uid).clone()));
        }
    }
    let mut assigned = BTreeMap::new();
    for (_, uid, kept, mut pod) in ranked {
        let me = Owner::Pod(uid.clone());
        let conflict = pod
            .addresses
            .iter()
            .find_map(|address| Some((*address, owners.get(address).filter(|o| **o != me)?)));
        let outcome = match conflict {
            None => Ok(pod),
            // It stays closed on what it has; what it cannot have is not taken.
            Some(_) if kept.iter().any(|address| owners.get(address) == Some(&me)) => {
                pod.addresses = kept
                    .into_iter()
                    .filter(|address| owners.get(address) == Some(&me))
                    .collect();
                Ok(pod)
            }
            Some((address, owner)) => Err(taken(&subjects[uid], address, owner, subjects)),
        };
        for address in outcome.iter().flat_map(|pod| &pod.addresses) {
            owners.insert(*address, me.clone());
        }
        assigned.insert(uid.clone(), outcome);
    }
    assigned
}

/// Pods that claim addresses, those with the better claim first: rank, uid, the
/// addresses that it holds already, what it would be.
fn ranked<'s>(
    subjects: &'s BTreeMap<PodUid, Subject<'_>>,
    facts: &Facts,
) -> Vec<(u8, &'s PodUid, BTreeSet<IpAddr>, Pod)> {
    let mut ranked: Vec<_> = subjects
        .iter()
        .filter(|(uid, subject)| is_wanted(subject.intent, facts.held.contains_key(*uid)))
        .filter_map(|(uid, subject)| {
            let pod = found(uid, subject, facts).ok()?;
            let held = facts.held.get(uid).filter(|held| held.link == pod.link);
            let kept = held.map_or_else(BTreeSet::new, |held| &held.addresses & &pod.addresses);
            let rank = match held {
                Some(_) => 0,
                None if subject.entry.is_some() => 1,
                None => 2,
            };
            Some((rank, uid, kept, pod))
        })
        .collect();
    ranked.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    ranked
}

fn taken(
    subject: &Subject<'_>,
    address: IpAddr,
    owner: &Owner,
    subjects: &BTreeMap<PodUid, Subject<'_>>,
) -> Left {
    let owner = match owner {
        Owner::Proxy => "the node's proxy".to_owned(),
        Owner::Pod(uid) => subjects.get(uid).map_or_else(
            || format!("pod {uid}"),
            |other| format!("pod {} ({uid})", other.intent.full_name()),
        ),
    };
    let message = format!(
        "pod {} ({}) claims address {address}, which {owner} already has; \
         delete whichever of them should not have it",
        subject.intent.full_name(),
        subject.intent.uid,
    );
    Left::new(PodState::Failed, Reason::AddressTaken, message)
}
