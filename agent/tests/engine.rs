//! The capture engine over the real kernel: a node, its proxy and its pods are
//! network namespaces. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's way to fail; clippy knows only those in test functions"
)]

#[path = "engine/lab.rs"]
mod lab;
#[path = "engine/search.rs"]
mod search;

use std::time::{Duration, Instant};

use sluice_agent::{
    desired::Wanted,
    status::{PodState, Reason},
};

use self::lab::{Node, uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_added_tampered_with_mended_and_deleted() {
    let mut node = Node::new();
    node.proxy("zt", 200).await;
    let sandbox = node.attach("a", 4);
    node.want("a", Wanted::Captured, &[]);
    node.add(&sandbox).await.unwrap();
    let pod = node.until_pod("a", PodState::Captured, None).await;
    assert!(pod.steered);
    node.capture.check(sandbox.clone()).await.unwrap();
    let explained = node.capture.explain(uid("a")).await.unwrap();
    assert!(
        explained.evidence.iter().all(|one| one.present),
        "{explained:?}"
    );
    assert_eq!(node.capture.resync().await.unwrap(), []);
    assert_eq!(node.capture.status().borrow().repairs, 0);

    let address = "10.93.0.4";
    let command = format!("ip route del {address} table 8301 metric 0");
    let _ = node.try_inside("node", &command);
    node.inside("node", "ip route flush table 8301");
    node.until(|status| status.repairs > 0).await;
    node.capture.check(sandbox.clone()).await.unwrap();
    assert!(
        node.inside("node", "ip route show table 8301")
            .contains(address)
    );

    node.capture
        .del(sandbox.container_id.clone(), "eth0".into())
        .await;
    assert!(
        !node
            .inside("node", "ip route show table 8301")
            .contains(address)
    );
    node.until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_stays_closed_while_the_proxy_is_away() {
    let mut node = Node::new();
    node.proxy("zt", 200).await;
    let sandbox = node.attach("a", 4);
    node.want("a", Wanted::Captured, &[]);
    node.add(&sandbox).await.unwrap();
    node.silence("zt");
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::ProxyNotListening))
        .await;
    assert!(pod.steered);
    node.remove("zt");
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::ProxyGone))
        .await;
    assert!(pod.steered);
    node.proxy("zt2", 201).await;
    node.until_pod("a", PodState::Captured, None).await;
    node.capture.check(sandbox).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_were_there_before_come_and_go_with_their_label() {
    let mut node = Node::new();
    node.proxy("zt", 200).await;
    node.attach("a", 4);
    let before = node.inside("node", "ip route show table all");
    node.want("a", Wanted::Captured, &["10.93.0.4", "fd93::4"]);
    node.until_pod("a", PodState::Captured, None).await;
    assert_ne!(node.inside("node", "ip route show table all"), before);
    node.want("a", Wanted::Releasing, &["10.93.0.4", "fd93::4"]);
    node.until_pod("a", PodState::Captured, Some(Reason::Releasing))
        .await;
    node.want("a", Wanted::Nothing, &["10.93.0.4", "fd93::4"]);
    node.until_pod("a", PodState::Released, None).await;
    assert!(
        !node
            .inside("node", "ip route show table 8301")
            .contains("10.93.0.4")
    );
    assert_eq!(node.capture.status().borrow().repairs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_verifies_a_full_node_and_changes_nothing() {
    const PODS: u8 = 110;
    let mut node = Node::new();
    node.proxy("zt", 200).await;
    let mut times = Vec::new();
    let mut sandboxes = Vec::new();
    for n in 2..PODS + 2 {
        let name = format!("p{n}");
        sandboxes.push(node.attach(&name, n));
        node.want(&name, Wanted::Captured, &[]);
    }
    node.capture.resync().await.unwrap();
    for sandbox in sandboxes {
        let started = Instant::now();
        node.add(&sandbox).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort();
    let ruleset = node.inside("node", "nft -s list ruleset");
    assert_eq!(node.capture.status().borrow().repairs, 0);
    node.restart();
    let started = Instant::now();
    node.send();
    node.until(|status| {
        let captured = |pod: &&sluice_agent::status::PodStatus| pod.state == PodState::Captured;
        status.pods.values().filter(captured).count() == usize::from(PODS)
    })
    .await;
    eprintln!(
        "ADD: median {:?}, slowest {:?}; {PODS} pods verified after a restart in {:?}",
        times[times.len() / 2],
        times[times.len() - 1],
        started.elapsed()
    );
    assert_eq!(node.inside("node", "nft -s list ruleset"), ruleset);
    assert_eq!(node.capture.status().borrow().repairs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_of_the_node_is_followed_and_is_no_tampering() {
    let mut node = Node::new();
    node.proxy("zt", 200).await;
    let sandbox = node.attach("a", 4);
    node.want("a", Wanted::Captured, &[]);
    node.add(&sandbox).await.unwrap();
    node.inside("node", "ip addr add 192.0.2.7/32 dev lo");
    let started = Instant::now();
    while !node
        .inside("node", "nft list ruleset")
        .contains("192.0.2.7")
    {
        assert!(started.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.capture.check(sandbox).await.unwrap();
    assert_eq!(node.capture.status().borrow().repairs, 0);
}
