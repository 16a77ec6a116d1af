//! Sandboxes that are gone though nobody deleted them: runtimes seldom call GC,
//! and a DEL may have been lost.
//!
//! Gone is a sandbox whose namespace and whose host-side link are both gone, by
//! evidence; what cannot be looked at is not gone. It is forgotten after a grace
//! period, as by a DEL; at once if its address belongs to somebody else by now.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Instant, SystemTime},
};

use sluice_kernel::model::{Link, PodUid};

use super::{Engine, add::Struck};
use crate::{
    capture::{journal::Entry, kernel::Kernel, locate},
    status::{Event, EventKind},
};

type Entries = BTreeMap<String, Entry>;

impl<K: Kernel> Engine<K> {
    /// Forgets what has been gone for long enough.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        let gone = self.gone(|_| true);
        self.missing.retain(|id, _| gone.contains(id));
        for id in gone {
            match self.missing.get(&id) {
                Some(since) if now.duration_since(*since) >= self.options.grace => {
                    self.forget_gone(&id);
                }
                Some(_) => {}
                None => drop(self.missing.insert(id, now)),
            }
        }
        self.memory.tidy();
    }

    /// A new sandbox was given addresses that others had: those of them that
    /// are gone are forgotten.
    pub(super) fn give_way(&mut self, id: &str, uid: &PodUid) {
        let Some(new) = self.memory.entries.get(id) else {
            return;
        };
        let (order, addresses) = (new.order, new.sandbox.addresses.clone());
        let rival =
            |entry: &Entry| entry.order < order && !entry.sandbox.addresses.is_disjoint(&addresses);
        for id in self.gone(rival) {
            self.forget_gone(&id);
        }
        self.give_way_unadded(uid, &addresses);
    }

    /// The same for pods that were captured without an ADD: there is only their
    /// link to go by.
    fn give_way_unadded(&mut self, own: &PodUid, addresses: &BTreeSet<IpAddr>) {
        let known = |uid: &PodUid| {
            let mut entries = self.memory.entries.values();
            entries.any(|entry| entry.uid.as_ref() == Some(uid))
        };
        let pods = self.steering.node.pods.iter();
        let rivals: Vec<(PodUid, Link)> = pods
            .filter(|(uid, pod)| *uid != own && !pod.addresses.is_disjoint(addresses))
            .filter(|(uid, _)| !known(uid))
            .map(|(uid, pod)| (uid.clone(), pod.link.clone()))
            .collect();
        for (uid, link) in rivals {
            if self.steering.kernel.link_alive(&link) == Ok(false) {
                self.memory.forgotten.insert(uid);
            }
        }
    }

    /// Sandboxes that are gone now, of those that are asked about.
    fn gone(&mut self, asked: impl Fn(&Entry) -> bool) -> BTreeSet<String> {
        let (kernel, entries) = (&mut self.steering.kernel, &self.memory.entries);
        let suspects: Vec<(&String, &Entry)> = entries
            .iter()
            .filter(|(_, entry)| asked(entry))
            .filter(|(_, entry)| {
                is_superseded(entry, entries) || locate::netns_is_gone(kernel, entry)
            })
            .collect();
        if suspects.is_empty() {
            return BTreeSet::new();
        }
        let links = match kernel.links() {
            Ok(links) => links,
            Err(fault) => {
                tracing::warn!(%fault, "cannot look for sandboxes that are gone; the next look will");
                return BTreeSet::new();
            }
        };
        suspects
            .into_iter()
            .filter(|(_, entry)| {
                locate::link_is_gone(entry, &links, |link| is_of_a_newer(link, entry, entries))
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn forget_gone(&mut self, id: &str) {
        self.missing.remove(id);
        let Some(Struck { entry, uid, .. }) = self.strike(id) else {
            return;
        };
        metrics::counter!("sluice_sandboxes_swept_total").increment(1);
        self.tell([Event {
            at: SystemTime::now(),
            kind: EventKind::Sandbox,
            pod: uid,
            message: format!(
                "sandbox {id} of pod {} is gone and was never deleted; it is forgotten",
                entry.sandbox.pod()
            ),
        }]);
    }
}

/// A namespace has one sandbox: the kernel gives the number of one that is gone
/// to the next, and runtimes may do so with its path.
fn is_superseded(entry: &Entry, entries: &Entries) -> bool {
    entry.netns.is_some()
        && entries
            .values()
            .any(|other| other.order > entry.order && other.netns == entry.netns)
}

/// Whether a link that looks like the entry's has another owner by now.
fn is_of_a_newer(link: &Link, entry: &Entry, entries: &Entries) -> bool {
    entries.values().any(|other| {
        let its = match &other.link {
            Some(its) => its == link,
            None => other.sandbox.host_link.as_ref() == Some(&link.name),
        };
        its && other.order > entry.order
    })
}
