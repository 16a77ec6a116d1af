//! What many ADD and DEL leave behind.

use std::{thread, time::Duration};

use super::table::Table;
use crate::lab::{Lab, pod::PodSpec};

const CYCLES: u32 = 500;
/// Until everything that is made once has been made.
const BEFORE: u32 = 50;
/// After this long without work the agent has the threads that it keeps.
const REST: Duration = Duration::from_secs(11);

/// The real shim, the real agent, and pods of network namespaces.
pub fn run(table: &mut Table) {
    let lab = Lab::one_node();
    cycles(&lab, BEFORE);
    let before = lab.footprint("na");
    cycles(&lab, CYCLES);
    let after = lab.footprint("na");
    for ((what, before), (_, after)) in before.counts().zip(after.counts()) {
        table.row(
            &format!("after {CYCLES} ADD and DEL: {what}"),
            after.to_string(),
            format!("before {before}"),
            "the same",
        );
    }
    let left = before.differences(&after);
    table.row(
        &format!("after {CYCLES} ADD and DEL: what is not as before"),
        left.len().to_string(),
        left.join("; "),
        "0",
    );
    table.row(
        &format!("after {CYCLES} ADD and DEL: memory of the agent"),
        format!("{} KiB", after.memory),
        format!("before {} KiB, after {BEFORE} of them", before.memory),
        "the same",
    );
}

fn cycles(lab: &Lab, count: u32) {
    for number in 0..count {
        lab.pass(PodSpec::new(&format!("p{number}"), "na", 20, "shop"));
    }
    thread::sleep(REST);
}
