//! Where the fleet, the watches and the writer meet: what may have to be
//! written, and what the API server has.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::seen::SeenNode;
use crate::model::{Name, Uid};

/// Something that may have to be written.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Key {
    Pod(Uid),
    Node(Name),
}

/// The board. Memory is that of the pods of the streams held, and of all nodes.
#[derive(Debug)]
pub struct Board {
    instance: String,
    streams: AtomicU64,
    marks: Mutex<HashSet<Key>>,
    /// Pods about which the writer remembers something.
    remembered: Mutex<HashSet<Uid>>,
    nodes: Mutex<HashMap<Name, Arc<SeenNode>>>,
    nodes_in_sync: AtomicBool,
    wake: Notify,
}

impl Board {
    /// `instance` names this run of this replica, among all that ever were.
    pub fn new(instance: impl Into<String>) -> Self {
        Self {
            instance: instance.into(),
            streams: AtomicU64::new(0),
            marks: Mutex::default(),
            remembered: Mutex::default(),
            nodes: Mutex::default(),
            nodes_in_sync: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// This run of this replica.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// A token for a stream that opens.
    pub(crate) fn token(&self) -> String {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        format!("{}/{number}", self.instance)
    }

    /// Has these looked at.
    pub fn mark(&self, keys: impl IntoIterator<Item = Key>) {
        let mut marks = lock(&self.marks);
        let before = marks.len();
        marks.extend(keys);
        if marks.len() > before {
            self.wake.notify_one();
        }
    }

    /// What was marked, once: who is to be woken again has to take it.
    pub(crate) fn take_marks(&self) -> HashSet<Key> {
        std::mem::take(&mut *lock(&self.marks))
    }

    pub(crate) async fn marked(&self) {
        self.wake.notified().await;
    }

    pub(super) fn remember(&self, uid: &Uid, remember: bool) {
        let mut remembered = lock(&self.remembered);
        if remember {
            remembered.insert(Arc::clone(uid));
        } else {
            remembered.remove(uid);
        }
    }

    pub(crate) fn remembers(&self, uid: &str) -> bool {
        lock(&self.remembered).contains(uid)
    }

    /// A node as the API server has it, from a watch or as the answer to a
    /// write: the newer counts. True when that is news.
    pub fn see_node(&self, name: &str, node: SeenNode) -> bool {
        let mut nodes = lock(&self.nodes);
        let news = match nodes.get(name) {
            Some(old) if old.uid == node.uid && old.revision >= node.revision => return false,
            Some(old) => {
                old.uid != node.uid
                    || old.condition != node.condition
                    || old.claim != node.claim
                    || old.tainted != node.tainted
            }
            None => true,
        };
        nodes.insert(name.into(), Arc::new(node));
        drop(nodes);
        if news {
            self.mark([Key::Node(name.into())]);
        }
        news
    }

    /// The node is gone.
    pub fn lose_node(&self, name: &str) {
        lock(&self.nodes).remove(name);
        self.mark([Key::Node(name.into())]);
    }

    /// Every node has been seen: only these exist.
    pub fn only_nodes(&self, names: &HashSet<Name>) {
        lock(&self.nodes).retain(|name, _| names.contains(name));
        self.nodes_in_sync.store(true, Ordering::Release);
        self.mark(names.iter().cloned().map(Key::Node));
        self.wake.notify_one();
    }

    /// True once every node has been seen.
    pub fn nodes_in_sync(&self) -> bool {
        self.nodes_in_sync.load(Ordering::Acquire)
    }

    /// A node, as last seen.
    pub fn node(&self, name: &str) -> Option<Arc<SeenNode>> {
        lock(&self.nodes).get(name).cloned()
    }

    /// Names of the nodes that have our condition.
    pub fn with_condition(&self) -> Vec<Name> {
        let nodes = lock(&self.nodes);
        let with = nodes.iter().filter(|(_, node)| node.condition.is_some());
        with.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Names of all nodes seen.
    pub fn node_names(&self) -> Vec<Name> {
        lock(&self.nodes).keys().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
