//! STATUS, with an agent that lives and one that hangs.

use std::{fs, path::Path};

use nix::sys::signal::Signal;

use super::{
    median, quantile, rounds,
    shim::{compile, measured},
    table::Table,
};
use crate::lab::{Lab, programs};

const ROUNDS: usize = 5;

pub fn run(table: &mut Table, out: &Path) {
    let measure = compile(out, "measure", include_str!("measure.c"));
    let lab = Lab::one_node();
    let mut config = lab.node("na").chain(true).plugins.remove(1);
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "lab".into();
    let input = out.join("status.json");
    fs::write(&input, config.to_string()).expect("write the shim's input");
    let shim = programs::find("sluice-cni");
    let agent = lab.agent("na").process.as_ref().expect("the agent runs");
    let ask = || {
        measured(
            lab.ns("na"),
            &measure,
            &shim,
            &input,
            &[("CNI_COMMAND", "STATUS")],
        )
    };
    let (mut live, mut hung) = (Vec::new(), Vec::new());
    for _ in 0..rounds(ROUNDS) {
        live.extend(ask());
        agent.signal(Signal::SIGSTOP);
        hung.extend(ask());
        agent.signal(Signal::SIGCONT);
    }
    let wall = |all: &[[f64; 4]]| all.iter().map(|one| one[0] / 1e3).collect::<Vec<f64>>();
    let failed = |all: &[[f64; 4]]| all.iter().filter(|one| one[3] != 0.0).count();
    for (what, all, budget) in [("lives", &live, ""), ("hangs", &hung, "≤ 100 ms")] {
        table.row(
            &format!("STATUS while the agent {what}, whole process"),
            format!(
                "p50 {:.1} ms, p99 {:.1} ms",
                median(&wall(all)),
                quantile(&wall(all), 0.99)
            ),
            format!("{} of {} said that it is not ready", failed(all), all.len()),
            budget,
        );
    }
}
