//! Pods as tenants write them: from the source to the node.

use std::sync::Arc;

use sluice_agent::{control::decode, desired};
use sluice_controller::{
    index::{Index, Update},
    model::{Namespace, Pod, Relevant, Revision, Wanted},
    select::Rules,
    serve::wire,
    source::{directory, kubernetes},
};

/// A pod as the API server writes it.
pub(super) fn json(input: &[u8]) {
    match kubernetes::read_pod(input, Relevant::default()) {
        Ok(pod) => reaches_the_node(vec![Update::Pod(pod)]),
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// A file of the folder.
pub(super) fn yaml(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match directory::read(text, Relevant::default()) {
        Ok(updates) => reaches_the_node(updates),
        Err(reasons) => assert!(!reasons.is_empty()),
    }
}

/// The agent takes whatever is made of it: one pod that it does not would cost
/// the node the state of all.
fn reaches_the_node(mut updates: Vec<Update>) {
    let enrolled = |name: &Arc<str>| {
        let label = (
            sluice_controller::select::DATAPLANE_MODE.into(),
            "ambient".into(),
        );
        Update::Namespace(Namespace {
            name: Arc::clone(name),
            labels: [label].into(),
        })
    };
    let pods: Vec<Arc<Pod>> = updates
        .iter()
        .filter_map(|update| match update {
            Update::Pod(pod) => Some(Arc::clone(pod)),
            _ => None,
        })
        .collect();
    updates.extend(pods.iter().map(|pod| enrolled(&pod.namespace)));
    let mut index = Index::new(Rules::default());
    index.apply(updates, Revision::default());
    for intent in index.pods() {
        let pod = &intent.pod;
        let sent = wire::pod(intent);
        let taken = decode::intent(sent).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (taken.uid.as_str(), &taken.addresses),
            (&*pod.uid, &pod.addresses)
        );
        assert_eq!(
            intent.wanted == Wanted::Captured,
            taken.wanted == desired::Wanted::Captured
        );
        assert!(intent.wanted != Wanted::Captured || !(pod.host_network || pod.completed));
        let message = intent.message.as_deref().unwrap_or_default();
        assert!(
            message.len() < 4096 && !message.contains(char::is_control),
            "{message:?}"
        );
        assert!(taken.static_uid.as_deref() == pod.static_uid.as_deref());
        assert!(!pod.namespace.is_empty());
        decode::namespace(pod.namespace.to_string()).expect("a namespace");
    }
}
