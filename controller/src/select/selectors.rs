//! Enablement selectors: which labels of pods and namespaces enrol a pod.
//!
//! They are Istio's: a list, of which one item is enough; an item asks for
//! something of the pod and something of its namespace, and one that asks for
//! nothing of either matches every one. Without a list of its own an
//! installation has Istio's, [`Selectors::default`].

mod parse;

use std::{collections::BTreeMap, sync::Arc};

pub use parse::SelectorError;

use super::DATAPLANE_MODE;

type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Who is enrolled, by labels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selectors(Vec<Selector>);

/// One way to be enrolled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Selector {
    pod: Vec<Requirement>,
    namespace: Vec<Requirement>,
}

/// What is asked of one label.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Requirement {
    key: String,
    asks: Asks,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Asks {
    In(Vec<String>),
    /// As Kubernetes means it: a label that is not there is not in either.
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Default for Selectors {
    /// Istio's: the pod's label says `ambient`; or its namespace's does, and
    /// the pod's does not say `none`.
    fn default() -> Self {
        let mode = |asks| Requirement {
            key: DATAPLANE_MODE.to_owned(),
            asks,
        };
        let ambient = || mode(Asks::In(vec!["ambient".to_owned()]));
        Self(vec![
            Selector {
                pod: vec![ambient()],
                namespace: Vec::new(),
            },
            Selector {
                pod: vec![mode(Asks::NotIn(vec!["none".to_owned()]))],
                namespace: vec![ambient()],
            },
        ])
    }
}

impl Selectors {
    /// True when a pod with these labels is enrolled. Of a namespace that is
    /// not known nothing can be said, also not that it lacks a label.
    pub fn enrol(&self, pod: &Labels, namespace: Option<&Labels>) -> bool {
        self.0.iter().any(|selector| {
            let by_namespace = match namespace {
                Some(labels) => are_met(&selector.namespace, labels),
                None => selector.namespace.is_empty(),
            };
            by_namespace && are_met(&selector.pod, pod)
        })
    }

    /// True when pods are enrolled because they are in a namespace with these
    /// labels: it meets what is asked of a namespace, or a pod without labels
    /// would be enrolled in it as in any other.
    ///
    /// What is asked of the pods besides is not looked at: which pods there
    /// will be is not known, and a wrong "no" would let one start uncaptured.
    pub fn enrol_namespace(&self, namespace: &Labels) -> bool {
        self.0.iter().any(|selector| {
            if selector.namespace.is_empty() {
                are_met(&selector.pod, &Labels::new())
            } else {
                are_met(&selector.namespace, namespace)
            }
        })
    }

    /// The labels that are looked at.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let all = self.0.iter();
        all.flat_map(|selector| selector.pod.iter().chain(&selector.namespace))
            .map(|requirement| requirement.key.as_str())
    }
}

fn are_met(requirements: &[Requirement], labels: &Labels) -> bool {
    requirements.iter().all(|requirement| {
        let value = labels.get(requirement.key.as_str());
        let is_one_of = |values: &[String]| {
            value.is_some_and(|value| values.iter().any(|one| **one == **value))
        };
        match &requirement.asks {
            Asks::In(values) => is_one_of(values),
            Asks::NotIn(values) => !is_one_of(values),
            Asks::Exists => value.is_some(),
            Asks::DoesNotExist => value.is_none(),
        }
    })
}

#[cfg(test)]
mod tests;
