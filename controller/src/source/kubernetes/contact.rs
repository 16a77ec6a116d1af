//! When the API server was last heard of.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// When each collection was last heard of, shared by those who listen.
#[derive(Clone, Debug)]
pub(super) struct Contact(Arc<Mutex<HashMap<&'static str, Entry>>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    heard: Instant,
    /// Its watch is open.
    open: bool,
}

impl Contact {
    /// Contact begins now: there is none from before.
    pub(super) fn new(collections: &[&'static str]) -> Self {
        let entry = Entry {
            heard: Instant::now(),
            open: false,
        };
        let entries = collections.iter().map(|name| (*name, entry));
        Self(Arc::new(Mutex::new(entries.collect())))
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<&'static str, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, collection: &'static str, open: Option<bool>, heard: bool) {
        if let Some(entry) = self.entries().get_mut(collection) {
            entry.open = open.unwrap_or(entry.open);
            if heard {
                entry.heard = Instant::now();
            }
        }
    }

    /// Something of the collection came.
    pub(super) fn heard(&self, collection: &'static str) {
        self.set(collection, None, true);
    }

    /// Its watch is open.
    pub(super) fn opened(&self, collection: &'static str) {
        self.set(collection, Some(true), true);
    }

    /// Its watch is not open any more.
    pub(super) fn closed(&self, collection: &'static str) {
        self.set(collection, Some(false), false);
    }

    /// The API server answers: an open watch is silent because nothing
    /// happens.
    pub(super) fn answers(&self) {
        for entry in self.entries().values_mut().filter(|entry| entry.open) {
            entry.heard = Instant::now();
        }
    }

    /// When the collection was last heard of.
    pub(super) fn last(&self, collection: &'static str) -> Instant {
        let entry = self.entries().get(collection).copied();
        entry.map_or_else(Instant::now, |entry| entry.heard)
    }

    /// How long each collection has been silent.
    pub(super) fn ages(&self) -> Vec<(&'static str, Duration)> {
        let entries = self.entries();
        let ages = entries
            .iter()
            .map(|(name, entry)| (*name, entry.heard.elapsed()));
        ages.collect()
    }
}
