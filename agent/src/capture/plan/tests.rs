mod properties;

use std::collections::BTreeSet;

use sluice_kernel::model::NetnsId;

use super::*;
use crate::{
    capture::sandbox::Sandbox,
    desired::{Desired, Origin},
};

fn uid(n: u8) -> PodUid {
    PodUid::new(format!("uid-{n}")).unwrap()
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

fn link(n: u8) -> Link {
    Link {
        index: u32::from(n) + 10,
        name: format!("veth{n}"),
    }
}

fn intent(n: u8, wanted: Wanted) -> Intent {
    Intent {
        namespace: "shop".into(),
        name: format!("pod-{n}"),
        addresses: BTreeSet::from([address(n)]),
        ..Intent::bare(uid(n), wanted)
    }
}

fn entry(container: &str, n: u8, order: u64, addresses: &[IpAddr]) -> Entry {
    Entry {
        sandbox: Sandbox {
            container_id: container.into(),
            ifname: "eth0".into(),
            network: "net".into(),
            netns: "/run/netns/x".into(),
            pod_uid: uid(n).as_str().into(),
            namespace: "shop".into(),
            name: format!("pod-{n}"),
            host_link: None,
            addresses: addresses.iter().copied().collect(),
            standalone: false,
        },
        uid: Some(uid(n)),
        netns: None,
        order,
        link: None,
        digest: None,
        intent: None,
    }
}

fn proxy() -> Proxy {
    Proxy {
        netns: NetnsId {
            path: "/run/netns/proxy".into(),
            device: 4,
            inode: 1,
        },
        link: link(200),
        addresses: BTreeSet::from([address(200)]),
    }
}

fn desired(intents: Vec<Intent>) -> Desired {
    Desired {
        origin: Origin::Controller,
        revision: None,
        pods: intents
            .into_iter()
            .map(|intent| (intent.uid.clone(), intent))
            .collect(),
        namespaces: BTreeMap::new(),
        leave: false,
    }
}

fn ready(links: &[u8]) -> Facts {
    Facts {
        links: links.iter().map(|n| (uid(*n), Ok(link(*n)))).collect(),
        proxy: Some(proxy()),
        ..Facts::default()
    }
}

fn planned(desired: &Desired, entries: &[Entry], facts: &Facts) -> Plan {
    let entries = entries
        .iter()
        .map(|entry| (entry.sandbox.container_id.clone(), entry.clone()))
        .collect();
    plan(&subjects(desired, &entries, &BTreeSet::new()), facts)
}

#[test]
fn who_is_captured() {
    let hosted = Intent {
        host_network: true,
        ..intent(6, Wanted::Captured)
    };
    let desired = desired(vec![
        intent(1, Wanted::Captured),
        intent(2, Wanted::Nothing),
        intent(3, Wanted::Proxy),
        intent(4, Wanted::Unsupported),
        intent(5, Wanted::Releasing),
        hosted,
    ]);
    let plan = planned(&desired, &[], &ready(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(plan.node.pods.keys().collect::<Vec<_>>(), [&uid(1)]);
    let states: Vec<_> = plan.left.values().map(|left| left.state).collect();
    assert_eq!(
        states,
        [
            PodState::Released,
            PodState::Released,
            PodState::Unsupported,
            PodState::Released,
            PodState::Unsupported
        ]
    );
}

#[test]
fn what_a_new_pod_waits_for() {
    let desired = desired(vec![intent(1, Wanted::Captured)]);
    let left = |facts: &Facts| {
        let plan = planned(&desired, &[], facts);
        assert_eq!(plan.node.pods.len(), 0);
        let left = &plan.left[&uid(1)];
        (left.state, left.reason.unwrap())
    };
    let finding = Refusal {
        check: "ipvs",
        evidence: "kube-ipvs0 has service addresses".into(),
        remedy: "use another kube-proxy mode".into(),
    };
    let with = |change: &dyn Fn(&mut Facts)| {
        let mut facts = ready(&[1]);
        change(&mut facts);
        left(&facts)
    };
    use PodState::{Failed, Pending, Unsupported};
    assert_eq!(left(&ready(&[])), (Pending, Reason::NoSandbox));
    let gone = || ProxyState::Absent("gone".into());
    let mute = || ProxyState::NotListening("mute".into());
    assert_eq!(
        with(&|f| f.proxy_state = gone()),
        (Pending, Reason::NoProxy)
    );
    assert_eq!(
        with(&|f| f.proxy_state = mute()),
        (Pending, Reason::ProxyNotListening)
    );
    assert_eq!(
        with(&|f| f.findings.push(finding.clone())),
        (Unsupported, Reason::Preflight)
    );
    let missing = |fault: Fault| with(&|f| drop(f.links.insert(uid(1), Err(fault.clone()))));
    assert_eq!(
        missing(Fault::transient("no")),
        (Failed, Reason::NoInterface)
    );
    assert_eq!(
        missing(Fault::lasting("bridge")),
        (Unsupported, Reason::Preflight)
    );
    assert_eq!(
        with(&|f| drop(f.resting.insert(uid(1), Fault::lasting("EPERM")))),
        (Failed, Reason::Kernel)
    );
}

#[test]
fn the_pod_that_holds_an_address_keeps_it() {
    let mut second = intent(2, Wanted::Captured);
    second.addresses = BTreeSet::from([address(1)]);
    let desired = desired(vec![intent(1, Wanted::Captured), second]);
    let mut facts = ready(&[1, 2]);
    let first = planned(&desired, &[], &facts);
    assert_eq!(first.node.pods.keys().collect::<Vec<_>>(), [&uid(1)]);
    facts.held = BTreeMap::from([(
        uid(2),
        Pod {
            link: link(2),
            addresses: BTreeSet::from([address(1)]),
        },
    )]);
    let kept = planned(&desired, &[], &facts);
    assert_eq!(kept.node.pods.keys().collect::<Vec<_>>(), [&uid(2)]);
    insta::assert_snapshot!(
        kept.left[&uid(1)].message,
        @"pod shop/pod-1 (uid-1) claims address 10.0.0.1, which pod shop/pod-2 (uid-2) already has; delete whichever of them should not have it"
    );
    // Its link died: the address goes to the one that was seen to get it.
    facts.links.insert(uid(2), Err(Fault::transient("gone")));
    let entries = [entry("c", 1, 1, &[address(1)])];
    let moved = planned(&desired, &entries, &facts);
    assert_eq!(moved.node.pods.keys().collect::<Vec<_>>(), [&uid(1)]);
}

#[test]
fn nobody_gets_the_proxys_address() {
    let mut thief = intent(1, Wanted::Captured);
    thief.addresses = BTreeSet::from([address(200)]);
    let plan = planned(&desired(vec![thief]), &[], &ready(&[1]));
    assert_eq!(plan.left[&uid(1)].reason, Some(Reason::AddressTaken));
    assert!(plan.left[&uid(1)].message.contains("the node's proxy"));
}

#[test]
fn the_newest_sandbox_counts() {
    let desired = desired(vec![intent(1, Wanted::Captured)]);
    let entries = [
        entry("new", 1, 2, &[address(8)]),
        entry("old", 1, 1, &[address(7)]),
    ];
    let plan = planned(&desired, &entries, &ready(&[1]));
    assert_eq!(
        plan.node.pods[&uid(1)].addresses,
        BTreeSet::from([address(8)])
    );
}

#[test]
fn a_static_pod_is_known_by_its_hash() {
    let mut mirror = intent(1, Wanted::Captured);
    mirror.static_uid = Some("hash".into());
    let desired = desired(vec![mirror]);
    let mut entry = entry("c", 9, 1, &[address(8)]);
    entry.sandbox.pod_uid = "hash".into();
    let plan = planned(&desired, &[entry], &ready(&[1]));
    assert!(plan.node.pods[&uid(1)].addresses.contains(&address(8)));
}

#[test]
fn a_deleted_sandbox_voids_what_the_intent_says() {
    let desired = desired(vec![intent(1, Wanted::Captured)]);
    let entries = BTreeMap::new();
    let forgotten = BTreeSet::from([uid(1)]);
    let plan = plan(&subjects(&desired, &entries, &forgotten), &ready(&[]));
    assert_eq!(plan.left[&uid(1)].reason, Some(Reason::NoSandbox));
}

#[test]
fn without_use_for_it_nothing_is_prepared() {
    let mut facts = ready(&[]);
    let nobody = desired(vec![]);
    assert_eq!(planned(&nobody, &[], &facts).node.proxy, Some(proxy()));
    facts.proxy_state = ProxyState::NotListening("mute".into());
    assert_eq!(planned(&nobody, &[], &facts).node, Node::default());
}

#[test]
fn host_ports_of_every_pod_count() {
    let mut plain = intent(1, Wanted::Nothing);
    plain.host_ports = BTreeSet::from([8080]);
    let mut hosted = intent(2, Wanted::Nothing);
    hosted.host_ports = BTreeSet::from([10250]);
    hosted.host_network = true;
    let plan = planned(&desired(vec![plain, hosted]), &[], &ready(&[]));
    assert_eq!(plan.node.host_ports, BTreeSet::from([8080]));
}
