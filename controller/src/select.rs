//! Who is captured: a pure function of a pod, its namespace and the rules.
//!
//! Labels and annotations are Istio's, with Istio's meaning. Their values are
//! written by tenants: nothing here can fail on them.

mod annotation;
mod selectors;

use std::collections::{BTreeMap, BTreeSet};

pub use annotation::is_relevant as is_relevant_annotation;
pub use selectors::{SelectorError, Selectors};

use crate::model::{Namespace, Pod, Wanted};

/// Label of namespaces and pods; unless an installation has selectors of its
/// own: `ambient`, `none`, or anything else, which says nothing.
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// Present on pods that have a sidecar.
const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// `disabled`, when set by a user, opts the pod out.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";

/// What the installation says about who can be captured.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub proxy: ProxyRule,
    /// Nothing in these namespaces is captured.
    pub excluded_namespaces: BTreeSet<String>,
    /// Who is enrolled, by labels.
    pub enablement: Selectors,
}

/// How the proxy's pods are recognised: by all three together, because a
/// tenant can label a pod at will, and must not be handed the node's plaintext.
#[derive(Clone, Debug, Default)]
pub struct ProxyRule {
    pub namespace: String,
    pub service_account: String,
    pub labels: BTreeMap<String, String>,
}

impl ProxyRule {
    fn matches(&self, pod: &Pod) -> bool {
        *pod.namespace == *self.namespace
            && *pod.service_account == *self.service_account
            && self
                .labels
                .iter()
                .all(|(key, value)| pod.labels.get(key.as_str()).is_some_and(|v| **v == **value))
    }
}

/// What is wanted of `pod`, and for an unsupported one why.
///
/// `namespace` is absent when the source does not know it; it then says
/// nothing.
pub fn wanted(
    pod: &Pod,
    namespace: Option<&Namespace>,
    rules: &Rules,
) -> (Wanted, Option<Box<str>>) {
    // A pod in the node's own namespace can neither be captured nor take
    // traffic for others, whatever it is labelled.
    if pod.completed || pod.host_network {
        return (Wanted::Nothing, None);
    }
    if rules.proxy.matches(pod) {
        return (Wanted::Proxy, None);
    }
    let never = rules.excluded_namespaces.contains(&*pod.namespace)
        || pod.annotations.contains_key(SIDECAR_STATUS)
        || pod
            .annotations
            .get(REDIRECTION)
            .is_some_and(|value| **value == *"disabled");
    let of_namespace = namespace.map(|namespace| &namespace.labels);
    if never || !rules.enablement.enrol(&pod.labels, of_namespace) {
        return (Wanted::Nothing, None);
    }
    match annotation::unsupported(&pod.annotations) {
        Some(message) => (Wanted::Unsupported, Some(message.into())),
        None => (Wanted::Captured, None),
    }
}

/// True when the namespace's labels alone enrol pods in it.
pub fn enrols(namespace: &Namespace, rules: &Rules) -> bool {
    rules.enablement.enrol_namespace(&namespace.labels)
        && !rules.excluded_namespaces.contains(&*namespace.name)
}

#[cfg(test)]
mod tests;
