//! One collection as it is known, and what news of it changes. Pure.
//!
//! While a list is read nothing changes; when its end is reached it is compared
//! with what was known, and only what is really not in it is gone.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use super::convert::Object;
use crate::model::Versioned;

/// Objects with something left out that are kept note of.
const MAX_ODD: usize = 100;

/// What happened to one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change<K, T> {
    Is(T),
    Gone(K),
}

/// Why a complete list is not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unbelievable {
    #[error(
        "the API server says there are none, and {known} were known; what was known stays until \
         the list has at least one (restart the controller if the cluster really is empty)"
    )]
    Empty { known: usize },
    #[error(
        "the list is of resourceVersion {listed}, and {seen} was already seen: etcd has gone back \
         in time. What was known stays. After restoring a backup (with etcdutl's --bump-revision, \
         so that this cannot happen), restart every controller"
    )]
    Older { listed: u64, seen: u64 },
}

/// Everything known of one collection.
#[derive(Debug)]
pub(super) struct Collection<K, T> {
    known: HashMap<K, T>,
    /// Of what is known, the newest: the version of an object, or of its
    /// deletion.
    newest: u64,
    /// Everything up to here has been seen, also when nothing happened.
    reached: u64,
    /// What of whom is left out.
    odd: BTreeMap<K, Vec<String>>,
}

impl<K, T> Default for Collection<K, T> {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            newest: 0,
            reached: 0,
            odd: BTreeMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash + Ord, T: Clone + Eq + Versioned> Collection<K, T> {
    /// Of what is known, the newest.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// Everything up to here has been seen.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    /// What of whom is left out.
    pub(super) fn odd(&self) -> impl Iterator<Item = (&T, &[String])> {
        let odd = self.odd.iter();
        odd.filter_map(|(key, why)| Some((self.known.get(key)?, why.as_slice())))
    }

    /// The same object, with the copy that is known already if it is no
    /// different: a list of what is known costs next to nothing.
    pub(super) fn share(&self, object: Object<K, T>) -> Object<K, T> {
        match self.known.get(&object.key) {
            Some(known) if *known == object.body => Object {
                body: known.clone(),
                ..object
            },
            _ => object,
        }
    }

    /// A list that was read to its end, at `version`.
    pub(super) fn listed(
        &mut self,
        objects: Vec<Object<K, T>>,
        version: u64,
    ) -> Result<Vec<Change<K, T>>, Unbelievable> {
        if objects.is_empty() && !self.known.is_empty() {
            let known = self.known.len();
            return Err(Unbelievable::Empty { known });
        }
        if version < self.reached {
            let (listed, seen) = (version, self.reached);
            return Err(Unbelievable::Older { listed, seen });
        }
        let there: HashSet<K> = objects.iter().map(|object| object.key.clone()).collect();
        let gone: Vec<K> = self.known.keys().cloned().collect();
        let gone = gone.into_iter().filter(|key| !there.contains(key));
        // Those that go first: a name may have passed on to another uid.
        let mut changes: Vec<_> = gone.filter_map(|key| self.forget(&key)).collect();
        changes.extend(objects.into_iter().filter_map(|object| self.set(object)));
        self.reached = version;
        Ok(changes)
    }

    /// An object that is new or changed.
    pub(super) fn changed(&mut self, object: Object<K, T>) -> Option<Change<K, T>> {
        self.bookmark(object.version);
        self.set(object)
    }

    /// An object that is gone; `version` is of its going.
    pub(super) fn gone(&mut self, key: &K, version: u64) -> Option<Change<K, T>> {
        self.newest = self.newest.max(version);
        self.bookmark(version);
        self.forget(key)
    }

    /// Nothing happened up to here.
    pub(super) fn bookmark(&mut self, version: u64) {
        self.reached = self.reached.max(version);
    }

    fn set(&mut self, object: Object<K, T>) -> Option<Change<K, T>> {
        let Object {
            key,
            version,
            body,
            left_out,
        } = object;
        self.newest = self.newest.max(version);
        if left_out.is_empty() {
            self.odd.remove(&key);
        } else if self.odd.len() < MAX_ODD || self.odd.contains_key(&key) {
            self.odd.insert(key.clone(), left_out);
        }
        if let Some(known) = self.known.get(&key).filter(|known| **known == body) {
            known.seen_at(version);
            return None;
        }
        self.known.insert(key, body.clone());
        Some(Change::Is(body))
    }

    fn forget(&mut self, key: &K) -> Option<Change<K, T>> {
        self.odd.remove(key);
        self.known.remove(key)?;
        Some(Change::Gone(key.clone()))
    }
}

#[cfg(test)]
mod tests;
