//! Proxies that come, go and change places.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use sluice_kernel::Kernel;

use crate::lab::Lab;

#[test]
fn another_proxy_takes_over() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let second = lab.proxy("second", &["10.91.0.10", "fd00:91::a"]);
    let before = lab.dump("proxy");
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    node.proxy = Some(second);
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
    assert_eq!(
        before,
        lab.dump("proxy"),
        "the first namespace is not clean"
    );
    assert!(lab.ours("second").contains("table inet sluice"));
    let links = lab.inside("node", "ip -o link show");
    assert_eq!(links.matches("sl-").count(), 2, "{links}");

    // None at all: the second is given back too, and the pods stay closed.
    node.proxy = None;
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");
    assert_eq!(lab.ours("second"), "");
    assert!(lab.ours("node").contains("unreachable 10.91.0.2"));
}

#[test]
fn a_proxy_that_is_gone_leaves_closed_doors_and_no_trace_of_us_keeps_it() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let id = node.proxy.clone().unwrap().netns;
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    kernel.listening(&id).unwrap();
    assert!(Kernel::netns_alive(&id));

    lab.remove("proxy");
    assert!(!Kernel::netns_alive(&id));
    assert!(kernel.listening(&id).unwrap().is_empty());
    // With the last socket in it the namespace goes, and our links with it.
    let gone = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(20));
        !lab.inside("node", "ip link show").contains("sl-in")
    });
    assert!(gone, "the proxy's namespace is still held");

    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");
    let rules = lab.inside("node", "nft list ruleset");
    assert!(
        rules.contains("in-vone") && !rules.contains("fwd ip"),
        "{rules}"
    );
    assert!(lab.ours("node").contains("unreachable 10.91.0.2"));

    let proxy = lab.proxy("proxy", &["10.91.0.9", "fd00:91::9"]);
    let node = sluice_kernel::model::Node {
        proxy: Some(proxy),
        ..node
    };
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:#?}");
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
}

#[test]
fn a_proxy_on_the_host_network_is_refused() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    node.proxy.as_mut().unwrap().netns = Kernel::netns_id(&lab.path("node")).unwrap();
    let error = lab.kernel().reconcile(&node).unwrap_err();
    assert!(error.to_string().contains("host network"), "{error}");
}

#[test]
fn only_transparent_listeners_count_and_only_in_both_families() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let id = node.proxy.unwrap().netns;
    let mut kernel = lab.kernel();
    assert!(kernel.listening(&id).unwrap().is_empty());
    let listen = |address: &str, port: u16, transparent: bool| {
        lab.listener("proxy", address, port, transparent)
    };
    let held = [
        listen("::", 15001, true),
        listen("::", 15006, false),
        listen("0.0.0.0", 15008, true),
    ];
    assert_eq!(kernel.listening(&id).unwrap(), BTreeSet::from([15001]));
    drop(held);
    // A program that another test is starting may hold them for a moment more.
    let end = Instant::now() + Duration::from_secs(10);
    while !kernel.listening(&id).unwrap().is_empty() {
        assert!(Instant::now() < end, "they are closed");
        thread::sleep(Duration::from_millis(20));
    }
}
