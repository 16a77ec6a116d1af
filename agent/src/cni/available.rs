//! What STATUS is answered. Pure.

use crate::{
    desired::Wanted,
    status::{Leaving, NodeStatus, PodState, PodStatus},
};

/// Whether pods can be added here, or why not.
///
/// A runtime that is told no takes the whole node out of service, for pods
/// outside the mesh too, and for the controller's and the proxy's. So it is told
/// no only where something on the node forbids capture and a pod waits for it.
/// What those pods bring, a state and a proxy, is no reason, nor is a node that
/// leaves: every pod passes there.
pub(super) fn available(status: &NodeStatus) -> Result<(), String> {
    let forbidden = status.stuck || !status.findings.is_empty();
    if !forbidden || status.leaving != Leaving::No {
        return Ok(());
    }
    let Some(pod) = status.pods.values().find(|pod| waits(pod)) else {
        return Ok(());
    };
    Err(format!(
        "pods of the mesh cannot start on this node, and {}/{} waits to: {}",
        pod.namespace, pod.name, status.message
    ))
}

/// A pod that a finding keeps out is called unsupported.
fn waits(pod: &PodStatus) -> bool {
    let settled = matches!(pod.state, PodState::Captured | PodState::Released);
    pod.wanted == Wanted::Captured && !settled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sluice_kernel::model::{PodUid, Refusal};

    use super::*;
    use crate::desired::Origin;

    fn status(wanted: Wanted, state: PodState) -> NodeStatus {
        let mut status = NodeStatus {
            origin: Some(Origin::Controller),
            message: "the node cannot capture further pods: kube-ipvs0 (ipvs); use nftables".into(),
            ..NodeStatus::default()
        };
        let pod = PodStatus {
            namespace: "shop".into(),
            name: "cart".into(),
            wanted,
            state,
            hash: String::new(),
            reason: None,
            message: String::new(),
            steered: false,
            addresses: BTreeSet::new(),
            interface: None,
            netns: None,
        };
        status.pods.insert(PodUid::new("u").unwrap(), pod);
        status
    }

    fn finding() -> Refusal {
        Refusal {
            check: "ipvs",
            evidence: "kube-ipvs0".into(),
            remedy: "use nftables".into(),
        }
    }

    #[test]
    fn a_node_that_only_waits_is_available() {
        // Fresh, without a controller or a proxy, its pods are what may bring them.
        assert_eq!(available(&NodeStatus::default()), Ok(()));
        let waiting = status(Wanted::Captured, PodState::Pending);
        assert!(!waiting.capture_ready && !waiting.proxy.ready);
        assert_eq!(available(&waiting), Ok(()));
    }

    #[test]
    fn a_node_that_cannot_capture_is_not_where_that_matters() {
        for (stuck, findings) in [(true, vec![]), (false, vec![finding()])] {
            let with = |wanted, state| NodeStatus {
                stuck,
                findings: findings.clone(),
                ..status(wanted, state)
            };
            for state in [PodState::Pending, PodState::Failed, PodState::Unsupported] {
                let why = available(&with(Wanted::Captured, state)).unwrap_err();
                insta::allow_duplicates! {
                    insta::assert_snapshot!(why, @"pods of the mesh cannot start on this node, and shop/cart waits to: the node cannot capture further pods: kube-ipvs0 (ipvs); use nftables");
                }
                let leaving = NodeStatus {
                    leaving: Leaving::Releasing,
                    ..with(Wanted::Captured, state)
                };
                assert_eq!(available(&leaving), Ok(()));
            }
            for (wanted, state) in [
                (Wanted::Captured, PodState::Captured),
                (Wanted::Captured, PodState::Released),
                (Wanted::Nothing, PodState::Released),
                (Wanted::Proxy, PodState::Released),
                (Wanted::Releasing, PodState::Failed),
            ] {
                assert_eq!(available(&with(wanted, state)), Ok(()), "{state:?}");
            }
        }
    }
}
