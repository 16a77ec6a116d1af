//! One pod, asked for by its node.

use std::sync::Arc;

use super::Index;
use crate::model::Intent;

/// Which pod: by uid (or a static pod's config hash), or, without one, by
/// namespace and name.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub uid: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

/// The answer to a node about a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolved {
    /// A pod of this node.
    Yours(Arc<Intent>),
    /// A pod of another node, or of none yet.
    NotYours,
    NotKnown,
}

impl Index {
    /// What `node` may know of the pod it asks for.
    pub fn resolve(&self, node: &str, question: Question<'_>) -> Resolved {
        let found = if question.uid.is_empty() {
            // Without a uid the name is all there is.
            self.named(question.namespace, question.name)
        } else {
            // A pod of the asked name and another uid is another pod.
            self.pods
                .get(question.uid)
                .or_else(|| self.by_static_uid(node, question.uid))
        };
        match found {
            None => Resolved::NotKnown,
            Some(intent) if intent.pod.node.as_deref() == Some(node) => {
                Resolved::Yours(Arc::clone(intent))
            }
            Some(_) => Resolved::NotYours,
        }
    }

    // Anybody can write the annotation that carries the hash: a pod of the
    // asking node goes before others.
    fn by_static_uid(&self, node: &str, static_uid: &str) -> Option<&Arc<Intent>> {
        let uids = self.static_uids.get(static_uid)?;
        let mut pods = uids.iter().filter_map(|uid| self.pods.get(uid));
        let own = pods
            .clone()
            .find(|intent| intent.pod.node.as_deref() == Some(node));
        own.or_else(|| pods.next())
    }
}
