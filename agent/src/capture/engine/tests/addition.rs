//! Sandboxes come and go.

use super::*;
use crate::capture::CheckError;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_captured_once_and_forgotten_once() {
    let mut node = Node::ready().await;
    let sandbox = node.added("a", 11, "10.0.0.4").await;
    assert_eq!(node.programmed(), ["a"]);
    assert_eq!(node.journal(), ["zt", "a"]);
    let pod = node.until_pod("a", PodState::Captured, None).await;
    assert!(pod.steered);
    assert_eq!(pod.hash, "hash of a");
    assert_eq!(pod.interface.as_deref(), Some("veth-a"));
    // Again: nothing else happens.
    assert_eq!(node.add(&sandbox).await.unwrap().interface, "veth-a");
    assert_eq!(node.journal(), ["zt", "a"]);
    for _ in 0..2 {
        node.capture.del("a".into(), "eth0".into()).await;
        assert_eq!(node.programmed(), [""; 0]);
        assert_eq!(node.journal(), ["zt"]);
    }
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
    assert!(!pod.steered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pod_is_not_captured_again_by_its_address() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    // The API server still says that it has the address, and its link is there.
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.capture.del("a".into(), "eth0".into()).await;
    node.capture.resync().await.unwrap();
    assert_eq!(node.programmed(), [""; 0]);
    // A new sandbox of it is.
    let again = sandbox("a2", "a", &["10.0.0.5"]);
    node.kernel
        .attach("/run/netns/a2", 12, "veth-a2", &["10.0.0.5"]);
    node.add(&again).await.unwrap();
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_one_pod_touches_no_other() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let sandbox = node.pod("b", 12, "10.0.0.5");
    node.until(|status| status.pods.contains_key(&uid("b")))
        .await;
    let captures = node.kernel.state().captures;
    node.add(&sandbox).await.unwrap();
    assert_eq!(node.kernel.state().captures, captures + 1);
    assert_eq!(node.programmed(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_proxy_it_is_not_ready() {
    let mut node = Node::new();
    let sandbox = node.pod("a", 11, "10.0.0.4");
    let Err(AddError::NotReady { reason }) = node.add(&sandbox).await else {
        panic!("there is no proxy");
    };
    assert!(
        reason.starts_with("no proxy is known on this node"),
        "{reason}"
    );
    assert_eq!(node.programmed(), [""; 0]);
    assert_eq!(node.journal(), [""; 0]);
    // It comes, and listens late.
    node.kernel.listen("/run/netns/zt", &[15001]);
    node.capture
        .noted(super::sandbox("zt", "zt", &["10.0.0.200"]))
        .await;
    node.want(intent("zt", Wanted::Proxy, &["10.0.0.200"]));
    node.until(|status| status.proxy.missing.len() == 2).await;
    let Err(AddError::NotReady { reason }) = node.add(&sandbox).await else {
        panic!("the proxy does not listen");
    };
    assert!(
        reason.contains("does not listen on 15006, 15008"),
        "{reason}"
    );
    node.kernel.listen("/run/netns/zt", &[15001, 15006, 15008]);
    node.until(|status| status.proxy.ready).await;
    node.add(&sandbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_state_it_is_not_ready_and_nothing_is_written() {
    let node = Node::new();
    let sandbox = sandbox("a", "a", &["10.0.0.4"]);
    assert!(matches!(
        node.add(&sandbox).await,
        Err(AddError::NotReady { .. })
    ));
    node.capture.noted(sandbox).await;
    assert!(node.capture.resync().await.is_err());
    assert_eq!(node.kernel.state().writes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_refuses_leaves_nothing() {
    let mut node = Node::ready().await;
    node.added("good", 10, "10.0.0.3").await;
    let sandbox = node.pod("a", 11, "10.0.0.4");
    node.kernel.state().refuse.insert(uid("a"));
    let error = node.add(&sandbox).await.unwrap_err();
    assert_eq!(
        error,
        AddError::Kernel {
            reason: "the kernel refuses pod a".into()
        }
    );
    assert_eq!(node.programmed(), ["good"]);
    assert_eq!(node.journal(), ["zt", "good"]);
    node.kernel.state().refuse.clear();
    node.add(&sandbox).await.unwrap();
    assert_eq!(node.programmed(), ["a", "good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_cannot_be_is_refused_by_name() {
    let mut node = Node::ready().await;
    let sandbox = node.pod("a", 11, "10.0.0.4");
    let refuse = async |sandbox: Sandbox| match node.add(&sandbox).await {
        Err(AddError::Refused { reason } | AddError::NotReady { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let gone = Sandbox {
        netns: "/run/netns/gone".into(),
        ..sandbox.clone()
    };
    assert!(
        refuse(gone)
            .await
            .contains("/run/netns/gone is no namespace")
    );
    let bare = Sandbox {
        addresses: BTreeSet::new(),
        ..sandbox.clone()
    };
    assert!(refuse(bare).await.contains("has no address"));
    let lost = Sandbox {
        addresses: BTreeSet::from(["10.0.0.99".parse().unwrap()]),
        ..sandbox.clone()
    };
    assert!(refuse(lost).await.contains("no link leads to {10.0.0.99}"));
    // Another pod's, with its address: nothing of that one is touched.
    node.kernel
        .attach("/run/netns/b", 12, "veth-b", &["10.0.0.5"]);
    let lie = Sandbox {
        host_link: Some("veth-b".into()),
        addresses: BTreeSet::from(["10.0.0.5".parse().unwrap()]),
        ..sandbox.clone()
    };
    assert!(
        refuse(lie)
            .await
            .contains("veth-b does not lead into /run/netns/a")
    );
    node.add(&sandbox).await.unwrap();
    let second = Sandbox {
        ifname: "net1".into(),
        ..sandbox
    };
    assert!(refuse(second).await.contains("a second one (net1)"));
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_result_the_kernel_is_asked_and_no_guess_is_made() {
    let mut node = Node::ready().await;
    let alone = Sandbox {
        host_link: None,
        addresses: BTreeSet::new(),
        standalone: true,
        ..node.pod("a", 11, "10.0.0.4")
    };
    let refuse = async |node: &Node| match node.add(&alone).await {
        Err(AddError::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let link = |name: &str, addresses: &[&str]| {
        node.kernel.attach("/run/netns/a", 11, name, addresses);
    };
    node.kernel.state().links.remove("veth-a");
    assert!(refuse(&node).await.contains("no veth link"));
    link("net0", &[]);
    assert!(refuse(&node).await.contains("(net0)"));
    // A second network of the pod.
    link("veth-a", &["10.0.0.4"]);
    link("net1", &["10.9.0.4"]);
    assert!(refuse(&node).await.contains("(net0, net1, veth-a)"));
    node.kernel.state().links.remove("net1");
    assert_eq!(node.add(&alone).await.unwrap().interface, "veth-a");
    assert_eq!(node.programmed(), ["a"]);
    // What was found is kept, and is the same sandbox.
    assert_eq!(node.add(&alone).await.unwrap().interface, "veth-a");
    node.capture.check(alone.clone()).await.unwrap();
    node.capture.del("a".into(), "eth0".into()).await;
    assert!(node.programmed().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_refused_naming_both() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let thief = node.pod("b", 12, "10.0.0.4");
    let Err(AddError::Refused { reason }) = node.add(&thief).await else {
        panic!("the address is taken");
    };
    assert!(
        reason.contains("shop/b") && reason.contains("shop/a"),
        "{reason}"
    );
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_has_to_wait_makes_no_pass() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let sandbox = node.pod("b", 12, "10.0.0.5");
    node.kernel.listen("/run/netns/zt", &[15001]);
    node.until_pod("a", PodState::Pending, Some(Reason::ProxyNotListening))
        .await;
    // The last notice of a change has been looked at.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let reconciles = node.kernel.state().reconciles;
    for _ in 0..3 {
        let waits = node.add(&sandbox).await;
        assert!(matches!(waits, Err(AddError::NotReady { .. })), "{waits:?}");
    }
    // Nor does the DEL of a pod that never got that far.
    node.capture.del("b".into(), "eth0".into()).await;
    assert_eq!(node.kernel.state().reconciles, reconciles);
    assert_eq!(node.journal(), ["zt", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_one_pod_touches_no_other() {
    let mut node = Node::ready().await;
    for (name, inode, address) in [("a", 11, "10.0.0.4"), ("b", 12, "10.0.0.5")] {
        node.added(name, inode, address).await;
    }
    node.capture.resync().await.unwrap();
    node.capture.del("a".into(), "eth0".into()).await;
    assert_eq!(node.kernel.state().releases, 1);
    assert_eq!(node.programmed(), ["b"]);
    assert_eq!(node.journal(), ["zt", "b"]);
    // What could not be released by itself is tried again with everything.
    node.kernel.change(|state| state.broken = true);
    node.capture.del("b".into(), "eth0".into()).await;
    assert_eq!(node.programmed(), ["b"]);
    // What still holds it is said, however often that fails.
    for _ in 0..2 {
        let pod = node.capture.status().borrow().pods[&uid("b")].clone();
        assert!(pod.steered, "{pod:?}");
        assert!(node.capture.resync().await.is_err());
    }
    node.kernel.change(|state| state.broken = false);
    node.capture.resync().await.unwrap();
    assert_eq!(node.kernel.state().releases, 2);
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_waited_for_is_given_on() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.pod("b", 12, "10.0.0.4");
    node.want(intent("b", Wanted::Captured, &["10.0.0.4"]));
    node.until_pod("b", PodState::Failed, Some(Reason::AddressTaken))
        .await;
    node.capture.del("a".into(), "eth0".into()).await;
    node.until_pod("b", PodState::Captured, None).await;
    assert_eq!(node.programmed(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_del_makes_an_add_that_waits_void() {
    let mut node = Node::ready().await;
    let sandbox = node.pod("a", 11, "10.0.0.4");
    let waiting: Ticket = node.capture.ticket();
    node.capture.del("a".into(), "eth0".into()).await;
    let late = node.capture.add(waiting, sandbox.clone(), None).await;
    assert!(matches!(late, Err(AddError::Deleted { .. })));
    assert_eq!(node.programmed(), [""; 0]);
    // A later ADD of the same container is a new one.
    node.add(&sandbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_del_of_an_old_sandbox_harms_no_new_one() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel
        .attach("/run/netns/a2", 12, "veth-a2", &["10.0.0.5"]);
    node.add(&sandbox("a2", "a", &["10.0.0.5"])).await.unwrap();
    node.capture.del("a".into(), "eth0".into()).await;
    assert_eq!(node.programmed(), ["a"]);
    let state = node.kernel.state();
    assert_eq!(state.node.pods[&uid("a")].link.name, "veth-a2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_del_of_another_interface_harms_nothing() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.capture.del("a".into(), "net1".into()).await;
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_answer_counts_until_the_state_has_the_pod() {
    let mut node = Node::ready().await;
    node.kernel
        .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    let answer = Some(intent("a", Wanted::Captured, &[]));
    let sandbox = sandbox("a", "a", &["10.0.0.4"]);
    let ticket = node.capture.ticket();
    node.capture.add(ticket, sandbox, answer).await.unwrap();
    // A state that does not have it yet, and a restart with an old one.
    node.send();
    node.capture.resync().await.unwrap();
    assert_eq!(node.programmed(), ["a"]);
    node.restart();
    node.desired.origin = Origin::Disk;
    node.send();
    node.until_pod("a", PodState::Captured, None).await;
    assert_eq!(node.programmed(), ["a"]);
    // Once the state has had it, the state decides.
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.until(|status| status.pods[&uid("a")].hash == "hash of a")
        .await;
    node.capture.resync().await.unwrap();
    node.desired.pods.remove(&uid("a"));
    node.send();
    node.until(|status| !status.pods.contains_key(&uid("a")))
        .await;
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_looks_at_the_kernel() {
    let mut node = Node::ready().await;
    let a = node.added("a", 11, "10.0.0.4").await;
    let b = node.pod("b", 12, "10.0.0.5");
    assert_eq!(node.capture.check(a.clone()).await, Ok(()));
    let missing = node.capture.check(b).await;
    assert!(
        matches!(missing, Err(CheckError::NotFound { .. })),
        "{missing:?}"
    );
    let stranger = node.capture.check(sandbox("x", "x", &[])).await;
    assert!(
        matches!(stranger, Err(CheckError::NotFound { .. })),
        "{stranger:?}"
    );
    // Behind our back, and without a notice.
    node.kernel.state().node.pods.clear();
    let broken = node.capture.check(a.clone()).await;
    assert!(
        matches!(broken, Err(CheckError::Broken { .. })),
        "{broken:?}"
    );
    node.until(|status| status.repairs == 1).await;
    assert_eq!(node.capture.check(a.clone()).await, Ok(()));
    let moved = Sandbox {
        addresses: BTreeSet::from(["10.0.0.9".parse().unwrap()]),
        ..a.clone()
    };
    assert!(matches!(
        node.capture.check(moved).await,
        Err(CheckError::Broken { .. })
    ));
    node.want(intent("a", Wanted::Nothing, &[]));
    node.until_pod("a", PodState::Released, None).await;
    assert_eq!(node.capture.check(a).await, Ok(()));
}
