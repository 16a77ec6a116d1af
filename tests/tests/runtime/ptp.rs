//! Pods that are routed to: they are captured before they start.

use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::Family,
    lab::{APP, client::Call},
    runtime::{Machine, network, sandbox::pod},
};

#[test]
fn ipv4() {
    up_and_down(Family::Ipv4);
}

#[test]
fn ipv6() {
    up_and_down(Family::Ipv6);
}

#[test]
fn dual_stack() {
    up_and_down(Family::Dual);
}

fn up_and_down(family: Family) {
    let mut machine = Machine::start(&network::ptp(family));
    // With its first host port portmap makes chains that it keeps for ever.
    machine.add(pod("h", "plain").host_port(18080));
    machine.remove(&["h"]);
    machine.join();
    let before = machine.traces();
    machine.add(pod("a", "shop").host_port(18080));
    let addresses = machine.sandbox("a").addresses.clone();
    assert_eq!(addresses.len(), family.pick(4, 6).len());
    machine.wait_state("a", PodState::Captured);
    assert!(machine.goes_through_the_proxy("a"));
    by_host_port(&machine);
    machine.add(pod("p", "plain"));
    assert!(!machine.goes_through_the_proxy("p"));
    // From pod to pod, to one that is in the mesh and to one that is not.
    for (from, to) in [("a", "p"), ("p", "a")] {
        let to_all = &machine.sandbox(to).addresses;
        for (address, own) in to_all.iter().zip(&machine.sandbox(from).addresses) {
            let answer = Call::to(*address, APP).hello(&machine.sandbox(from).netns, "pods");
            assert_eq!(answer, Ok(format!("{to} saw {own}")));
            let answer = Call::to(*address, APP).datagram(&machine.sandbox(from).netns);
            assert_eq!(answer, Ok(format!("{to} saw {own}")));
        }
    }

    machine.remove(&["a", "p"]);
    machine.wait_same(&before, "after the sandboxes");
    machine.dismantle();
}

/// What limits what a pod sends takes its packets before anybody else sees them.
#[test]
fn a_pod_with_a_limit_for_what_it_sends_is_refused_and_not_let_slip() {
    let mut machine = Machine::meshed(&network::ptp(Family::Dual));
    let before = machine.traces();
    let limited = pod("s", "shop").annotation("kubernetes.io/egress-bandwidth", "100M");
    let error = machine.try_add(limited).unwrap_err();
    assert!(error.contains("remove the pod's annotation"), "{error}");
    before.assert_same(&machine.traces(), "after the refused sandbox");
    machine.add(pod("r", "shop").annotation("kubernetes.io/ingress-bandwidth", "100M"));
    machine.wait_state("r", PodState::Captured);
    assert!(machine.goes_through_the_proxy("r"));
    machine.remove(&["r"]);
    before.assert_same(&machine.traces(), "after the limited sandbox");
}

/// A host port is portmap's; what it leads to is captured all the same.
fn by_host_port(machine: &Machine) {
    for (node, address) in [("192.168.77.1", true), ("fd00:77::1", false)] {
        let node: std::net::IpAddr = node.parse().unwrap();
        let pods = machine.sandbox("a").addresses.iter();
        let Some(pod) = pods.clone().find(|pod| pod.is_ipv4() == address) else {
            continue;
        };
        let mark = machine.proxy().mark();
        let answer = Call::to(node, 18080).hello(&machine.lab.ext, "host-port");
        let outside = if address {
            "192.168.77.2"
        } else {
            "fd00:77::2"
        };
        assert_eq!(answer, Ok(format!("a saw {outside}")));
        let outside = outside.parse().unwrap();
        assert!(machine.proxy().saw_inbound(mark, outside, *pod, false));
    }
}
