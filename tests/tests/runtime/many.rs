//! Many sandboxes at once, and a runtime that is started again under them.

use sluice_proto::capture::v1::PodState;
use sluice_tests::{
    cluster::Family,
    runtime::{Machine, network, sandbox::pod},
};

#[test]
fn sixteen_at_once_and_a_runtime_that_restarts_under_them() {
    let mut machine = Machine::meshed(&network::ptp(Family::Dual));
    let before = machine.traces();
    let names: Vec<String> = (0..16).map(|number| format!("a{number}")).collect();
    machine.add_at_once(names.iter().map(|name| pod(name, "shop")).collect());
    for name in &names {
        machine.wait_state(name, PodState::Captured);
    }
    assert!(machine.goes_through_the_proxy("a0"));

    let held = machine.traces();
    machine.stop_containerd();
    assert!(machine.goes_through_the_proxy("a15"));
    machine.start_containerd();
    held.assert_same(&machine.traces(), "after the runtime's restart");
    assert!(machine.goes_through_the_proxy("a7"));

    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    machine.remove(&names);
    before.assert_same(&machine.traces(), "after the sandboxes");
}
