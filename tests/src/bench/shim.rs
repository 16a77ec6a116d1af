//! The shim as a process, beside an empty static program and Debian's portmap.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{median, rounds, table::Table};
use crate::lab::{Lab, command, netns::Netns, pod::PodSpec, programs};

const ROUNDS: usize = 10;
const RUNS: usize = 40;

/// Samples of one program.
#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
}

/// Measures whole processes: ADD of a pod that is enrolled and captured, so
/// that the shim's whole path runs, through the agent and back.
pub fn run(table: &mut Table, out: &Path) {
    let measure = compile(out, "measure", include_str!("measure.c"));
    let empty = compile(out, "empty", "int main(void) { return 0; }");
    let mut lab = Lab::one_node();
    lab.add_pod(PodSpec::new("s1", "na", 50, "shop"));
    let shim = programs::directory_of("sluice-cni").join("sluice-cni");
    let programs = [empty, PathBuf::from("/usr/lib/cni/portmap"), shim.clone()];
    let input = out.join("add.json");
    fs::write(&input, request(&lab)).expect("write the shim's input");
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..rounds(ROUNDS) {
        for (program, samples) in programs.iter().zip(&mut samples) {
            round(&lab, &measure, program, &input, samples);
        }
    }
    let [empty, portmap, ours] = &samples;
    report(table, empty, portmap, ours);
    let size = fs::metadata(&shim).expect("look at the shim").len();
    let portmap = fs::metadata("/usr/lib/cni/portmap").map_or(0, |file| file.len());
    table.row(
        "shim, static binary",
        format!("{:.2} MB", megabytes(size)),
        format!("portmap {:.2} MB", megabytes(portmap)),
        "≤ 2.5 MB",
    );
}

fn report(table: &mut Table, empty: &Samples, portmap: &Samples, ours: &Samples) {
    type Column = fn(&Samples) -> f64;
    let rows: [(&str, &str, Column, &str); 3] = [
        (
            "shim, CPU of the whole process, ADD captured",
            "ms",
            |s| median(&s.cpu) / 1e3,
            "≤ 1.5 ms",
        ),
        (
            "shim, wall time of the same",
            "ms",
            |s| median(&s.wall) / 1e3,
            "",
        ),
        (
            "shim, peak memory",
            "MB",
            |s| median(&s.peak) / 1024.0,
            "≤ 4 MB",
        ),
    ];
    for (what, unit, column, budget) in rows {
        let (empty, portmap, ours) = (column(empty), column(portmap), column(ours));
        table.row(
            what,
            format!("{ours:.2} {unit}"),
            format!(
                "empty static program {empty:.2} {unit}; portmap {portmap:.2} {unit} (ours is {:.0} % of it)",
                ours / portmap * 100.0
            ),
            budget,
        );
    }
}

fn round(lab: &Lab, measure: &Path, program: &Path, input: &Path, samples: &mut Samples) {
    let pod = lab.pod("s1");
    let environment = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", &pod.attachment.container_id),
        ("CNI_NETNS", &pod.attachment.netns),
        ("CNI_IFNAME", &pod.attachment.ifname),
        ("CNI_ARGS", &pod.attachment.args),
    ];
    for [wall, cpu, peak, code] in measured(lab.ns("na"), measure, program, input, &environment) {
        assert_eq!(code, 0.0, "{} failed", program.display());
        samples.wall.push(wall);
        samples.cpu.push(cpu);
        samples.peak.push(peak);
    }
}

/// What `measure` says of some runs of a program on a node.
pub(super) fn measured(
    node: &Netns,
    measure: &Path,
    program: &Path,
    input: &Path,
    environment: &[(&str, &str)],
) -> Vec<[f64; 4]> {
    let mut command = command::bounded(&measure.display().to_string());
    command.arg(RUNS.to_string()).arg(input).arg(program);
    command
        .env("CNI_PATH", "/usr/lib/cni")
        .envs(environment.iter().copied());
    let output = node.enter(|| command.output());
    let number = |text: &str| text.parse().expect("measure prints numbers");
    let lines = command::stdout("measure", &output.expect("run measure"));
    let lines = lines
        .lines()
        .map(|line| line.split_whitespace().map(number).collect::<Vec<f64>>());
    lines
        .map(|line| line.try_into().expect("four numbers a line"))
        .collect()
}

/// What the runtime gives the last plugin of the chain. Each of the programs
/// takes from it what it knows.
fn request(lab: &Lab) -> String {
    let pod = lab.pod("s1");
    let mut config = pod.chain.plugins.last().expect("the shim is last").clone();
    config["cniVersion"] = json!("1.0.0");
    config["name"] = json!(pod.chain.name);
    config["prevResult"] = json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            { "name": pod.link, "mac": "02:00:00:00:00:01" },
            { "name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": pod.attachment.netns },
        ],
        "ips": [
            { "address": format!("{}/24", pod.ip4), "interface": 1 },
            { "address": format!("{}/64", pod.ip6), "interface": 1 },
        ],
    });
    config.to_string()
}

pub(super) fn compile(out: &Path, name: &str, source: &str) -> PathBuf {
    let file = out.join(name).with_extension("c");
    fs::write(&file, source).expect("write a C source");
    let program = fs::canonicalize(out)
        .expect("target/bench exists")
        .join(name);
    let mut compiler = command::bounded("cc");
    compiler
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(&file);
    command::stdout("cc", &compiler.output().expect("run cc"));
    program
}

#[expect(clippy::cast_precision_loss, reason = "a file's size, for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
