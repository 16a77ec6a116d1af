//! The runtime goes on while the agent does not.

use std::{
    fs,
    time::{Duration, Instant},
};

use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::Family,
    lab::wait,
    runtime::{Machine, network, sandbox::pod},
};

const NOTES: &str = "/var/lib/sluice/cni-notes.jsonl";
/// Without waiting for who is not there.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn without_the_agent_enrolled_pods_are_refused_and_gone_ones_are_swept_later() {
    let mut machine = Machine::meshed(&network::ptp(Family::Dual));
    machine.add(pod("u", "plain"));
    let before = machine.traces();
    machine.add(pod("a", "shop"));
    assert!(machine.goes_through_the_proxy("a"));
    machine.kill_agent();

    // The reason reaches whoever reads the runtime's error, as kubelet does.
    let captured = machine.traces();
    let error = machine.try_add(pod("b", "shop")).unwrap_err();
    for part in [
        "failed to setup network for sandbox",
        r#"plugin type="sluice-cni" failed (add)"#,
        "agent",
        "/run/sluice/agent.sock",
    ] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    captured.assert_same(&machine.traces(), "after the refused sandbox");
    // A namespace that is known to have no enrolled pods.
    machine.add(pod("p", "plain"));

    // Its rules hold it; it can go nevertheless, and at once.
    assert!(machine.goes_through_the_proxy("a"));
    let start = Instant::now();
    let id = machine.sandbox("a").id.clone();
    machine.remove(&["a", "p"]);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    let notes = fs::read_to_string(machine.path(NOTES)).unwrap();
    let is_its = |line: &str| line.contains(r#""verb":"DEL""#) && line.contains(&id);
    assert!(notes.lines().any(is_its), "{notes}");

    machine.start_agent();
    wait::value("what the pod had to be swept", wait::LONG, || {
        let differences = before.kernel().differences(machine.traces().kernel());
        differences
            .is_empty()
            .then_some(())
            .ok_or(differences.join("\n"))
    });
    before.assert_same(&machine.traces(), "after the sandboxes");
    machine.add(pod("c", "shop"));
    machine.wait_state("c", PodState::Captured);
    assert!(machine.goes_through_the_proxy("c"));
}
