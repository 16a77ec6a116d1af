//! What pods that come and go leave behind.

use std::time::Duration;

use sluice_tests::lab::{Lab, pod::PodSpec, wait};

/// `make bench` does it twenty times as often, and looks at memory too.
const CYCLES: u32 = 25;
/// After this long without work the agent has the threads that it keeps.
const REST: Duration = Duration::from_secs(11);

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let lab = Lab::one_node();
    // A first one, so that whatever is made once is there.
    lab.pass(PodSpec::new("first", "na", 20, "shop"));
    let mut before = lab.footprint("na");
    wait::value("the node to be at rest", wait::LONG, || {
        std::thread::sleep(REST);
        let now = lab.footprint("na");
        let moved = before.differences(&now);
        before = now;
        if moved.is_empty() {
            Ok(())
        } else {
            Err(moved.join("\n"))
        }
    });
    for number in 0..CYCLES {
        // Captured, and passed.
        let namespace = if number % 5 == 4 { "plain" } else { "shop" };
        lab.pass(PodSpec::new(&format!("p{number}"), "na", 20, namespace));
    }
    wait::value("nothing to be left", wait::LONG, || {
        let left = before.differences(&lab.footprint("na"));
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
    assert!(lab.through_proxy("a1", "u1"));
}
