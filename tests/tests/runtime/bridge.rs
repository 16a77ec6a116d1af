//! Pods on a bridge have their network, and are refused for capture with the
//! reason: nothing of the node sees what they send to one another.

use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::Family,
    lab::{APP, client::Call},
    runtime::{Machine, network, sandbox::pod},
};

fn on_a_bridge(network: &serde_json::Value) -> Machine {
    let mut machine = Machine::start(network);
    // Bridged packets pass the node's packet filter only where somebody has
    // loaded br_netfilter, and only if this says so.
    for family in ["ip", "ip6"] {
        let key = format!("net.bridge.bridge-nf-call-{family}tables");
        machine
            .netns
            .enter(|| std::fs::write(format!("/proc/sys/{}", key.replace('.', "/")), "0"))
            .ok();
    }
    machine.start_agent();
    machine.start_proxy();
    machine
}

/// What is said of a bridge, wherever it is said.
#[track_caller]
fn assert_reason(said: &str) {
    for part in ["cni0", "bridge", "never pass", "routes to each pod"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

/// Calls between two pods, both ways, and between one and the node.
fn assert_connected(machine: &Machine, one: &str, other: &str) {
    for (from, to) in [(one, other), (other, one)] {
        let (from, to) = (machine.sandbox(from), machine.sandbox(to));
        for (address, own) in to.addresses.iter().zip(&from.addresses) {
            let saw = Ok(format!("{} saw {own}", to.spec.name));
            assert_eq!(Call::to(*address, APP).hello(&from.netns, "bridge"), saw);
            assert_eq!(Call::to(*address, APP).datagram(&from.netns), saw);
        }
    }
}

#[test]
fn pods_are_attached_and_refused_for_capture() {
    let mut machine = on_a_bridge(&network::bridge(Family::Dual));
    for name in ["p1", "p2"] {
        machine.add(pod(name, "plain"));
    }
    assert_connected(&machine, "p1", "p2");

    // A new one that is enrolled.
    let before = machine.traces();
    let error = machine.try_add(pod("a", "shop")).unwrap_err();
    assert!(error.contains(r#"plugin type="sluice-cni" failed (add)"#));
    assert_reason(&error);
    before.assert_same(&machine.traces(), "after the refused sandbox");

    // Those that are there, when their namespace is enrolled.
    machine.lab.folder.namespace("plain", true);
    for name in ["p1", "p2"] {
        assert_reason(&machine.wait_state(name, PodState::Unsupported));
    }
    before.assert_same(&machine.traces(), "after their namespace was enrolled");
    assert_connected(&machine, "p1", "p2");
    machine.remove(&["p1", "p2"]);
}

#[test]
fn what_is_said_of_a_bridge_is_so() {
    let mut machine = on_a_bridge(&network::bridge(Family::Dual));
    for name in ["p1", "p2"] {
        machine.add(pod(name, "plain"));
    }
    machine.netns.nft(
        "table inet seen {
           chain every {
             type filter hook prerouting priority raw;
             meta l4proto { tcp, udp } th dport 8080 counter
           }
         }",
    );
    assert_connected(&machine, "p1", "p2");
    let seen = machine.netns.run("nft", &["list", "table", "inet", "seen"]);
    assert!(seen.contains("counter packets 0 bytes 0"), "{seen}");
    // What comes over the node would be seen.
    let address = machine.sandbox("p1").addresses[0];
    let answer = Call::to(address, APP).hello(&machine.lab.ext, "over the node");
    assert!(answer.is_ok(), "{answer:?}");
    let seen = machine.netns.run("nft", &["list", "table", "inet", "seen"]);
    assert!(!seen.contains("counter packets 0 bytes 0"), "{seen}");
}

#[test]
fn a_bridge_without_an_address_of_the_node_is_refused_at_once_too() {
    let mut machine = on_a_bridge(&network::switched(Family::Ipv4));
    let error = machine.try_add(pod("a", "shop")).unwrap_err();
    assert_reason(&error);
    // It will not get better by waiting.
    assert!(!error.contains("waited"), "{error}");
}
