//! A batch of updates, brought down to what is left of each pod and namespace
//! when it is over.

use std::{collections::HashMap, sync::Arc};

use super::Update;
use crate::model::{Name, Namespace, Pod, Uid};

#[derive(Default)]
pub(super) struct Batch {
    /// Touched pods; absent: gone.
    pub pods: HashMap<Uid, Option<Arc<Pod>>>,
    pub namespaces: HashMap<Name, Option<Namespace>>,
    /// Who got a name in this batch.
    names: HashMap<(Name, Arc<str>), Uid>,
}

impl Batch {
    /// `named` tells who had a name before the batch.
    pub(super) fn collect(updates: Vec<Update>, named: impl Fn(&str, &str) -> Option<Uid>) -> Self {
        let mut batch = Self::default();
        for update in updates {
            match update {
                Update::Pod(pod) => batch.pod(pod, &named),
                Update::PodGone(uid) => {
                    batch.pods.insert(uid, None);
                }
                Update::Namespace(namespace) => {
                    let name = Arc::clone(&namespace.name);
                    batch.namespaces.insert(name, Some(namespace));
                }
                Update::NamespaceGone(name) => {
                    batch.namespaces.insert(name, None);
                }
            }
        }
        batch
    }

    /// Has the pod decided anew, as it is, unless the batch says more of it.
    pub(super) fn keep(&mut self, uid: &Uid, pod: impl FnOnce() -> Option<Arc<Pod>>) {
        self.pods.entry(Arc::clone(uid)).or_insert_with(pod);
    }

    // A recreated pod has its predecessor's name: the old one is gone even if
    // nobody said so, unless it has taken another name itself.
    fn pod(&mut self, pod: Arc<Pod>, named: impl Fn(&str, &str) -> Option<Uid>) {
        let name = (Arc::clone(&pod.namespace), Arc::clone(&pod.name));
        let owners = [
            named(&pod.namespace, &pod.name),
            self.names.insert(name, Arc::clone(&pod.uid)),
        ];
        for owner in owners.into_iter().flatten() {
            let renamed = self.pods.get(&owner).is_some_and(|now| {
                now.as_ref()
                    .is_some_and(|now| now.namespace != pod.namespace || now.name != pod.name)
            });
            if !renamed {
                self.pods.insert(owner, None);
            }
        }
        self.pods.insert(Arc::clone(&pod.uid), Some(pod));
    }
}
