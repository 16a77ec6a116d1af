//! A whole ADD and DEL: Debian's ptp and what is chained to it, which is the
//! shim, portmap with nothing to map, or a plugin that does nothing. One caller
//! for all of them, in turns.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use super::{median, rounds, shim::compile, table::Table};
use crate::lab::{
    Lab,
    cni::{Attachment, Chain},
    netns::Netns,
    pod::PodSpec,
    programs,
};

const ROUNDS: usize = 12;
/// Attachments of a round, one after the other or side by side.
const SLOTS: usize = 8;
const WAYS: [&str; 3] = ["empty", "portmap", "shim"];

/// What is attached, again and again.
struct Slot {
    /// It ends with this.
    _netns: Netns,
    attachment: Attachment,
    ptp: Value,
}

/// Of one verb: milliseconds of each call, and processor time for one.
#[derive(Clone, Default)]
struct Samples {
    wall: Vec<f64>,
    last: Vec<f64>,
    cpu: Vec<f64>,
}

/// ADD and DEL of one way, serial and side by side.
type Measured = [[Samples; 2]; 2];

pub fn run(table: &mut Table, out: &Path) {
    let echo = compile(out, "echo-plugin", include_str!("echo.c"));
    let lab = Lab::one_node();
    let slots: Vec<Slot> = (0..SLOTS).map(|index| slot(&lab, index)).collect();
    let plugins = plugins(&lab, &echo);
    let mut samples: [Measured; 3] = Default::default();
    let mut agent = Vec::new();
    for _ in 0..rounds(ROUNDS) {
        for ((_, plugin), measured) in plugins.iter().zip(&mut samples) {
            let before = agent_cpu(&lab);
            round(&lab, &slots, plugin, measured);
            agent.push(agent_cpu(&lab) - before);
        }
    }
    report(table, &samples);
    let ours: Vec<f64> = agent.iter().skip(2).step_by(3).copied().collect();
    let others: Vec<f64> = agent.iter().step_by(3).copied().collect();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let attachments = (2 * SLOTS) as f64;
    table.row(
        "ADD and DEL of a captured pod: CPU inside the agent",
        format!("{:.2} ms", median(&ours) / attachments),
        format!(
            "meanwhile without pods {:.2} ms",
            median(&others) / attachments
        ),
        "",
    );
}

fn slot(lab: &Lab, index: usize) -> Slot {
    let host = u8::try_from(100 + index).expect("a few slots");
    let spec = PodSpec::new(&format!("s{index}"), "na", host, "shop");
    lab.folder.pod(&spec.document(&[]));
    let (netns, chain, attachment) = lab.sandbox(&spec, true);
    let ptp = chain.plugins[0].clone();
    Slot {
        _netns: netns,
        attachment,
        ptp,
    }
}

/// The program of each way, and its configuration.
fn plugins(lab: &Lab, echo: &Path) -> [(&'static str, (PathBuf, Value)); 3] {
    let Chain { plugins, .. } = lab.node("na").chain(true);
    let shim = programs::find("sluice-cni");
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    [
        (WAYS[0], (echo.into(), json!({ "type": "echo" }))),
        (WAYS[1], ("/usr/lib/cni/portmap".into(), portmap)),
        (WAYS[2], (shim, plugins[1].clone())),
    ]
}

/// Every slot once in turn, then all at once.
fn round(lab: &Lab, slots: &[Slot], plugin: &(PathBuf, Value), measured: &mut Measured) {
    let node = lab.ns("na");
    let [adds, dels] = measured;
    for slot in slots {
        let before = children_cpu();
        let (result, times) = node.enter(|| slot.add(plugin));
        let between = children_cpu();
        let gone = node.enter(|| slot.del(plugin, &result));
        adds[0].take(times, between - before);
        dels[0].take(gone, children_cpu() - between);
    }
    let before = children_cpu();
    let added = at_once(node, slots, |slot| slot.add(plugin));
    let between = children_cpu();
    let results: Vec<Value> = added.iter().map(|(result, _)| result.clone()).collect();
    let numbered: Vec<(&Slot, Value)> = slots.iter().zip(results).collect();
    let gone = at_once(node, &numbered, |(slot, result)| slot.del(plugin, result));
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let each = |from: f64, to: f64| (to - from) / slots.len() as f64;
    let after = children_cpu();
    for (_, times) in added {
        adds[1].take(times, each(before, between));
    }
    for times in gone {
        dels[1].take(times, each(between, after));
    }
}

fn at_once<S: Sync, T: Send>(node: &Netns, of: &[S], work: impl Fn(&S) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = of
            .iter()
            .map(|one| scope.spawn(|| node.enter(|| work(one))))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a call"))
            .collect()
    })
}

impl Samples {
    fn take(&mut self, (wall, last): (f64, f64), cpu: f64) {
        self.wall.push(wall);
        self.last.push(last);
        self.cpu.push(cpu);
    }
}

impl Slot {
    /// The result, and milliseconds of all and of the chained plugin alone.
    fn add(&self, (program, config): &(PathBuf, Value)) -> (Value, (f64, f64)) {
        let start = Instant::now();
        let result = self.call("ADD", Path::new("/usr/lib/cni/ptp"), &self.ptp, None);
        let chained = Instant::now();
        let result = self.call("ADD", program, config, Some(&result));
        (result, (since(start), since(chained)))
    }

    fn del(&self, (program, config): &(PathBuf, Value), result: &Value) -> (f64, f64) {
        let start = Instant::now();
        self.call("DEL", program, config, Some(result));
        let chained = since(start);
        self.call(
            "DEL",
            Path::new("/usr/lib/cni/ptp"),
            &self.ptp,
            Some(result),
        );
        (since(start), chained)
    }

    #[expect(clippy::disallowed_methods, reason = "the caller of what is measured")]
    fn call(&self, verb: &str, program: &Path, config: &Value, previous: Option<&Value>) -> Value {
        let mut config = config.clone();
        config["cniVersion"] = json!("1.0.0");
        config["name"] = json!("lab");
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let Attachment {
            container_id,
            netns,
            ifname,
            args,
        } = &self.attachment;
        let mut child = Command::new(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", container_id),
                ("CNI_NETNS", netns),
                ("CNI_IFNAME", ifname),
                ("CNI_ARGS", args),
                ("CNI_PATH", "/usr/lib/cni"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a plugin");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin
            .write_all(config.to_string().as_bytes())
            .expect("write to a plugin");
        drop(stdin);
        let output = child.wait_with_output().expect("wait for a plugin");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{verb} by {}: {said}",
            program.display()
        );
        serde_json::from_str(&said).unwrap_or(Value::Null)
    }
}

fn report(table: &mut Table, samples: &[Measured; 3]) {
    type Column = fn(&Samples) -> &Vec<f64>;
    let columns: [(&str, Column); 3] = [
        ("the chained plugin alone, wall", |s| &s.last),
        ("whole, wall", |s| &s.wall),
        ("whole, CPU of all plugins", |s| &s.cpu),
    ];
    for (verb, name) in ["ADD", "DEL"].into_iter().enumerate() {
        for (load, how) in ["one at a time", "8 at a time"].into_iter().enumerate() {
            for (what, column) in columns {
                let [empty, portmap, ours] =
                    [0, 1, 2].map(|way| median(column(&samples[way][verb][load])));
                table.row(
                    &format!("{name} of a captured pod, {how}: {what}"),
                    format!("{ours:.2} ms"),
                    format!(
                        "empty plugin {empty:.2} ms ({:.0} %); portmap {portmap:.2} ms ({:.0} %)",
                        ours / empty * 100.0,
                        ours / portmap * 100.0
                    ),
                    "",
                );
            }
        }
    }
}

/// Milliseconds of processor time of every child that has ended.
fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of children");
    let milliseconds = |time: nix::sys::time::TimeVal| {
        #[expect(clippy::cast_precision_loss, reason = "a time, for people")]
        let parts = (time.tv_sec() as f64, time.tv_usec() as f64);
        parts.0 * 1e3 + parts.1 / 1e3
    };
    milliseconds(usage.user_time()) + milliseconds(usage.system_time())
}

/// Milliseconds of processor time of the agent so far.
fn agent_cpu(lab: &Lab) -> f64 {
    let agent = lab.agent("na").process.as_ref().expect("the agent runs");
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("the agent's threads");
    let of = |task: fs::DirEntry| -> Option<f64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.flatten().filter_map(of).sum::<f64>() / 1e6
}

fn since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
