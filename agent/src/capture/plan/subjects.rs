//! Brings intents and sandboxes together.

use std::collections::{BTreeMap, BTreeSet};

use sluice_kernel::model::PodUid;

use super::Subject;
use crate::{
    capture::journal::Entry,
    desired::{Desired, Intent},
};

/// Every pod that is spoken of. The intent is the desired state's, or what the
/// controller answered for a pod that the desired state does not have yet.
/// Pods in `forgotten` have no sandbox any more, whatever their intent says.
pub fn subjects<'a>(
    desired: &'a Desired,
    entries: &'a BTreeMap<String, Entry>,
    forgotten: &BTreeSet<PodUid>,
) -> BTreeMap<PodUid, Subject<'a>> {
    let answered = entries.values().filter_map(|entry| entry.intent.as_ref());
    let mut subjects: BTreeMap<PodUid, Subject<'a>> = answered
        .chain(desired.pods.values())
        .map(|intent| {
            let gone = forgotten.contains(&intent.uid);
            (intent.uid.clone(), Subject::new(intent, None, gone))
        })
        .collect();
    let owners = Owners::of(&subjects);
    for entry in entries.values() {
        let Some(uid) = owners.of_entry(entry) else {
            continue;
        };
        let Some(subject) = subjects.get_mut(&uid) else {
            continue;
        };
        if subject.entry.is_none_or(|known| known.order < entry.order) {
            subject.entry = Some(entry);
        }
    }
    for (uid, subject) in &mut subjects {
        if subject.entry.is_some() {
            *subject = Subject::new(subject.intent, subject.entry, forgotten.contains(uid));
        }
    }
    subjects
}

impl<'a> Subject<'a> {
    /// A pod and its newest sandbox. `gone`: its only sandbox was deleted.
    pub fn new(intent: &'a Intent, entry: Option<&'a Entry>, gone: bool) -> Self {
        let given = entry.map(|entry| &entry.sandbox.addresses);
        let addresses = match given.filter(|addresses| !addresses.is_empty()) {
            Some(given) => given.clone(),
            None if gone => BTreeSet::new(),
            None => intent.addresses.clone(),
        };
        Self {
            intent,
            entry,
            addresses,
        }
    }
}

/// Which pod a sandbox belongs to.
struct Owners {
    by_runtime_uid: BTreeMap<String, PodUid>,
    /// None where several pods have the name.
    by_name: BTreeMap<(String, String), Option<PodUid>>,
}

impl Owners {
    fn of(subjects: &BTreeMap<PodUid, Subject<'_>>) -> Self {
        let mut by_runtime_uid = BTreeMap::new();
        let mut by_name: BTreeMap<_, Option<PodUid>> = BTreeMap::new();
        for (uid, subject) in subjects {
            let intent = subject.intent;
            if let Some(hash) = &intent.static_uid {
                by_runtime_uid.insert(hash.clone(), uid.clone());
            }
            by_name
                .entry((intent.namespace.clone(), intent.name.clone()))
                .and_modify(|known| *known = None)
                .or_insert_with(|| Some(uid.clone()));
        }
        for uid in subjects.keys() {
            by_runtime_uid.insert(uid.as_str().to_owned(), uid.clone());
        }
        Self {
            by_runtime_uid,
            by_name,
        }
    }

    fn of_entry(&self, entry: &Entry) -> Option<PodUid> {
        let sandbox = &entry.sandbox;
        if sandbox.pod_uid.is_empty() {
            let name = (sandbox.namespace.clone(), sandbox.name.clone());
            return self.by_name.get(&name).cloned().flatten();
        }
        self.by_runtime_uid.get(&sandbox.pod_uid).cloned()
    }
}
