//! libcni by hand: what containerd does not ask of plugins by itself, and every
//! version of the specification that the reference plugins speak.

use std::{collections::BTreeSet, net::IpAddr, process::Output};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::Family,
    lab::{APP, client::Call, wait},
    runtime::{
        Machine,
        cnitool::{Attached, shim_of},
        network,
        sandbox::pod,
    },
};

/// The agent's configuration under another version, for `cnitool`. Without
/// Debian's `bandwidth`, which crashes in CHECK of a pod that has no limit.
fn speak(machine: &Machine, version: &str) {
    let mut list = machine.configured();
    list["cniVersion"] = version.into();
    let plugins = list["plugins"].as_array_mut().unwrap();
    plugins.retain(|plugin| plugin["type"] != "bandwidth");
    machine.configure(&list);
}

/// The addresses in a result.
fn addresses(result: &Value) -> Vec<IpAddr> {
    let all = result["ips"].as_array().unwrap().iter();
    all.map(|ip| ip["address"].as_str().unwrap().split_once('/').unwrap())
        .map(|(address, _)| address.parse().unwrap())
        .collect()
}

/// A network of our plugin alone: Debian's do not speak 1.1.0.
fn newest(machine: &Machine, name: &str) {
    let plugins = [shim_of(&machine.configured())];
    machine.configure(&json!({"cniVersion": "1.1.0", "name": name, "plugins": plugins}));
}

#[track_caller]
fn ok(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
}

/// What a plugin that failed says to the runtime.
#[track_caller]
fn error(output: &Output) -> (u64, String) {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{said}");
    let error: Value = serde_json::from_str(&said).unwrap();
    (error["code"].as_u64().unwrap(), said.into_owned())
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
        let result: Value = serde_json::from_slice(&added.stdout).unwrap();
        assert_eq!(result["cniVersion"], version, "{result}");
        machine.wait_state(&name, PodState::Captured);
        machine.tell_proxy(&[(&name, &addresses(&result))]);
        let mark = machine.proxy().mark();
        let outside: IpAddr = "192.168.77.2".parse().unwrap();
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
    wait::value("CHECK to succeed again", wait::LONG, || {
        let again = machine.cnitool("check", &pod);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        again.status.success().then_some(()).ok_or(said)
    });
    assert!(rules().status.success());
    ok(&machine.cnitool("del", &pod));
    machine.forget(&pod);
}

#[test]
fn status_says_whether_the_agent_answers() {
    let mut machine = Machine::meshed(&network::ptp(Family::Ipv4));
    newest(&machine, "pods");
    let plugin = |machine: &Machine| machine.plugin("STATUS", "pods", json!({}));
    let libcni = |machine: &Machine| machine.cnitool_for_all("status", "pods");
    let not_available = |machine: &Machine, how: &str| {
        let (code, said) = error(&plugin(machine));
        assert_eq!(code, 50, "{how}: {said}");
        assert!(said.contains("/run/sluice/agent.sock"), "{how}: {said}");
        let output = libcni(machine);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{how}: {said}");
        assert!(
            said.contains("see to the sluice-agent pod"),
            "{how}: {said}"
        );
    };
    // Within 100 ms: a busy machine may need another attempt.
    let available = |machine: &Machine| {
        wait::value("STATUS to succeed", wait::LONG, || {
            let output = plugin(machine);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            output.status.success().then_some(()).ok_or(said)
        });
        wait::value("STATUS through libcni", wait::LONG, || {
            let output = libcni(machine);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            output.status.success().then_some(()).ok_or(said)
        });
    };
    available(&machine);

    machine.agent_process().signal(Signal::SIGSTOP);
    not_available(&machine, "stopped");
    machine.agent_process().signal(Signal::SIGCONT);
    available(&machine);

    machine.kill_agent();
    not_available(&machine, "dead");
    machine.start_agent();
    available(&machine);
}

/// Containers in the agent's journal.
fn journal(machine: &Machine) -> BTreeSet<String> {
    let files = std::fs::read_dir(machine.path("/run/sluice/journal")).unwrap();
    let names = files.flatten().map(|file| file.file_name());
    names
        .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
        .collect()
}

/// A namespace that was attached, and whose DEL is not going to come.
fn lost(machine: &Machine, name: &str) -> Attached {
    speak(machine, "1.0.0");
    let pod = machine.namespace(pod(name, "shop"));
    ok(&machine.cnitool("add", &pod));
    machine.wait_state(name, PodState::Captured);
    pod
}

#[test]
fn gc_takes_what_the_runtime_does_not_list_and_nothing_else() {
    let mut machine = Machine::meshed(&network::ptp(Family::Dual));
    machine.add(pod("a", "shop"));
    let (before, kept) = (machine.traces(), journal(&machine));
    let lost = lost(&machine, "c");
    let all = journal(&machine);
    assert_eq!(all.len(), kept.len() + 1);

    // Who lists nothing has not said that nothing is valid.
    newest(&machine, "other");
    let refused = machine.cnitool_for_all("gc", "other");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("cni.dev/valid-attachments is missing"),
        "{said}"
    );
    for more in [
        json!({}),
        json!({"cni.dev/attachments": []}),
        json!({"cni.dev/valid-attachments": null}),
    ] {
        let (code, said) = error(&machine.plugin("GC", "pods", more));
        assert_eq!(code, 7, "{said}");
    }
    // Nor does another network's list concern this one.
    ok(&machine.gc("other", &[]));
    assert_eq!(journal(&machine), all);
    let held = machine.traces();

    let kept_ones: Vec<(&str, &str)> = kept.iter().map(|id| (id.as_str(), "eth0")).collect();
    assert!(kept.contains(&machine.sandbox("a").id), "{kept:?}");
    ok(&machine.gc("pods", &kept_ones));
    assert_eq!(journal(&machine), kept);
    assert!(machine.goes_through_the_proxy("a"));
    let changed = held.kernel().differences(machine.traces().kernel());
    assert!(!changed.is_empty(), "the rules of the lost pod are there");
    // It can be repeated, and a DEL that comes after all finds nothing to do.
    ok(&machine.gc("pods", &kept_ones));
    ok(&machine.cnitool("del", &lost));
    machine.forget(&lost);
    before.assert_same(&machine.traces(), "after the lost pod");
}

#[test]
fn gc_waits_for_an_agent() {
    let mut machine = Machine::meshed(&network::ptp(Family::Ipv4));
    machine.add(pod("a", "shop"));
    machine.kill_agent();
    let (code, said) = error(&machine.gc("pods", &[]));
    assert_eq!(code, 11, "{said}");
    assert!(machine.goes_through_the_proxy("a"));
    machine.start_agent();
    machine.wait_state("a", PodState::Captured);
    assert!(machine.goes_through_the_proxy("a"));
    machine.remove(&["a"]);
}
