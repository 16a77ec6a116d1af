//! What was captured stays captured, and what is said of it is true.

use sluice_kernel::model::Refusal;

use super::*;
use crate::status::EventKind;

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_were_there_before_are_found_by_their_address() {
    let mut node = Node::ready().await;
    node.kernel
        .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    let pod = node.until_pod("a", PodState::Captured, None).await;
    assert_eq!(pod.interface.as_deref(), Some("veth-a"));
    node.want(intent("a", Wanted::Releasing, &["10.0.0.4"]));
    let pod = node
        .until_pod("a", PodState::Captured, Some(Reason::Releasing))
        .await;
    assert!(pod.steered);
    node.want(intent("a", Wanted::Nothing, &["10.0.0.4"]));
    let pod = node.until_pod("a", PodState::Released, None).await;
    assert!(!pod.steered);
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_link_comes_late_is_found_then() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.until_pod("a", PodState::Failed, Some(Reason::NoInterface))
        .await;
    node.kernel
        .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    node.until_pod("a", PodState::Captured, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_stay_closed_while_the_proxy_is_away() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel.listen("/run/netns/zt", &[15001]);
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::ProxyNotListening))
        .await;
    assert!(pod.steered);
    node.kernel.change(|state| {
        state.netns.remove(std::path::Path::new("/run/netns/zt"));
        state.links.remove("veth-zt");
    });
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::ProxyGone))
        .await;
    assert!(pod.steered);
    assert_eq!(node.programmed(), ["a"]);
    assert_eq!(node.kernel.state().node.proxy, None);
    // A pod that is not closed yet stays as it is.
    node.kernel
        .attach("/run/netns/b", 12, "veth-b", &["10.0.0.5"]);
    node.want(intent("b", Wanted::Captured, &["10.0.0.5"]));
    let pod = node
        .until_pod("b", PodState::Pending, Some(Reason::NoProxy))
        .await;
    assert!(!pod.steered);
    // A new proxy takes them both.
    node.kernel
        .attach("/run/netns/zt2", 2, "veth-zt2", &["10.0.0.201"]);
    node.kernel.listen("/run/netns/zt2", &[15001, 15006, 15008]);
    node.capture
        .noted(sandbox("zt2", "zt2", &["10.0.0.201"]))
        .await;
    node.want(intent("zt2", Wanted::Proxy, &["10.0.0.201"]));
    node.until_pod("a", PodState::Captured, None).await;
    node.until_pod("b", PodState::Captured, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_is_mended_counted_and_told() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.added("b", 12, "10.0.0.5").await;
    node.capture.resync().await.unwrap();
    assert_eq!(node.capture.status().borrow().repairs, 0);
    let mut events = node.capture.events();
    node.kernel
        .change(|state| drop(state.node.pods.remove(&uid("a"))));
    node.until(|status| status.repairs == 1).await;
    assert_eq!(node.programmed(), ["a", "b"]);
    let event = soon(events.recv()).await.unwrap();
    assert_eq!((event.kind, event.pod), (EventKind::Repair, Some(uid("a"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_finds_nothing_to_do() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel
        .attach("/run/netns/b", 12, "veth-b", &["10.0.0.5"]);
    node.want(intent("b", Wanted::Captured, &["10.0.0.5"]));
    node.until_pod("b", PodState::Captured, None).await;
    let writes = node.kernel.state().writes;
    node.restart();
    // Before there is a state it is told what is held, and nothing is touched.
    node.until(|status| status.pods.get(&uid("a")).is_some_and(|pod| pod.steered))
        .await;
    node.send();
    node.until_pod("a", PodState::Captured, None).await;
    node.until_pod("b", PodState::Captured, None).await;
    assert_eq!(node.kernel.state().writes, writes);
    assert_eq!(node.capture.status().borrow().repairs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_proxy_and_journal_opens_nothing() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel.change(|state| {
        state.netns.remove(std::path::Path::new("/run/netns/zt"));
        state.links.remove("veth-zt");
        state.findings.push(Refusal {
            check: "ipvs",
            evidence: "found".into(),
            remedy: "remove it".into(),
        });
    });
    node.until_pod("a", PodState::Pending, Some(Reason::ProxyGone))
        .await;
    std::fs::remove_dir_all(node.run_dir.path().join("journal")).unwrap();
    node.restart();
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::ProxyGone))
        .await;
    assert!(pod.steered);
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_entry_that_disagrees_is_set_aside() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.added("b", 12, "10.0.0.5").await;
    // While the agent is away one namespace is replaced, and one link.
    node.kernel
        .attach("/run/netns/a", 21, "veth-a", &["10.0.0.4"]);
    node.restart();
    // Answered once the journal has been read.
    assert!(node.capture.resync().await.is_err());
    assert_eq!(node.journal(), ["zt", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_refuse_new_pods_only() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let finding = Refusal {
        check: "ipvs",
        evidence: "kube-ipvs0 has service addresses".into(),
        remedy: "use another kube-proxy mode".into(),
    };
    node.kernel.state().findings.push(finding.clone());
    node.capture.resync().await.unwrap();
    let b = node.pod("b", 12, "10.0.0.5");
    let Err(AddError::Refused { reason }) = node.add(&b).await else {
        panic!("the node cannot capture");
    };
    assert!(reason.contains("kube-ipvs0"), "{reason}");
    let status = node.until(|status| !status.capture_ready).await;
    assert_eq!(status.findings, [finding]);
    assert_eq!(status.pods[&uid("a")].state, PodState::Captured);
    assert_eq!(node.programmed(), ["a"]);
    // Once it is gone the next ADD looks again.
    node.kernel.state().findings.clear();
    node.add(&b).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pod_that_fails_does_not_stop_the_others() {
    let mut node = Node::ready().await;
    node.kernel.state().refuse.insert(uid("bad"));
    node.kernel
        .attach("/run/netns/bad", 11, "veth-bad", &["10.0.0.4"]);
    node.kernel
        .attach("/run/netns/good", 12, "veth-good", &["10.0.0.5"]);
    node.want(intent("bad", Wanted::Captured, &["10.0.0.4"]));
    node.want(intent("good", Wanted::Captured, &["10.0.0.5"]));
    node.until_pod("good", PodState::Captured, None).await;
    let pod = node
        .until_pod("bad", PodState::Failed, Some(Reason::Kernel))
        .await;
    assert_eq!(pod.message, "the kernel refuses pod bad");
    assert!(!pod.steered);
    node.kernel.state().refuse.clear();
    node.until_pod("bad", PodState::Captured, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reconciled_is_said_as_it_is() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel.state().broken = true;
    node.kernel
        .change(|state| drop(state.node.pods.remove(&uid("a"))));
    let pod = node
        .until_pod("a", PodState::Failed, Some(Reason::Kernel))
        .await;
    assert_eq!(pod.message, "the kernel is out of memory");
    assert!(!pod.steered);
    assert!(node.capture.resync().await.is_err());
    let status = node.until(|status| !status.capture_ready).await;
    assert!(status.message.contains("could not be reconciled"));
    node.kernel.state().broken = false;
    node.until_pod("a", PodState::Captured, None).await;
    node.until(|status| status.capture_ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_that_goes_without_a_word_is_noticed() {
    let mut node = Node::ready().await;
    let finding = Refusal {
        check: "rpfilter",
        evidence: "a rule".into(),
        remedy: "delete it".into(),
    };
    node.kernel.state().findings.push(finding);
    node.kernel
        .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.until_pod("a", PodState::Unsupported, Some(Reason::Preflight))
        .await;
    // Other people's rules are not announced to us, and all else is quiet by now.
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.kernel.state().findings.clear();
    node.until_pod("a", PodState::Captured, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explains_a_pod_and_no_stranger() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let explained = node.capture.explain(uid("a")).await.unwrap();
    assert!(explained.evidence.iter().all(|evidence| evidence.present));
    assert_eq!(explained.commands, ["ip link show veth-a"]);
    assert!(node.capture.explain(uid("x")).await.is_err());
}
