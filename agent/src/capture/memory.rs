//! What is remembered of sandboxes, in memory and in the journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::IpAddr,
    time::{Duration, Instant},
};

use sluice_kernel::model::{Pod, PodUid};

use super::{
    Ticket, Tickets,
    journal::{Entry, Journal, JournalError},
    locate::Disagreement,
    plan::Subject,
    sandbox::Attached,
};
use crate::desired::{Desired, Origin};

/// How long a DEL makes older ADDs of its container void.
const TOMBSTONE: Duration = Duration::from_secs(600);
/// Most DELs that are remembered.
const TOMBSTONES: usize = 4096;
/// How long the stream may take to deliver a pod that the controller has
/// already answered for.
const ANSWER: Duration = Duration::from_secs(30);

/// Sandboxes, by container id.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) entries: BTreeMap<String, Entry>,
    /// Pods whose only sandbox was deleted: their addresses are void, whatever
    /// their intent still says.
    pub(super) forgotten: BTreeSet<PodUid>,
    journal: Journal,
    order: u64,
    tickets: Tickets,
    /// When each was last added, in the order of calls. None: by the journal.
    added: BTreeMap<String, Ticket>,
    deleted: BTreeMap<String, (Ticket, Instant)>,
    answered: BTreeMap<String, Instant>,
}

impl Memory {
    /// What the journal has. `agrees` says whether an entry is to be believed.
    pub(super) fn load(
        journal: Journal,
        tickets: Tickets,
        mut agrees: impl FnMut(&Entry) -> Result<(), Disagreement>,
    ) -> Self {
        let mut memory = Self {
            entries: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            journal,
            order: 0,
            tickets,
            added: BTreeMap::new(),
            deleted: BTreeMap::new(),
            answered: BTreeMap::new(),
        };
        for entry in memory.journal.load() {
            let id = entry.sandbox.container_id.clone();
            memory.order = memory.order.max(entry.order);
            match agrees(&entry) {
                Ok(()) => {
                    memory.answered.insert(id.clone(), Instant::now());
                    memory.entries.insert(id, entry);
                }
                Err(Disagreement { reason, gone }) => {
                    tracing::info!(
                        container_id = id,
                        pod = entry.sandbox.pod(),
                        reason,
                        gone,
                        "journal entry set aside; its pod is looked for anew unless it is gone"
                    );
                    if gone {
                        metrics::counter!("sluice_sandboxes_swept_total").increment(1);
                        memory.forgotten.extend(entry.uid);
                    }
                    memory.remove_file(&id);
                }
            }
        }
        let lives = |uid: &PodUid| {
            let mut entries = memory.entries.values();
            entries.any(|entry| entry.uid.as_ref() == Some(uid))
        };
        memory.forgotten.retain(|uid| !lives(uid));
        memory
    }

    /// A place for a new sandbox: newer than every other.
    pub(super) fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// Remembers a sandbox, on disk too.
    pub(super) fn put(&mut self, entry: Entry) -> Result<(), JournalError> {
        self.write(&entry)?;
        self.hold(entry);
        Ok(())
    }

    /// Writes a sandbox to disk as it is to be remembered.
    pub(super) fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        self.journal.write(entry)
    }

    /// Remembers a sandbox, in memory only.
    pub(super) fn hold(&mut self, entry: Entry) {
        let id = entry.sandbox.container_id.clone();
        if let Some(uid) = &entry.uid {
            self.forgotten.remove(uid);
        }
        if entry.intent.is_some() {
            self.answered.insert(id.clone(), Instant::now());
        }
        self.touch(&id);
        self.entries.insert(id, entry);
    }

    /// Notes that a sandbox was added, or added again, just now.
    pub(super) fn touch(&mut self, container_id: &str) {
        let now = self.tickets.next();
        self.added.insert(container_id.to_owned(), now);
    }

    /// Sandboxes of a network that are not valid by a list that came with this
    /// ticket.
    pub(super) fn stale(
        &self,
        ticket: Ticket,
        network: &str,
        valid: &BTreeSet<Attached>,
    ) -> Vec<String> {
        let entries = self.entries.iter();
        entries
            .filter(|(id, Entry { sandbox, .. })| {
                let attached = ((*id).clone(), sandbox.ifname.clone());
                let later = self.added.get(*id).is_some_and(|added| *added > ticket);
                sandbox.network == network && !later && !valid.contains(&attached)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Forgets a sandbox.
    pub(super) fn remove(&mut self, container_id: &str) -> Option<Entry> {
        self.answered.remove(container_id);
        self.added.remove(container_id);
        let entry = self.entries.remove(container_id)?;
        self.remove_file(container_id);
        Some(entry)
    }

    fn remove_file(&self, container_id: &str) {
        if let Err(error) = self.journal.remove(container_id) {
            tracing::warn!(
                container_id,
                error = &error as &dyn Error,
                "cannot remove a journal entry; it is set aside at the next start"
            );
        }
    }

    /// A pod, if nobody else has to do with its sandbox and its addresses.
    pub(super) fn alone<'a>(&'a self, desired: &'a Desired, uid: &PodUid) -> Option<Subject<'a>> {
        let answers = self
            .entries
            .values()
            .filter_map(|entry| entry.intent.as_ref());
        let mut intents = answers.chain(desired.pods.values());
        let intent = desired.pods.get(uid);
        let intent = intent.or_else(|| intents.clone().find(|intent| intent.uid == *uid))?;
        let (own, others): (Vec<_>, Vec<_>) = self
            .entries
            .values()
            .partition(|entry| entry.sandbox.is_of(intent));
        let entry = match own.as_slice() {
            [] => None,
            [one] if !one.sandbox.pod_uid.is_empty() => Some(*one),
            _ => return None,
        };
        let gone = self.forgotten.contains(uid);
        let subject = Subject::new(intent, entry, gone);
        let claims = |addresses: &BTreeSet<IpAddr>| !addresses.is_disjoint(&subject.addresses);
        let claimed = others.iter().any(|entry| claims(&entry.sandbox.addresses))
            || intents.any(|other| {
                other.uid != *uid
                    && !self.forgotten.contains(&other.uid)
                    && claims(&other.addresses)
            });
        (!claimed).then_some(subject)
    }

    /// Whether the pod of this sandbox has another one.
    pub(super) fn has_another_of(&self, gone: &Entry) -> bool {
        let named = |entry: &Entry| {
            let (this, that) = (&entry.sandbox, &gone.sandbox);
            (&this.pod_uid, &this.namespace, &this.name)
                == (&that.pod_uid, &that.namespace, &that.name)
        };
        self.entries
            .values()
            .any(|entry| named(entry) || (gone.uid.is_some() && entry.uid == gone.uid))
    }

    /// Makes every ADD of the container that came before `ticket` void.
    pub(super) fn bury(&mut self, container_id: String, ticket: Ticket) {
        let now = Instant::now();
        if self.deleted.len() >= TOMBSTONES {
            self.deleted
                .retain(|_, (_, at)| now.duration_since(*at) < TOMBSTONE);
        }
        // An ADD is more likely to be under way for one that was deleted lately.
        while self.deleted.len() >= TOMBSTONES {
            let oldest = self.deleted.iter().min_by_key(|(_, (_, at))| *at);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            self.deleted.remove(&oldest);
        }
        self.deleted.insert(container_id, (ticket, now));
    }

    /// Whether a DEL came after the ADD that has this ticket.
    pub(super) fn is_buried(&self, container_id: &str, ticket: Ticket) -> bool {
        self.deleted
            .get(container_id)
            .is_some_and(|(deleted, _)| ticket < *deleted)
    }

    /// Notes what was applied to the pods, where that is new.
    pub(super) fn applied(
        &mut self,
        pods: &BTreeMap<PodUid, Pod>,
        newest: &BTreeMap<PodUid, String>,
    ) {
        for (uid, id) in newest {
            let (Some(pod), Some(entry)) = (pods.get(uid), self.entries.get_mut(id)) else {
                continue;
            };
            if entry.sandbox.addresses == pod.addresses
                && entry.applied(uid, pod)
                && let Err(error) = self.journal.write(entry)
            {
                tracing::warn!(
                    container_id = id,
                    error = &error as &dyn Error,
                    "cannot write a journal entry"
                );
            }
        }
    }

    /// Drops what a newly set desired state makes void: answers for pods that
    /// it has (or has not, long after), and forgotten pods that are gone.
    pub(super) fn settle(&mut self, desired: &Desired) {
        self.forgotten.retain(|uid| desired.pods.contains_key(uid));
        for (id, entry) in &mut self.entries {
            let Some(intent) = &entry.intent else {
                continue;
            };
            let late = self.answered.get(id).is_none_or(|at| at.elapsed() > ANSWER);
            let refuted = desired.origin == Origin::Controller && late;
            if !desired.pods.contains_key(&intent.uid) && !refuted {
                continue;
            }
            entry.intent = None;
            if let Err(error) = self.journal.write(entry) {
                tracing::warn!(
                    container_id = id,
                    error = &error as &dyn Error,
                    "cannot write a journal entry"
                );
            }
        }
    }

    /// Removes files that are nobody's: one that could not be removed in time.
    pub(super) fn tidy(&self) {
        self.journal.tidy(|id| self.entries.contains_key(id));
    }
}
