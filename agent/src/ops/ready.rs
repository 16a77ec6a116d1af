//! When the node is ready. Pure.

use std::time::{Duration, Instant};

use crate::{
    control::Link,
    desired::Wanted,
    status::{Leaving, NodeStatus, PodStatus},
};

/// A controller that is replaced is back sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ready, or why not: ready is a node that knows what is wanted of it and is
/// told of changes, that nothing keeps from doing it, the kernel included, and
/// whose proxy listens if any pod needs it.
pub fn ready(status: &NodeStatus, link: &Link, now: Instant) -> Result<(), String> {
    if status.origin.is_none() {
        return Err(
            "no desired state yet: no controller has answered and there is no last good state \
             on disk; see --controller and the log"
                .into(),
        );
    }
    if status.leaving != Leaving::No {
        return Err(status.message.clone());
    }
    if let Some(cni) = status.files.cni.as_ref().filter(|cni| !cni.current) {
        return Err(format!("the shim is not in place: {}", cni.message));
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
    if status.stuck {
        return Err(status.message.clone());
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
    follows(link, now)
}

/// What is captured stays so without a controller, and known pods can be added;
/// new ones cannot.
fn follows(link: &Link, now: Instant) -> Result<(), String> {
    let changed = link.changed.map(|changed| now.duration_since(changed));
    let away = changed.unwrap_or_default();
    if link.connected || away < PATIENCE {
        return Ok(());
    }
    Err(format!(
        "no controller for {} s, so the last good state counts: captured pods stay captured, and \
         pods it does not know cannot start; the last attempt, at {}: {}",
        away.as_secs(),
        link.endpoint,
        link.last_error
    ))
}

fn needs_proxy(pod: &PodStatus) -> bool {
    matches!(pod.wanted, Wanted::Captured | Wanted::Releasing)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use sluice_kernel::model::Refusal;

    use super::*;
    use crate::{desired::Origin, ops::view::samples};

    #[test]
    fn ready_needs_a_state_no_findings_and_a_proxy_if_one_is_needed() {
        let (link, now) = (Link::default(), Instant::now());
        let ready = |status: &NodeStatus| ready(status, &link, now);
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

    #[test]
    fn a_kernel_that_refuses_is_told() {
        let status = NodeStatus {
            origin: Some(Origin::Controller),
            stuck: true,
            message: "the node could not be reconciled: no room".into(),
            ..NodeStatus::default()
        };
        let told = ready(&status, &Link::default(), Instant::now());
        assert_eq!(told, Err(status.message));
    }

    #[test]
    fn the_loss_of_the_controller_is_told_after_a_while() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let status = NodeStatus {
            origin: Some(Origin::Controller),
            ..NodeStatus::default()
        };
        let mut link = Link {
            connected: false,
            endpoint: "https://controller:15010".into(),
            // Whatever the time of day is set to meanwhile.
            since: Some(SystemTime::now() + Duration::from_secs(86_400)),
            changed: Some(begin),
            last_error: "cannot reach controller:15010".into(),
        };
        assert_eq!(ready(&status, &link, after(9)), Ok(()));
        insta::assert_snapshot!(ready(&status, &link, after(30)).unwrap_err(), @"no controller for 30 s, so the last good state counts: captured pods stay captured, and pods it does not know cannot start; the last attempt, at https://controller:15010: cannot reach controller:15010");
        link.connected = true;
        assert_eq!(ready(&status, &link, after(30)), Ok(()));
    }
}
