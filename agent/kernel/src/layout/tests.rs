use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    error::PodError,
    link::LinkFact,
    model::{NetnsId, Node},
    state::Mac,
};

fn fact(settings: &Settings, which: Which, in_proxy: bool) -> LinkFact {
    let end = end(settings, which, in_proxy);
    let number = match which {
        Which::In => 3,
        Which::Out => 4,
    };
    LinkFact {
        peer_netns: None,
        index: number + if in_proxy { 100 } else { 0 },
        peer: Some(number + if in_proxy { 0 } else { 100 }),
        name: end.name,
        mac: Some(end.mac),
        kind: "veth".into(),
        up: true,
        mtu: 1500,
        master: None,
    }
}

fn facts(settings: &Settings, in_proxy: bool) -> Vec<LinkFact> {
    Which::BOTH
        .map(|which| fact(settings, which, in_proxy))
        .into()
}

fn a_proxy() -> Proxy {
    Proxy {
        netns: NetnsId {
            path: "/run/netns/proxy".into(),
            device: 4,
            inode: 5,
        },
        link: Link {
            index: 9,
            name: "vproxy".into(),
        },
        addresses: BTreeSet::from(["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()]),
    }
}

fn a_pod(index: u32, addresses: &[&str]) -> Pod {
    Pod {
        link: Link {
            index,
            name: format!("v{index}"),
        },
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

fn words(objects: impl IntoIterator<Item = Object>) -> String {
    let lines = objects.into_iter().map(|object| object.to_string());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn everything_in_both_namespaces() {
    let settings = Settings::default();
    let proxy = a_proxy();
    let tunnel =
        Tunnel::found(&settings, &facts(&settings, false), &facts(&settings, true)).unwrap();
    let ground = Ground {
        settings: &settings,
        proxy: Some(&proxy),
        tunnel: Some(&tunnel),
        ipv6: true,
    };
    let uid = PodUid::new("one").unwrap();
    let pod = a_pod(11, &["10.0.0.2", "fd00::2"]);
    insta::assert_snapshot!("node", words(node(ground, [(&uid, &pod)]).into_keys()));
    insta::assert_snapshot!("proxy", words(super::proxy(ground).into_keys()));
}

#[test]
fn without_a_proxy_and_without_ipv6_an_address_is_closed() {
    let settings = Settings::default();
    let ground = Ground {
        settings: &settings,
        proxy: None,
        tunnel: None,
        ipv6: false,
    };
    let uid = PodUid::new("one").unwrap();
    let pod = a_pod(11, &["10.0.0.2"]);
    insta::assert_snapshot!(words(node(ground, [(&uid, &pod)]).into_keys()), @r"
    route unreachable 10.0.0.2/32 metric 4000000000 in table 8301
    IPv4 rule 104: iif lo goto 106
    IPv4 rule 104: from 169.254.0.0/16 goto 106
    IPv4 rule 105: ipproto tcp lookup 8301
    IPv4 rule 106: nop
    ");
    assert!(proxy(ground).is_empty());
}

#[test]
fn pairs_are_made_kept_mended_and_removed() {
    let settings = Settings::default();
    let (node, proxy) = (facts(&settings, false), facts(&settings, true));
    let plan = |node: &[LinkFact], proxy: &[LinkFact], mtu| {
        let steps = plan_links(&settings, node, proxy, mtu);
        let words: Vec<_> = steps.iter().map(|step| step.describe(&settings)).collect();
        words.join("\n")
    };
    assert_eq!(plan(&node, &proxy, Some(1500)), "");
    insta::assert_snapshot!(plan(&[], &[], Some(1500)), @r"
    make the pair of links sl-in
    make the pair of links sl-out
    ");
    insta::assert_snapshot!(plan(&node, &proxy, None), @r"
    remove link sl-in of the node's namespace
    remove link sl-out of the node's namespace
    remove link sl-in of the proxy's namespace
    remove link sl-out of the proxy's namespace
    ");
    insta::assert_snapshot!(plan(&node, &[], Some(1500)), @r"
    remove link sl-in of the node's namespace
    remove link sl-out of the node's namespace
    make the pair of links sl-in
    make the pair of links sl-out
    ");
    let mut changed = node.clone();
    changed[0].mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    changed[1].mtu = 1400;
    insta::assert_snapshot!(plan(&changed, &proxy, Some(1500)), @r"
    set link sl-in address 02:5c:70:3a:70:07 of the node's namespace
    set link sl-out mtu 1500 of the node's namespace
    ");
    // Somebody else's link of our name is neither ours to remove nor to use.
    let mut foreign = node;
    foreign[0].mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    foreign[0].peer = Some(77);
    assert!(!plan(&foreign, &[], None).contains("sl-in"));
    assert!(Tunnel::found(&settings, &foreign, &proxy).is_none());
}

#[test]
fn owners_of_links_are_told_apart() {
    let settings = Settings::default();
    let other = Settings {
        instance: "other".into(),
        ..Settings::default()
    };
    let mut macs = BTreeSet::new();
    for settings in [&settings, &other] {
        for which in Which::BOTH {
            macs.extend([false, true].map(|in_proxy| end(settings, which, in_proxy).mac));
        }
    }
    assert_eq!(macs.len(), 8);
    assert!(!ours(&settings, &fact(&other, Which::In, false)));
}

#[test]
fn pods_that_cannot_be_laid_out() {
    let uid = |text: &str| PodUid::new(text).unwrap();
    let pods = [
        ("a", a_pod(1, &["10.0.0.2"])),
        ("b-address", a_pod(2, &["10.0.0.2"])),
        ("c-link", a_pod(1, &["10.0.0.3"])),
        ("d-none", a_pod(4, &[])),
        ("e-six", a_pod(5, &["fd00::2"])),
        ("f-proxy", a_pod(6, &["10.0.0.9"])),
        ("g-gone", a_pod(7, &["10.0.0.7"])),
        ("h-refused", a_pod(8, &["10.0.0.8"])),
    ];
    let links = [1, 2, 4, 5, 6, 8].map(|index| LinkFact {
        index,
        name: format!("v{index}"),
        ..LinkFact::default()
    });
    let node = Node {
        proxy: Some(a_proxy()),
        pods: BTreeMap::from(pods.map(|(name, pod)| (uid(name), pod))),
        ..Node::default()
    };
    let refused = BTreeSet::from([uid("h-refused")]);
    let accepted = accept(&node, &links, false, &refused);
    let names: Vec<_> = accepted.pods.keys().map(|uid| uid.as_str()).collect();
    assert_eq!(names, ["a", "g-gone"]);
    assert_eq!(accepted.without_link, BTreeSet::from([&uid("g-gone")]));
    let failed = |name: &str| &accepted.failed[&uid(name)];
    assert!(matches!(failed("b-address"), PodError::AddressTaken { by, .. } if *by == uid("a")));
    assert!(matches!(failed("c-link"), PodError::LinkTaken { by, .. } if *by == uid("a")));
    assert!(matches!(failed("d-none"), PodError::NoAddress));
    assert!(matches!(failed("e-six"), PodError::NoIpv6 { .. }));
    assert!(matches!(failed("f-proxy"), PodError::AddressOfProxy { .. }));
    assert!(matches!(failed("g-gone"), PodError::LinkGone { .. }));
    assert!(!failed("e-six").is_transient() && failed("g-gone").is_transient());
}
