//! What many ADD and DEL leave behind.

use std::{thread, time::Duration};

use super::{rounds, table::Table};
use crate::lab::{Lab, pod::PodSpec};

const CYCLES: usize = 500;
/// Until everything that is made once has been made.
const BEFORE: usize = 50;
/// After this long without work the agent has the threads that it keeps.
const REST: Duration = Duration::from_secs(11);

/// The real shim, the real agent, and pods of network namespaces.
pub fn run(table: &mut Table) {
    let lab = Lab::one_node();
    let (first, count) = (rounds(BEFORE), rounds(CYCLES));
    cycles(&lab, first);
    let before = lab.footprint("na");
    cycles(&lab, count);
    let after = lab.footprint("na");
    for ((what, before), (_, after)) in before.counts().zip(after.counts()) {
        table.row(
            &format!("after {count} ADD and DEL: {what}"),
            after.to_string(),
            format!("before {before}"),
            "the same",
        );
    }
    let left = before.differences(&after);
    table.row(
        &format!("after {count} ADD and DEL: what is not as before"),
        left.len().to_string(),
        left.join("; "),
        "0",
    );
    table.row(
        &format!("after {count} ADD and DEL: memory of the agent"),
        format!("{} KiB", after.memory),
        format!("before {} KiB, after {first} of them", before.memory),
        "the same",
    );
}

fn cycles(lab: &Lab, count: usize) {
    for number in 0..count {
        lab.pass(PodSpec::new(&format!("p{number}"), "na", 20, "shop"));
    }
    thread::sleep(REST);
}
