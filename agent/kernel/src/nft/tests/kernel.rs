//! What the kernel makes of it.

use std::time::{Duration, Instant};

use super::{
    Facts, at_proxy,
    lab::{Lab, in_own_netns},
    link, pod,
};
use crate::{
    model::Pod,
    nft::{
        self, NftError, ProxyFacts, Resets, apply, observe_pod, plan, pod_ruleset, proxy_ruleset,
    },
};

/// Two pods, a proxy and our links.
pub(super) fn node(lab: &Lab) -> Facts {
    let (inward, outward) = (lab.link("sl-in"), lab.link("sl-out"));
    let proxy = lab.link("vproxy");
    let (one, two) = (lab.link("va1"), lab.link("va2"));
    let mut facts = Facts::new([
        pod(one, "va1", &["10.91.1.2", "fd00:91:1::2"]),
        pod(two, "va2", &["10.91.1.3", "fd00:91:1::3"]),
    ]);
    facts.link_in = Some(inward);
    facts.link_out = Some(outward);
    facts.proxy_link = Some(link(proxy, "vproxy"));
    facts
}

#[test]
fn the_nodes_rules_read_back_equal_and_nft_understands_them() {
    in_own_netns(|lab| {
        let facts = node(lab);
        lab.reach(&facts.ruleset());
        insta::assert_snapshot!(lab.nft("list ruleset"));
    });
}

#[test]
fn what_nft_lists_nft_can_write() {
    in_own_netns(|lab| {
        lab.reach(&node(lab).ruleset());
        let listed = lab.nft("list ruleset");
        lab.run(
            "rules=$(nft list ruleset) && nft flush ruleset && printf '%s\\n' \"$rules\" | nft -f -",
        );
        assert_eq!(lab.nft("list ruleset"), listed);
    });
}

#[test]
fn the_proxys_rules_read_back_equal_and_nft_understands_them() {
    in_own_netns(|lab| {
        let facts = at_proxy(lab.link("sl-out"));
        let resets = Resets::default();
        for facts in [
            ProxyFacts { resets, ..facts },
            ProxyFacts {
                ipv6: false,
                ..facts
            },
            facts,
        ] {
            lab.reach(&proxy_ruleset(&lab.settings, facts));
        }
        insta::assert_snapshot!(lab.nft("list ruleset"));
    });
}

#[test]
fn asking_what_the_kernel_takes_changes_nothing() {
    in_own_netns(|lab| {
        let (resets, limits) = Resets::probe(&mut lab.client, &lab.settings).unwrap();
        assert!(resets.ipv4 && resets.ipv6, "{limits:?}");
        assert_eq!(limits, [""; 0]);
        assert_eq!(lab.nft("list ruleset"), "");
        // Whatever it is that the kernel refuses is told.
        lab.nft("add table ip sluice-probe");
        let (resets, limits) = Resets::probe(&mut lab.client, &lab.settings).unwrap();
        assert!(!resets.ipv4 && resets.ipv6);
        let [limit] = limits.as_slice() else {
            panic!("{limits:?}");
        };
        insta::assert_snapshot!(limit, @"a pod that only receives on a live IPv4 connection is not told when capture ends it, and waits until it sends something: the kernel would not add table ip sluice-probe: the kernel refused: File exists (EEXIST)");
    });
}

#[test]
fn every_step_of_a_nodes_life() {
    in_own_netns(|lab| {
        let facts = node(lab);
        lab.reach(&facts.ruleset());
        lab.reach(&facts.clone().without_proxy().ruleset());
        let mut one_pod = facts.clone();
        one_pod.pods.pop_first();
        lab.reach(&one_pod.ruleset());
        lab.reach(&facts.ruleset());
        let mut without_ipv6 = facts.clone();
        without_ipv6.ipv6 = false;
        for pod in without_ipv6.pods.values_mut() {
            pod.addresses.retain(std::net::IpAddr::is_ipv4);
        }
        without_ipv6.local.clear();
        lab.reach(&without_ipv6.ruleset());
        lab.reach(&facts.ruleset());
        lab.reach(&nft::Ruleset::default());
        assert_eq!(lab.nft("list ruleset"), "");
    });
}

#[test]
fn a_link_that_goes_takes_its_chain_along_and_it_comes_back() {
    in_own_netns(|lab| {
        let mut facts = node(lab);
        let before = facts.ruleset();
        lab.reach(&before);
        // Something has always changed, be it only an index.
        lab.run("ip link del va1; ip link del sl-out; ip link del vproxy");
        lab.observe();
        let gone = facts.pods.pop_first().unwrap();
        lab.reach(&facts.clone().without_proxy().ruleset());
        facts.link_out = Some(lab.link("sl-out"));
        facts.proxy_link = Some(link(lab.link("vproxy"), "vproxy"));
        let index = lab.link("va1");
        facts.pods.insert(
            gone.0,
            Pod {
                link: link(index, "va1"),
                ..gone.1
            },
        );
        lab.reach(&facts.ruleset());
    });
}

#[test]
fn what_the_kernel_refuses_is_named_and_nothing_else_is_done() {
    in_own_netns(|lab| {
        let mut facts = node(lab);
        let wanted = facts.ruleset();
        lab.reach(&wanted);
        let uid = crate::model::PodUid::new("odd").unwrap();
        // A chain on a name that no link can have is refused by every kernel.
        let odd = pod(99, "a-name-that-is-too-long", &["10.91.1.9"]);
        facts.pods.insert(uid.clone(), odd);
        let changes = plan(&facts.ruleset(), &lab.observe());
        let Err(NftError::Denied(denied)) = apply(&mut lab.client, &changes) else {
            panic!("a chain on such a link was made");
        };
        let change = &denied.first().unwrap().change;
        assert_eq!(change.pod(&facts.pods), Some(&uid), "{change}");
        assert_eq!(lab.observe(), wanted);
    });
}

#[test]
fn a_pod_is_added_and_read_back_alone() {
    in_own_netns(|lab| {
        let mut facts = node(lab);
        lab.reach(&facts.ruleset());
        let pod = pod(lab.link("va3"), "va3", &["10.91.1.4", "fd00:91:1::4"]);
        let part = pod_ruleset(&lab.settings, &pod, true);
        let before = observe_pod(&mut lab.client, &lab.settings, &pod, true).unwrap();
        let changes = plan(&part, &before);
        // A chain, its rule, and two elements for each address.
        assert_eq!(changes.len(), 6, "{changes:#?}");
        apply(&mut lab.client, &changes).unwrap();
        let after = observe_pod(&mut lab.client, &lab.settings, &pod, true).unwrap();
        assert_eq!(after, part);
        let uid = crate::model::PodUid::new("va3").unwrap();
        facts.pods.insert(uid, pod.clone());
        assert_eq!(lab.observe(), facts.ruleset());

        lab.nft("flush chain netdev sluice in-va3");
        let changed = observe_pod(&mut lab.client, &lab.settings, &pod, true).unwrap();
        assert_ne!(changed, part);
        apply(&mut lab.client, &plan(&part, &changed)).unwrap();
        assert_eq!(lab.observe(), facts.ruleset());
        lab.nft("delete table netdev sluice");
        let nothing = observe_pod(&mut lab.client, &lab.settings, &pod, true).unwrap();
        assert!(nothing.tables.is_empty());
    });
}

#[test]
fn many_pods_and_the_time_it_takes() {
    in_own_netns(|lab| {
        let mut facts = node(lab);
        facts.pods.clear();
        let links = (0..111).map(|at| format!("link add v{at} type veth peer name w{at}\n"));
        let commands = links.collect::<String>();
        lab.run(&format!("printf '{commands}' | ip -batch -"));
        let first = lab.index("v0");
        for at in 0..111_u32 {
            let (v4, v6) = (format!("10.91.2.{}", at + 1), format!("fd00:91:2::{at:x}"));
            let index = lab.index(&format!("v{at}"));
            assert!(index >= first);
            let pod = pod(index, &format!("v{at}"), &[&v4, &v6]);
            facts
                .pods
                .insert(crate::model::PodUid::new(format!("{at:03}")).unwrap(), pod);
        }
        let (_, last) = facts.pods.pop_last().unwrap();
        let start = Instant::now();
        lab.reach(&facts.ruleset());
        println!("110 pods written and verified: {:?}", start.elapsed());
        let start = Instant::now();
        let observed = lab.observe();
        println!("110 pods read: {:?}", start.elapsed());
        let start = Instant::now();
        assert_eq!(plan(&facts.ruleset(), &observed), []);
        println!("110 pods planned: {:?}", start.elapsed());

        let part = pod_ruleset(&lab.settings, &last, true);
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            let before = observe_pod(&mut lab.client, &lab.settings, &last, true).unwrap();
            apply(&mut lab.client, &plan(&part, &before)).unwrap();
            let after = observe_pod(&mut lab.client, &lab.settings, &last, true).unwrap();
            assert_eq!(after, part);
            times.push(start.elapsed());
            lab.reach(&facts.ruleset());
        }
        times.sort();
        println!(
            "one pod more: median {:?}, worst {:?}",
            times.get(25),
            times.last()
        );
    });
}
