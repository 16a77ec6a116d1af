//! libcni by hand: what containerd does not ask of plugins by itself, and every
//! version of the specification that the reference plugins speak.

use std::{process::Output, time::Duration};

use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::{Family, files},
    lab::{APP, client::Call, wait},
    runtime::{Machine, cnitool::CONF, network, sandbox::pod},
};

const OURS: &str = "/etc/cni/net.d/02-sluice.conflist";

/// The agent's configuration under another version, for `cnitool`.
fn speak(machine: &Machine, version: &str) {
    let text = machine.run("cat", &[OURS]);
    let mut list: serde_json::Value = serde_json::from_str(&text).unwrap();
    list["cniVersion"] = version.into();
    let file = format!("{CONF}/pods.conflist");
    files::write_json(&machine.path(&file), &list);
}

#[track_caller]
fn ok(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

#[test]
fn every_version_behind_the_reference_plugins() {
    let machine = Machine::meshed(&network::ptp(Family::Dual));
    let before = machine.traces();
    for (number, version) in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"].into_iter().enumerate() {
        speak(&machine, version);
        let name = format!("c{number}");
        let pod = machine.namespace(pod(&name, "shop"));
        let added = machine.cnitool("add", &pod);
        ok(&added);
        let result: serde_json::Value = serde_json::from_slice(&added.stdout).unwrap();
        assert_eq!(result["cniVersion"], version, "{result}");
        machine.wait_state(&name, PodState::Captured);
        let mark = machine.proxy().mark();
        let outside: std::net::IpAddr = "192.168.77.2".parse().unwrap();
        let answer = Call::to(outside, APP).hello(&pod.netns, "by-hand").unwrap();
        let own = answer.strip_prefix("ext saw ").unwrap().parse().unwrap();
        let dialled = (outside, APP).into();
        assert!(machine.proxy().saw_outbound(mark, own, dialled, false));
        // CHECK is not there before 0.4.0.
        if !version.starts_with("0.3") {
            ok(&machine.cnitool("check", &pod));
        }
        for _ in 0..2 {
            ok(&machine.cnitool("del", &pod));
        }
        machine.forget(&pod);
        before.assert_same(&machine.traces(), version);
    }
}

#[test]
fn check_says_what_is_so() {
    let machine = Machine::meshed(&network::ptp(Family::Dual));
    speak(&machine, "1.0.0");
    let pod = machine.namespace(pod("c", "shop"));
    ok(&machine.cnitool("add", &pod));
    ok(&machine.cnitool("check", &pod));
    let rules = || {
        machine
            .netns
            .output("nft", &["list", "table", "netdev", "sluice"])
    };
    machine.netns.nft("delete table netdev sluice");
    // From now on it is either still amiss and said so, or mended.
    let checked = machine.cnitool("check", &pod);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    let told = said.contains("not captured as it was");
    assert!(checked.status.success() || told, "{said}");
    assert!(!checked.status.success() || rules().status.success());
    wait::value("CHECK to succeed again", Duration::from_secs(5), || {
        let again = machine.cnitool("check", &pod);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        again.status.success().then_some(()).ok_or(said)
    });
    assert!(rules().status.success());
    ok(&machine.cnitool("del", &pod));
    machine.forget(&pod);
}
