//! What the mesh's policy allows is decided by who calls; the kubelet is not
//! asked.

use sluice_tests::{
    lab::{Lab, client::Call},
    workloads::Policy,
};

#[test]
fn strict_refuses_plain_callers_and_lets_probes_pass() {
    let lab = Lab::one_node_with(&[], vec![Policy::strict("shop")]);
    for to in lab.pod("a1").addresses() {
        let plain = Call::to(to, 8080).hello(lab.ns("u1"), "plain");
        assert!(plain.is_err(), "u1 -> {to}: {plain:?}");
        let mesh = Call::to(to, 8080).hello(lab.ns("a2"), "mesh");
        assert!(mesh.is_ok(), "a2 -> {to}: {mesh:?}");
        let probe = Call::to(to, 8080).hello(lab.ns("na"), "probe");
        assert!(probe.is_ok(), "na -> {to}: {probe:?}");
    }
}

#[test]
fn identities_are_those_of_the_real_source() {
    let a2 = "cluster.local/ns/shop/sa/a2";
    let lab = Lab::one_node_with(&[], vec![Policy::deny("not-a2", "shop", &[a2])]);
    for to in lab.pod("a1").addresses() {
        let denied = Call::to(to, 8080).hello(lab.ns("a2"), "denied");
        assert!(denied.is_err(), "a2 -> {to}: {denied:?}");
    }
    for to in lab.pod("a2").addresses() {
        let allowed = Call::to(to, 8080).hello(lab.ns("a1"), "allowed");
        assert!(allowed.is_ok(), "a1 -> {to}: {allowed:?}");
    }
    let probe = lab.hello("na", lab.pod("a1").ip4, 8080, "probe");
    assert!(probe.is_ok(), "{probe:?}");
}
