//! What holds of every plan.

use proptest::{collection, option, prelude::*, sample};

use super::*;

fn wanted() -> impl Strategy<Value = Wanted> {
    sample::select(vec![
        Wanted::Captured,
        Wanted::Captured,
        Wanted::Captured,
        Wanted::Releasing,
        Wanted::Nothing,
        Wanted::Proxy,
        Wanted::Unsupported,
    ])
}

prop_compose! {
    fn intents()(
        pods in collection::btree_map(
            0_u8..8,
            (wanted(), collection::btree_set(0_u8..8, 0..3), prop::bool::weighted(0.1)),
            0..8,
        ),
    ) -> Desired {
        desired(pods.into_iter().map(|(n, (wanted, addresses, host_network))| Intent {
            addresses: addresses.into_iter().map(address).collect(),
            host_network,
            ..intent(n, wanted)
        }).collect())
    }
}

fn proxy_state() -> impl Strategy<Value = ProxyState> {
    sample::select(vec![
        ProxyState::Ready,
        ProxyState::Ready,
        ProxyState::Absent("gone".into()),
        ProxyState::NotListening("mute".into()),
    ])
}

prop_compose! {
    /// Held pods share no address, as an earlier plan made sure of.
    fn held()(
        owners in collection::btree_map(0_u8..8, 0_u8..8, 0..5),
    ) -> BTreeMap<PodUid, Pod> {
        let mut held: BTreeMap<PodUid, Pod> = BTreeMap::new();
        for (a, n) in owners {
            let fresh = || Pod { link: link(n), addresses: BTreeSet::new() };
            held.entry(uid(n)).or_insert_with(fresh).addresses.insert(address(a));
        }
        held
    }
}

prop_compose! {
    fn facts()(
        links in collection::btree_map(0_u8..8, 0_u8..4, 0..8),
        proxy_state in proxy_state(),
        finding in option::of(Just(Refusal {
            check: "ipvs",
            evidence: String::new(),
            remedy: String::new(),
        })),
        held in held(),
        resting in collection::btree_set(0_u8..8, 0..2),
    ) -> Facts {
        let links = links.into_iter().map(|(n, kind)| {
            let found = match kind {
                0 => Err(Fault::transient("no")),
                1 => Err(Fault::lasting("bridge")),
                _ => Ok(link(n)),
            };
            (uid(n), found)
        });
        Facts {
            links: links.collect(),
            proxy: (!matches!(proxy_state, ProxyState::Absent(_))).then(proxy),
            proxy_state,
            findings: finding.into_iter().collect(),
            held,
            resting: resting.into_iter().map(|n| (uid(n), Fault::lasting("no"))).collect(),
        }
    }
}

proptest! {
    #[test]
    fn every_pod_is_either_programmed_or_explained(desired in intents(), facts in facts()) {
        let plan = planned(&desired, &[], &facts);
        for uid in desired.pods.keys() {
            prop_assert!(plan.node.pods.contains_key(uid) != plan.left.contains_key(uid));
        }
        prop_assert_eq!(plan.node.pods.len() + plan.left.len(), desired.pods.len());
        prop_assert_eq!(planned(&desired, &[], &facts), plan);
    }

    #[test]
    fn no_address_appears_twice(desired in intents(), facts in facts()) {
        let plan = planned(&desired, &[], &facts);
        let mut seen = BTreeSet::new();
        if let Some(proxy) = &facts.proxy {
            seen.extend(proxy.addresses.iter().copied());
        }
        for pod in plan.node.pods.values() {
            prop_assert!(!pod.addresses.is_empty());
            for address in &pod.addresses {
                prop_assert!(seen.insert(*address));
            }
        }
    }

    #[test]
    fn only_who_may_be_is_captured(desired in intents(), facts in facts()) {
        let plan = planned(&desired, &[], &facts);
        for uid in plan.node.pods.keys() {
            let intent = &desired.pods[uid];
            prop_assert!(!intent.host_network);
            let may = match intent.wanted {
                Wanted::Captured => true,
                Wanted::Releasing => facts.held.contains_key(uid),
                _ => false,
            };
            prop_assert!(may);
            if !facts.held.contains_key(uid) {
                prop_assert_eq!(&facts.proxy_state, &ProxyState::Ready);
                prop_assert!(facts.findings.is_empty());
                prop_assert!(!facts.resting.contains_key(uid));
            }
        }
    }

    /// Whatever becomes of the proxy and the node, a pod that is held and still
    /// wanted stays held while its link lives and it has one of its addresses.
    #[test]
    fn held_pods_stay_held(desired in intents(), facts in facts()) {
        let plan = planned(&desired, &[], &facts);
        for (uid, held) in &facts.held {
            let Some(intent) = desired.pods.get(uid) else { continue };
            let stays = matches!(intent.wanted, Wanted::Captured | Wanted::Releasing)
                && !intent.host_network
                && facts.links.get(uid) == Some(&Ok(held.link.clone()))
                && (intent.addresses.is_empty() || !intent.addresses.is_disjoint(&held.addresses));
            if stays {
                prop_assert!(plan.node.pods.contains_key(uid), "{uid} was let go");
            }
        }
    }

    /// Planning what was planned, once it is held, changes nothing.
    #[test]
    fn a_plan_that_was_carried_out_is_stable(desired in intents(), facts in facts()) {
        let first = planned(&desired, &[], &facts);
        let carried_out = Facts { held: first.node.pods.clone(), ..facts };
        let second = planned(&desired, &[], &carried_out);
        for uid in first.node.pods.keys() {
            prop_assert!(second.node.pods.contains_key(uid));
        }
    }
}
