use super::{Facts, addresses, at_proxy, pod};
use crate::{
    model::Settings,
    nft::{ProxyFacts, Resets, proxy_ruleset},
};

fn dual() -> Facts {
    Facts::new([
        pod(11, "va1", &["10.91.1.2", "fd00:91:1::2"]),
        pod(12, "va2", &["10.91.1.3"]),
    ])
}

#[test]
fn a_node_with_both_protocols() {
    insta::assert_snapshot!(dual().ruleset());
}

#[test]
fn a_node_without_ipv6() {
    let mut facts = Facts::new([pod(11, "va1", &["10.91.1.2"])]);
    facts.local = addresses(&["192.168.7.1"]);
    facts.ipv6 = false;
    insta::assert_snapshot!(facts.ruleset());
}

#[test]
fn a_node_with_ipv6_pods() {
    let mut facts = Facts::new([pod(11, "va1", &["fd00:91:1::2"])]);
    facts.local = addresses(&["fd00:7::1"]);
    insta::assert_snapshot!(facts.ruleset());
}

#[test]
fn without_a_proxy_pods_are_closed() {
    insta::assert_snapshot!(dual().without_proxy().ruleset());
}

#[test]
fn without_pods_and_proxy_there_is_nothing() {
    let facts = Facts::new([]).without_proxy();
    assert!(facts.ruleset().tables.is_empty());
}

#[test]
fn the_proxys_namespace() {
    insta::assert_snapshot!(proxy_ruleset(&Settings::default(), at_proxy(3)));
}

#[test]
fn the_proxys_namespace_without_ipv6() {
    let facts = ProxyFacts {
        ipv6: false,
        ..at_proxy(3)
    };
    insta::assert_snapshot!(proxy_ruleset(&Settings::default(), facts));
}

#[test]
fn the_proxys_namespace_without_what_not_every_kernel_has() {
    let resets = Resets::default();
    let facts = ProxyFacts {
        resets,
        ..at_proxy(3)
    };
    let without = proxy_ruleset(&Settings::default(), facts);
    let facts = ProxyFacts {
        link_out: None,
        ..at_proxy(3)
    };
    assert_eq!(without, proxy_ruleset(&Settings::default(), facts));
    insta::assert_snapshot!(without);
}
