//! What a node has still to be told: the newest state per pod and namespace,
//! whatever happened in between. Pure; memory is that of the node's keys.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    index::{NodeChange, NodeState},
    model::{Intent, Name, Revision, Uid, Wanted},
};

/// One stream's outbox.
#[derive(Debug)]
pub struct Outbox {
    grace: Grace,
    revision: Revision,
    pods: BTreeMap<Uid, Slot>,
    /// Pods that the agent was last told to steer.
    told: BTreeSet<Uid>,
    namespaces: BTreeMap<Name, bool>,
    unsent_pods: BTreeSet<Uid>,
    unsent_namespaces: BTreeSet<Name>,
    /// When the oldest unsent change came.
    waiting_since: Option<Instant>,
}

/// How long a pod that leaves is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grace {
    /// From when its peers can know that it leaves.
    pub release_after: Duration,
    /// Peers know by what is written about the pod: it is waited for, at most
    /// this long, that this is taken back. Absent: nothing is written, and
    /// peers can know as soon as the agent does.
    pub unwritten_within: Option<Duration>,
}

#[derive(Debug)]
struct Slot {
    wanted: Arc<Intent>,
    /// Set while the pod is being released: then this is what is said.
    leaving: Option<Leaving>,
}

#[derive(Debug)]
struct Leaving {
    intent: Arc<Intent>,
    /// Absent until it has been said: the time for peers to learn of it
    /// begins then, however slow the agent reads.
    said: Option<Instant>,
    /// When what was written about the pod had been taken back.
    unwritten: Option<Instant>,
}

impl Leaving {
    fn until(&self, grace: Grace) -> Option<Instant> {
        let said = self.said?;
        let known = match (grace.unwritten_within, self.unwritten) {
            (None, _) => said,
            (Some(_), Some(unwritten)) => said.max(unwritten),
            (Some(longest), None) => said + longest,
        };
        Some(known + grace.release_after)
    }
}

/// The node's whole state, as one snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub revision: Revision,
    pub pods: Vec<Arc<Intent>>,
    pub namespaces: Vec<(Name, bool)>,
}

/// Some of what changed; each key once.
#[derive(Debug, Default)]
pub struct Delta {
    pub revision: Revision,
    pub pods: Vec<Arc<Intent>>,
    pub removed_pods: Vec<Uid>,
    pub namespaces: Vec<(Name, bool)>,
    pub removed_namespaces: Vec<Name>,
    /// When the oldest of it became known.
    pub since: Option<Instant>,
}

impl Outbox {
    /// For a stream that begins: `steered` are the pods whose rules the agent
    /// holds. One of them that is not wanted any more leaves properly, also
    /// when nobody here ever saw it captured.
    pub fn begin(
        state: NodeState,
        steered: &HashSet<String>,
        revision: Revision,
        grace: Grace,
        now: Instant,
    ) -> (Self, Snapshot) {
        let mut outbox = Self {
            grace,
            revision,
            pods: BTreeMap::new(),
            told: BTreeSet::new(),
            namespaces: state.namespaces,
            unsent_pods: BTreeSet::new(),
            unsent_namespaces: BTreeSet::new(),
            waiting_since: None,
        };
        for (uid, wanted) in state.pods {
            let steered = steered.contains(&*uid);
            outbox.pods.insert(uid, Slot::new(wanted, steered));
        }
        let snapshot = outbox.snapshot(now);
        (outbox, snapshot)
    }

    fn snapshot(&mut self, now: Instant) -> Snapshot {
        let uids: Vec<Uid> = self.pods.keys().cloned().collect();
        let pods = uids.iter().filter_map(|uid| self.say(uid, now));
        let pods = pods.collect();
        let namespaces = self.namespaces.iter();
        Snapshot {
            revision: self.revision.clone(),
            pods,
            namespaces: namespaces
                .map(|(name, enrolled)| (Arc::clone(name), *enrolled))
                .collect(),
        }
    }

    /// Takes in what the index says.
    pub fn change(&mut self, change: NodeChange, revision: Revision, now: Instant) {
        // What the agent saw elsewhere may be newer than what changed here.
        self.revision = revision.not_before(&self.revision);
        for (uid, intent) in change.pods {
            match intent {
                Some(wanted) => {
                    let steered = self.told.contains(&uid)
                        || self.said(&uid).is_some_and(|said| said.wanted.is_steered());
                    let before = self.pods.remove(&uid).and_then(|slot| slot.leaving);
                    let mut slot = Slot::new(wanted, steered);
                    // More news of a pod that leaves does not begin it anew.
                    if let (Some(leaving), Some(before)) = (&mut slot.leaving, before) {
                        leaving.said = before.said;
                        leaving.unwritten = before.unwritten;
                    }
                    self.pods.insert(Arc::clone(&uid), slot);
                }
                None => {
                    self.pods.remove(&uid);
                }
            }
            self.unsent_pods.insert(uid);
        }
        for (name, enrolled) in change.namespaces {
            match enrolled {
                Some(enrolled) => self.namespaces.insert(Arc::clone(&name), enrolled),
                None => self.namespaces.remove(&name),
            };
            self.unsent_namespaces.insert(name);
        }
        self.note_waiting(now);
    }

    fn note_waiting(&mut self, now: Instant) {
        if self.unsent() > 0 && self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
    }

    /// When the next pod has been releasing for long enough.
    pub fn next_release(&self) -> Option<Instant> {
        let leaving = self.pods.values().filter_map(|slot| slot.leaving.as_ref());
        leaving
            .filter_map(|leaving| leaving.until(self.grace))
            .min()
    }

    /// Nothing is written any more that calls the pod captured. True when that
    /// was waited for.
    pub fn unwritten(&mut self, uid: &str, now: Instant) -> bool {
        let slot = self.pods.get_mut(uid);
        let Some(leaving) = slot.and_then(|slot| slot.leaving.as_mut()) else {
            return false;
        };
        let news = leaving.unwritten.is_none();
        leaving.unwritten.get_or_insert(now);
        news
    }

    /// Lets go of the pods that have been releasing for long enough.
    pub fn release(&mut self, now: Instant) {
        for (uid, slot) in &mut self.pods {
            let leaving = slot.leaving.as_ref();
            let until = leaving.and_then(|leaving| leaving.until(self.grace));
            // One whose news has not gone out yet says so first.
            if until.is_some_and(|until| until <= now) {
                slot.leaving = None;
                self.unsent_pods.insert(Arc::clone(uid));
            }
        }
        self.note_waiting(now);
    }

    /// How many keys have to be sent.
    pub fn unsent(&self) -> usize {
        self.unsent_pods.len() + self.unsent_namespaces.len()
    }

    /// The next delta, of at most `limit` pods and `limit` namespaces.
    pub fn next(&mut self, limit: usize, now: Instant) -> Option<Delta> {
        if self.unsent() == 0 {
            return None;
        }
        let mut delta = Delta {
            revision: self.revision.clone(),
            since: self.waiting_since.take(),
            ..Delta::default()
        };
        for _ in 0..limit {
            let Some(uid) = self.unsent_pods.pop_first() else {
                break;
            };
            match self.say(&uid, now) {
                Some(intent) => delta.pods.push(intent),
                None => delta.removed_pods.push(uid),
            }
        }
        for _ in 0..limit {
            let Some(name) = self.unsent_namespaces.pop_first() else {
                break;
            };
            match self.namespaces.get(&name) {
                Some(enrolled) => delta.namespaces.push((name, *enrolled)),
                None => delta.removed_namespaces.push(name),
            }
        }
        if self.unsent() > 0 {
            self.waiting_since = delta.since;
        }
        Some(delta)
    }

    /// A delta without content.
    pub fn nothing(&self) -> Delta {
        Delta {
            revision: self.revision.clone(),
            ..Delta::default()
        }
    }

    // What is said of a pod, now that it is said.
    fn say(&mut self, uid: &Uid, now: Instant) -> Option<Arc<Intent>> {
        let said = self.pods.get_mut(uid).map(|slot| slot.say(now));
        if said.as_ref().is_some_and(|said| said.wanted.is_steered()) {
            self.told.insert(Arc::clone(uid));
        } else {
            self.told.remove(uid);
        }
        said
    }

    /// What is said of a pod now.
    pub fn said(&self, uid: &str) -> Option<&Arc<Intent>> {
        self.pods.get(uid).map(Slot::said)
    }
}

impl Slot {
    fn new(wanted: Arc<Intent>, steered: bool) -> Self {
        let leaving = (steered && leaves(&wanted)).then(|| Leaving {
            intent: Arc::new(wanted.with_wanted(Wanted::Releasing)),
            said: None,
            unwritten: None,
        });
        Self { wanted, leaving }
    }

    fn said(&self) -> &Arc<Intent> {
        match &self.leaving {
            Some(leaving) => &leaving.intent,
            None => &self.wanted,
        }
    }

    fn say(&mut self, now: Instant) -> Arc<Intent> {
        if let Some(leaving) = &mut self.leaving {
            leaving.said.get_or_insert(now);
        }
        Arc::clone(self.said())
    }
}

// A completed pod has no sandbox any more, and its address may be another's
// already: there is nobody to give time to.
fn leaves(intent: &Intent) -> bool {
    matches!(intent.wanted, Wanted::Nothing | Wanted::Unsupported) && !intent.pod.completed
}

#[cfg(test)]
mod tests;
