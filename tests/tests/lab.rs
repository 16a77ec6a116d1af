//! The lab itself: traffic that nobody captures.

use std::time::Instant;

use sluice_tests::lab::{
    Lab,
    client::{Call, CallError},
    knobs::{Forward, Knobs},
    kube_proxy::Form,
    observe::{Snapshot, ping},
};

/// Two nodes with the pods of the table, attached without our shim.
fn plain_lab(form: Form) -> Lab {
    let mut lab = Lab::new(2);
    for pod in lab.table_pods() {
        lab.pod_before(pod);
    }
    lab.table_surroundings(form);
    lab
}

/// Rows whose expectation is the same whether captured or not.
fn check_plain_rows(lab: &Lab) {
    let different = ["hairpin", "node-port", "host-port"];
    let problems: Vec<String> = [lab.v4(), lab.v6()]
        .iter()
        .flat_map(|family| family.rows())
        .filter(|row| !different.iter().any(|word| row.tag.contains(word)))
        .filter_map(|row| row.problem(lab))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn pods_talk_plainly_with_iptables_services() {
    let start = Instant::now();
    let lab = plain_lab(Form::Iptables);
    eprintln!("built in {:?}", start.elapsed());
    for forward in [
        Forward::Open,
        Forward::Kube,
        Forward::Calico,
        Forward::Stateful,
    ] {
        let knobs = Knobs {
            rp_filter: 1,
            forward,
            host_firewall: true,
        };
        for node in &lab.nodes {
            knobs.apply(&node.netns);
        }
        check_plain_rows(&lab);
    }
    eprintln!("rows done in {:?}", start.elapsed());
}

#[test]
fn pods_talk_plainly_with_nft_services() {
    let lab = plain_lab(Form::Nft);
    check_plain_rows(&lab);

    let wire = lab.record("na", "wire", "tcp");
    let (a1, b1) = (lab.ns("a1"), lab.pod("b1"));
    lab.hello("a1", b1.ip4, 8080, "seen-on-the-wire").unwrap();
    assert_eq!(wire.count("seen-on-the-wire"), 1);
    assert_eq!(
        Call::to(b1.ip6, 9999).hello(a1, "x"),
        Err(CallError::Refused)
    );
    Call::to(b1.ip6, 8080).put(a1, 5).unwrap();
    Call::to(b1.ip4, 8080).get(a1, 5).unwrap();
    assert!(
        Call::to(b1.ip4, 8080)
            .datagram(a1)
            .unwrap()
            .starts_with("b1 saw")
    );
    assert!(ping(a1, b1.ip6.into()));
    let mut held = Call::to(b1.ip4, 8080).hold(a1).unwrap();
    held.tick().unwrap();
}

#[test]
fn a_pod_that_came_and_went_leaves_the_node_as_it_was() {
    let mut lab = Lab::new(1);
    let pod = |name: &str, host| sluice_tests::lab::pod::PodSpec::new(name, "na", host, "shop");
    // The plugins switch on what forwards; that stays.
    lab.pod_before(pod("first", 7));
    let before = Snapshot::take(lab.ns("na"));
    lab.pod_before(pod("second", 8));
    assert!(!before.differences(&Snapshot::take(lab.ns("na"))).is_empty());
    lab.remove_pod("second");
    before.assert_same(&Snapshot::take(lab.ns("na")), "after DEL");
}
