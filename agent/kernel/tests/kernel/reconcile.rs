//! Reaching what is wanted, staying there, and leaving nothing.

use std::collections::BTreeMap;

use sluice_kernel::model::Node;

use crate::lab::{Lab, uid};

#[test]
fn reconciling_twice_changes_nothing_and_cleanup_restores_every_byte() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let proxy_id = node.proxy.clone().unwrap().netns;
    let before: Vec<_> = ["node", "proxy", "one", "two"]
        .map(|name| lab.dump(name))
        .into();
    let mut kernel = lab.kernel();

    let refusals = kernel.preflight(&node).unwrap();
    assert!(refusals.is_empty(), "{refusals:#?}");
    let first = kernel.reconcile(&node).unwrap();
    assert!(!first.repairs.is_empty());
    for (uid, result) in &first.pods {
        assert!(result.is_ok(), "{uid}: {result:?}");
    }
    assert_eq!(first.pods.len(), 2);
    let refusals = kernel.preflight(&node).unwrap();
    assert!(refusals.is_empty(), "{refusals:#?}");

    let second = kernel.reconcile(&node).unwrap();
    assert!(second.repairs.is_empty(), "{:#?}", second.repairs);
    let audit = kernel.audit(&node).unwrap();
    assert!(audit.differences.is_empty(), "{:#?}", audit.differences);
    assert!(audit.pods.values().all(|captured| *captured));
    assert!(kernel.sysctls_ok());

    // Somebody who starts anew finds the same.
    let mut other = lab.kernel();
    let third = other.reconcile(&node).unwrap();
    assert!(third.repairs.is_empty(), "{:#?}", third.repairs);
    let steered = other.steered().unwrap();
    assert_eq!(steered.len(), 4);

    assert_eq!(lab.dump("one"), before[2], "a pod's namespace was changed");
    let removed = other.cleanup(Some(&proxy_id)).unwrap();
    assert!(!removed.is_empty());
    let after: Vec<_> = ["node", "proxy", "one", "two"]
        .map(|name| lab.dump(name))
        .into();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert!(other.cleanup(Some(&proxy_id)).unwrap().is_empty());
}

#[test]
fn wanting_nothing_leaves_nothing() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let before = lab.dump("node");
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    kernel.reconcile(&Node::default()).unwrap();
    assert_eq!(before, lab.dump("node"));
    assert!(
        kernel
            .reconcile(&Node::default())
            .unwrap()
            .repairs
            .is_empty()
    );
    assert!(kernel.sysctls_ok());
}

#[test]
fn one_pod_leaves_and_the_other_stays() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    node.pods.remove(&uid("two"));
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(!outcome.repairs.is_empty());
    let ours = lab.ours("node");
    assert!(
        ours.contains("10.91.0.2") && ours.contains("fd00:91::2"),
        "{ours}"
    );
    assert!(
        !ours.contains("10.91.0.3") && !ours.contains("fd00:91::3"),
        "{ours}"
    );
    assert!(!lab.inside("node", "nft list ruleset").contains("in-vtwo"));
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
}

#[test]
fn a_pod_is_captured_alone_and_read_back() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let two = node.pods.remove(&uid("two")).unwrap();
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    node.pods.insert(uid("two"), two);
    kernel.capture(&node, &uid("two")).unwrap();
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
    // Once more is no trouble, nor is the first time ever.
    kernel.capture(&node, &uid("two")).unwrap();
    lab.kernel().capture(&node, &uid("one")).unwrap();
    let evidence = kernel.explain(&node, &uid("two")).unwrap();
    assert!(evidence.len() > 10);
    assert!(
        evidence.iter().all(|evidence| evidence.present),
        "{evidence:#?}"
    );
    for command in kernel.commands(&node.pods[&uid("two")]) {
        lab.inside("node", &command.replace('\'', ""));
    }
}

#[test]
fn a_pod_is_released_alone_and_nothing_of_it_is_left() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let mut kernel = lab.kernel();
    let two = node.pods.remove(&uid("two")).unwrap();
    assert!(
        !kernel.release(&node, &two).unwrap(),
        "nothing is known of the rest yet"
    );
    kernel.reconcile(&node).unwrap();
    let without = lab.ours("node");
    // What was never there is no trouble.
    assert!(kernel.release(&node, &two).unwrap());
    let alone = node.clone();
    node.pods.insert(uid("two"), two.clone());
    assert!(!kernel.release(&node, &two).unwrap(), "it is still wanted");
    kernel.capture(&node, &uid("two")).unwrap();
    assert_ne!(lab.ours("node"), without);
    assert!(kernel.release(&alone, &two).unwrap());
    assert_eq!(lab.ours("node"), without);
    assert!(kernel.reconcile(&alone).unwrap().repairs.is_empty());
    // Its link may be gone by then.
    kernel.capture(&node, &uid("two")).unwrap();
    lab.inside("node", &format!("ip link del {}", two.link.name));
    assert!(kernel.release(&alone, &two).unwrap());
    assert!(kernel.reconcile(&alone).unwrap().repairs.is_empty());
}

#[test]
fn without_a_proxy_captured_pods_are_closed() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    node.proxy = None;
    let mut kernel = lab.kernel();
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:?}");
    let ours = lab.ours("node");
    assert!(ours.contains("unreachable 10.91.0.2"), "{ours}");
    assert!(!lab.inside("node", "ip link show").contains("sl-in"));
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
}

#[test]
fn every_family_alone() {
    for addresses in [
        &["10.91.0.2"][..],
        &["fd00:91::2"][..],
        &["10.91.0.2", "fd00:91::2"][..],
    ] {
        let mut lab = Lab::new();
        let proxy = lab.proxy("proxy", &["10.91.0.9", "fd00:91::9"]);
        let pod = lab.pod("one", addresses);
        let node = Node {
            proxy: Some(proxy),
            pods: BTreeMap::from([pod]),
            ..Node::default()
        };
        let mut kernel = lab.kernel();
        let outcome = kernel.reconcile(&node).unwrap();
        assert!(outcome.pods[&uid("one")].is_ok(), "{outcome:?}");
        assert_eq!(kernel.steered().unwrap(), node.pods[&uid("one")].addresses);
        assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());
    }
}

#[test]
fn ipv6_disabled_is_no_obstacle_to_ipv4() {
    let mut lab = Lab::new();
    lab.inside("node", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let proxy = lab.proxy("proxy", &["10.91.0.9"]);
    let one = lab.pod("one", &["10.91.0.2"]);
    let two = lab.pod("two", &["10.91.0.3"]);
    let mut node = Node {
        proxy: Some(proxy),
        pods: BTreeMap::from([one, two]),
        ..Node::default()
    };
    let mut kernel = lab.kernel();
    assert!(kernel.preflight(&node).unwrap().is_empty());
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods.values().all(Result::is_ok), "{outcome:?}");
    assert!(kernel.reconcile(&node).unwrap().repairs.is_empty());

    let dual = node.pods.get_mut(&uid("two")).unwrap();
    dual.addresses.insert("fd00:91::3".parse().unwrap());
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods[&uid("one")].is_ok());
    let error = outcome.pods[&uid("two")].as_ref().unwrap_err();
    assert!(error.to_string().contains("IPv6 is disabled"), "{error}");
}
