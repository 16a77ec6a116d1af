//! Applying twice, killed half-way, gone and back: the same result.

use std::{thread, time::Duration};

use sluice_tests::lab::{Lab, observe::Snapshot};

/// Numbers without a pattern, the same every run.
struct Dice(u64);

impl Dice {
    fn millis(&mut self, below: u64) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        Duration::from_micros((self.0 >> 33) % (below * 1000))
    }
}

fn look(lab: &Lab) -> Vec<(&'static str, Snapshot)> {
    ["na", "za"]
        .into_iter()
        .map(|name| {
            (
                name,
                Snapshot::configuration(lab.ns(name)).without_indexes(),
            )
        })
        .collect()
}

#[track_caller]
fn assert_as(reference: &[(&'static str, Snapshot)], lab: &Lab, what: &str) {
    for ((name, was), (_, is)) in reference.iter().zip(look(lab)) {
        was.assert_same(&is, &format!("{name} {what}"));
    }
}

#[test]
fn applying_twice_changes_nothing() {
    let mut lab = Lab::one_node();
    let exact = Snapshot::configuration(lab.ns("na"));
    assert_eq!(lab.agent("na").resync(), Ok(vec![]));
    assert_eq!(lab.agent("na").resync(), Ok(vec![]));
    lab.agent_mut("na").stop();
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a2"]);
    assert_eq!(lab.agent("na").resync(), Ok(vec![]));
    // Interface indexes too: nothing was made anew.
    exact.assert_same(&Snapshot::configuration(lab.ns("na")), "after a restart");
}

#[test]
fn killed_at_any_point_it_converges() {
    let mut lab = Lab::one_node();
    let reference = look(&lab);
    let mut dice = Dice(7);
    for round in 0..12 {
        // Back to nothing, or on from where the last one was killed.
        lab.agent_mut("na").kill();
        if round % 2 == 0 {
            lab.cleanup_with_proxy("na");
        }
        lab.agent_mut("na").launch();
        thread::sleep(dice.millis(150));
        lab.agent_mut("na").kill();
    }
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a2"]);
    assert_as(&reference, &lab, "after many kills");
    assert!(lab.through_proxy("a1", "u1"));
}

#[test]
fn clean_up_leaves_nothing_and_can_be_repeated() {
    let mut lab = Lab::one_node();
    let reference = look(&lab);
    lab.agent_mut("na").kill();
    lab.cleanup_with_proxy("na");
    let clean = look(&lab);
    for (name, snapshot) in &clean {
        for section in ["links", "nft", "rules4", "rules6", "routes4", "routes6"] {
            let text = snapshot.section(section);
            for ours in ["sl-in", "sl-out", "sluice", "8301", "8302", "8303"] {
                assert!(!text.contains(ours), "{name} {section}: {text}");
            }
        }
    }
    lab.cleanup_with_proxy("na");
    assert_as(&clean, &lab, "cleaned twice");
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a2"]);
    assert_as(&reference, &lab, "after starting again");
}
