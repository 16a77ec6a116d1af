//! When the node is ready. Pure.

use crate::{
    desired::Wanted,
    status::{NodeStatus, PodStatus},
};

/// Ready, or why not: ready is a node that knows what is wanted of it, that
/// nothing keeps from doing it, and whose proxy listens if any pod needs it.
pub fn ready(status: &NodeStatus) -> Result<(), String> {
    if status.origin.is_none() {
        return Err(
            "no desired state yet: no controller has answered and there is no last good state \
             on disk; see --controller and the log"
                .into(),
        );
    }
    if let Some(finding) = status.findings.first() {
        let more = match status.findings.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        return Err(format!(
            "this node cannot capture: {}: {}; {}{more}",
            finding.check, finding.evidence, finding.remedy
        ));
    }
    let enrolled = status.pods.values().filter(|pod| needs_proxy(pod)).count();
    if enrolled > 0 && !status.proxy.ready {
        let why = match status.proxy.message.as_str() {
            "" => "it is not known or does not listen",
            message => message,
        };
        return Err(format!(
            "{enrolled} pods are enrolled and the proxy is not ready: {why}"
        ));
    }
    Ok(())
}

fn needs_proxy(pod: &PodStatus) -> bool {
    matches!(pod.wanted, Wanted::Captured | Wanted::Releasing)
}

#[cfg(test)]
mod tests {
    use sluice_kernel::model::Refusal;

    use super::*;
    use crate::{desired::Origin, ops::view::samples};

    #[test]
    fn ready_needs_a_state_no_findings_and_a_proxy_if_one_is_needed() {
        let mut status = NodeStatus::default();
        insta::assert_snapshot!(ready(&status).unwrap_err(), @"no desired state yet: no controller has answered and there is no last good state on disk; see --controller and the log");
        status.origin = Some(Origin::Disk);
        assert_eq!(ready(&status), Ok(()));
        status.pods = samples::node().pods;
        insta::assert_snapshot!(ready(&status).unwrap_err(), @"2 pods are enrolled and the proxy is not ready: it is not known or does not listen");
        status.proxy.ready = true;
        assert_eq!(ready(&status), Ok(()));
        status.findings.push(Refusal {
            check: "ipvs",
            evidence: "10.96.0.1 on kube-ipvs0".into(),
            remedy: "run kube-proxy in another mode".into(),
        });
        insta::assert_snapshot!(ready(&status).unwrap_err(), @"this node cannot capture: ipvs: 10.96.0.1 on kube-ipvs0; run kube-proxy in another mode");
    }
}
