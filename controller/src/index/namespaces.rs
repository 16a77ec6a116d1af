//! Namespaces: their labels, their pods, and whether they count as enrolled.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    model::{Intent, Name, Namespace, Uid},
    select::{self, Rules},
};

#[derive(Debug, Default)]
pub(super) struct Namespaces(HashMap<Name, Entry>);

#[derive(Debug, Default)]
struct Entry {
    /// Absent when only pods in it have been heard of.
    known: Option<Namespace>,
    pods: BTreeMap<Arc<str>, Uid>,
    enrolled_pods: usize,
    /// As last told.
    enrolled: bool,
}

impl Namespaces {
    /// Sets or forgets the namespace; true when that is a change.
    pub(super) fn set(&mut self, name: &Name, namespace: Option<Namespace>) -> bool {
        let entry = self.0.entry(Arc::clone(name)).or_default();
        let changed = entry.known != namespace;
        entry.known = namespace;
        changed
    }

    pub(super) fn get(&self, name: &str) -> Option<&Namespace> {
        self.0.get(name)?.known.as_ref()
    }

    pub(super) fn is_enrolled(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|entry| entry.enrolled)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    /// Uids of its pods.
    pub(super) fn pods(&self, name: &str) -> impl Iterator<Item = &Uid> {
        self.0.get(name).into_iter().flat_map(|e| e.pods.values())
    }

    /// The pod of that name.
    pub(super) fn named(&self, namespace: &str, name: &str) -> Option<Uid> {
        self.0.get(namespace)?.pods.get(name).cloned()
    }

    pub(super) fn add_pod(&mut self, intent: &Intent) {
        let pod = &intent.pod;
        let entry = self.0.entry(Arc::clone(&pod.namespace)).or_default();
        entry
            .pods
            .insert(Arc::clone(&pod.name), Arc::clone(&pod.uid));
        entry.enrolled_pods += usize::from(intent.wanted.is_enrolled());
    }

    pub(super) fn remove_pod(&mut self, intent: &Intent) {
        let pod = &intent.pod;
        let Some(entry) = self.0.get_mut(&pod.namespace) else {
            return;
        };
        entry.pods.remove(&pod.name);
        entry.enrolled_pods -= usize::from(intent.wanted.is_enrolled());
    }

    /// Whether pods of it are, or by its label would be, enrolled; and whether
    /// that is news. On a node that leaves, no label enrols.
    pub(super) fn settle(&mut self, name: &str, rules: &Rules, leave: bool) -> (bool, bool) {
        let Some(entry) = self.0.get_mut(name) else {
            return (false, false);
        };
        let by_label = entry
            .known
            .as_ref()
            .is_some_and(|namespace| select::enrols(namespace, rules));
        let enrolled = (by_label && !leave) || entry.enrolled_pods > 0;
        let changed = enrolled != entry.enrolled;
        entry.enrolled = enrolled;
        (enrolled, changed)
    }

    /// Forgets a namespace that has neither an object nor pods.
    pub(super) fn drop_if_unknown(&mut self, name: &str) {
        let unknown = self
            .0
            .get(name)
            .is_some_and(|entry| entry.known.is_none() && entry.pods.is_empty());
        if unknown {
            self.0.remove(name);
        }
    }
}
