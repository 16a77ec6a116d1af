//! The cluster's intent: pods and namespaces in, what changes for which node
//! out. Pure, and incremental: a pod touches its node, a namespace its pods.

mod batch;
mod namespaces;
mod nodes;
mod resolve;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use batch::Batch;
use namespaces::Namespaces;
use nodes::Nodes;
pub use resolve::{Question, Resolved};

use crate::{
    model::{Intent, Name, Namespace, Pod, Revision, Uid, Wanted},
    select::{self, Rules},
};

/// One piece of news from the source. A pod replaces one of the same uid, and
/// one of the same name.
#[derive(Clone, Debug)]
pub enum Update {
    Pod(Arc<Pod>),
    PodGone(Uid),
    Namespace(Namespace),
    NamespaceGone(Name),
}

/// What changed for one node. Absent values are removals.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeChange {
    pub pods: BTreeMap<Uid, Option<Arc<Intent>>>,
    pub namespaces: BTreeMap<Name, Option<bool>>,
}

/// Everything a node is told.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeState {
    pub pods: BTreeMap<Uid, Arc<Intent>>,
    /// The namespaces of its pods; by name, is it enrolled.
    pub namespaces: BTreeMap<Name, bool>,
}

/// What changed, by node.
pub type Changes = HashMap<Name, NodeChange>;

/// Everything known of the cluster, and what follows from it.
#[derive(Debug, Default)]
pub struct Index {
    rules: Rules,
    /// Nothing is wanted of any pod, whatever the rules say.
    leave: bool,
    revision: Revision,
    pods: HashMap<Uid, Arc<Intent>>,
    namespaces: Namespaces,
    nodes: Nodes,
    /// Pods by config hash: a set, because nothing keeps two from sharing one.
    static_uids: HashMap<Uid, BTreeSet<Uid>>,
    wanted: BTreeMap<Wanted, usize>,
}

impl Index {
    /// An empty index.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Takes in a batch, and says what it changes for which node.
    ///
    /// Each pod is decided once, however often the batch touches it, and after
    /// every namespace of the batch is known.
    pub fn apply(&mut self, updates: Vec<Update>, revision: Revision) -> Changes {
        let mut batch = Batch::collect(updates, |namespace, name| {
            self.namespaces.named(namespace, name)
        });
        for (name, namespace) in std::mem::take(&mut batch.namespaces) {
            if self.namespaces.set(&name, namespace) {
                for uid in self.namespaces.pods(&name) {
                    batch.keep(uid, || self.pods.get(uid).map(|i| Arc::clone(&i.pod)));
                }
            }
            self.nodes.touch(&name);
        }
        let changes = self.replace_pods(batch);
        self.revision = revision;
        changes
    }

    /// Asks every node to let go of everything, or not any more.
    pub fn leave(&mut self, leave: bool) -> Changes {
        if self.leave == leave {
            return Changes::new();
        }
        self.leave = leave;
        let mut batch = Batch::default();
        for (uid, intent) in &self.pods {
            batch.keep(uid, || Some(Arc::clone(&intent.pod)));
        }
        for name in self.namespaces.names() {
            self.nodes.touch(name);
        }
        self.replace_pods(batch)
    }

    // Takes every touched pod out before any is put in: names and addresses
    // may have changed hands within the batch.
    fn replace_pods(&mut self, batch: Batch) -> Changes {
        let before: HashMap<Uid, Arc<Intent>> = batch
            .pods
            .keys()
            .filter_map(|uid| Some((Arc::clone(uid), self.take(uid)?)))
            .collect();
        let mut changes = Changes::new();
        for (uid, pod) in batch.pods {
            let after = pod.map(|pod| self.put(pod));
            note(&mut changes, &uid, before.get(&uid), after.as_ref());
        }
        self.settle_namespaces(&mut changes);
        changes
    }

    fn take(&mut self, uid: &Uid) -> Option<Arc<Intent>> {
        let intent = self.pods.remove(uid)?;
        let pod = &intent.pod;
        if let Some(count) = self.wanted.get_mut(&intent.wanted) {
            *count -= 1;
        }
        self.namespaces.remove_pod(&intent);
        self.nodes.remove_pod(pod);
        if let Some(static_uid) = &pod.static_uid
            && let Some(uids) = self.static_uids.get_mut(static_uid)
        {
            uids.remove(uid);
            if uids.is_empty() {
                self.static_uids.remove(static_uid);
            }
        }
        Some(intent)
    }

    fn put(&mut self, pod: Arc<Pod>) -> Arc<Intent> {
        let namespace = self.namespaces.get(&pod.namespace);
        let (wanted, message) = match select::wanted(&pod, namespace, &self.rules) {
            // Its proxy takes traffic until the last pod has left.
            (Wanted::Proxy, message) => (Wanted::Proxy, message),
            _ if self.leave => (Wanted::Nothing, None),
            decided => decided,
        };
        *self.wanted.entry(wanted).or_default() += 1;
        if let Some(static_uid) = &pod.static_uid {
            let uids = self.static_uids.entry(Arc::clone(static_uid)).or_default();
            uids.insert(Arc::clone(&pod.uid));
        }
        self.nodes.add_pod(&pod);
        let intent = Arc::new(Intent::new(pod, wanted, message));
        self.namespaces.add_pod(&intent);
        self.pods
            .insert(Arc::clone(&intent.pod.uid), Arc::clone(&intent));
        intent
    }

    // Tells nodes of a namespace that is new to them, of one whose answer
    // changed, and of one that is no business of theirs any more.
    fn settle_namespaces(&mut self, changes: &mut Changes) {
        for (namespace, seats) in self.nodes.take_touched() {
            let (enrolled, changed) = {
                let namespaces = &mut self.namespaces;
                namespaces.settle(&namespace, &self.rules, self.leave)
            };
            let mut tell = |node: &Name, answer| {
                let change = changes.entry(Arc::clone(node)).or_default();
                change.namespaces.insert(Arc::clone(&namespace), answer);
            };
            for (node, was_there) in seats {
                match (was_there, self.nodes.has(&node, &namespace)) {
                    (true, false) => tell(&node, None),
                    (false, true) => tell(&node, Some(enrolled)),
                    _ => {}
                }
            }
            if changed {
                let pods = self.namespaces.pods(&namespace);
                for node in pods.filter_map(|uid| self.pods.get(uid)?.pod.node.as_ref()) {
                    tell(node, Some(enrolled));
                }
            }
            self.namespaces.drop_if_unknown(&namespace);
        }
    }

    /// What the state was computed from.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Everything the node is to be told.
    pub fn node(&self, name: &str) -> NodeState {
        let pods = self
            .nodes
            .pods(name)
            .filter_map(|uid| Some((Arc::clone(uid), Arc::clone(self.pods.get(uid)?))));
        let namespaces = self
            .nodes
            .namespaces(name)
            .map(|name| (Arc::clone(name), self.namespaces.is_enrolled(name)));
        NodeState {
            pods: pods.collect(),
            namespaces: namespaces.collect(),
        }
    }

    /// Nodes that have pods.
    pub fn nodes(&self) -> impl Iterator<Item = &Name> {
        self.nodes.names()
    }

    /// One pod.
    pub fn pod(&self, uid: &str) -> Option<&Arc<Intent>> {
        self.pods.get(uid)
    }

    /// The pod of that name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<Intent>> {
        self.pods.get(&self.namespaces.named(namespace, name)?)
    }

    /// Every pod, in no order.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Intent>> {
        self.pods.values()
    }

    /// True when the source has told of the namespace itself, not only of pods
    /// in it.
    pub fn knows_namespace(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some()
    }

    /// Of how many pods this is wanted.
    pub fn count(&self, wanted: Wanted) -> usize {
        self.wanted.get(&wanted).copied().unwrap_or_default()
    }
}

fn note(
    changes: &mut Changes,
    uid: &Uid,
    before: Option<&Arc<Intent>>,
    after: Option<&Arc<Intent>>,
) {
    let node = |intent: Option<&Arc<Intent>>| intent.and_then(|i| i.pod.node.clone());
    let (old, new) = (node(before), node(after));
    if let Some(old) = old.clone().filter(|old| new.as_ref() != Some(old)) {
        let change = changes.entry(old).or_default();
        change.pods.insert(Arc::clone(uid), None);
    }
    let (Some(new), Some(after)) = (new, after) else {
        return;
    };
    let same = before.is_some_and(|before| before.says_the_same(after));
    if !same || old.as_ref() != Some(&new) {
        let change = changes.entry(new).or_default();
        change.pods.insert(Arc::clone(uid), Some(Arc::clone(after)));
    }
}

#[cfg(test)]
mod tests;
