//! What the agent puts on a node's disk: a real chain finds the shim through it,
//! others' meddling is mended, and it goes without a trace. And pods and a proxy
//! that were there before the agent.

use std::{collections::BTreeMap, fs, io, os::unix::fs::MetadataExt as _, path::Path};

use sluice_agent::{control::store::Store, desired::Wanted};
use sluice_proto::{agent::v1::Leaving, capture::v1::PodState};
use sluice_tests::lab::{
    Lab, http,
    observe::Snapshot,
    pod::PodSpec,
    wait::{self, value},
};

mod faults;
mod modes;

const NAMESPACES: [&str; 2] = ["na", "za"];
const OURS: &str = "02-sluice.conflist";
const READY: &str = r#"{"ztunnelReady":true,"redirectMode":"iptables"}"#;

/// A node with a runtime of its own, and with pods and a proxy that were there
/// before us. Nothing of ours runs yet.
fn node_before_us() -> Lab {
    node_with(|_| {})
}

/// The same; its folder is made ready first.
fn node_with(prepare: impl FnOnce(&Path)) -> Lab {
    let mut lab = Lab::new(1);
    let node = lab.node_mut("na");
    prepare(&node.dir);
    node.make_runtime();
    fs::create_dir(node.dir.join("ambient-config")).unwrap();
    lab.pod_before(PodSpec::new("a1", "na", 2, "shop"));
    lab.pod_before(PodSpec::new("u1", "na", 3, "plain"));
    lab.pod_before(PodSpec::proxy("za", "na"));
    lab.enrol();
    lab.start_proxy("na");
    lab
}

/// Starts controller and agent on it, and waits until all is in place.
fn join(lab: &mut Lab) {
    start(lab, &[]);
    in_place(lab);
}

/// Starts controller and agent, with further flags of the installer.
fn start(lab: &mut Lab, further: &[&str]) {
    lab.start_controller();
    start_agent(lab, further);
    lab.wait_captured(&["a1"]);
}

fn start_agent(lab: &mut Lab, further: &[&str]) {
    let flags = lab.install_flags("na");
    let flags = flags
        .iter()
        .map(String::as_str)
        .chain(further.iter().copied());
    lab.start_agent("na", &flags.collect::<Vec<_>>());
}

/// How the kernel is set up where we change it.
fn kernels(lab: &Lab) -> [Snapshot; 2] {
    NAMESPACES.map(|name| Snapshot::configuration(lab.ns(name)))
}

#[track_caller]
fn assert_restored(lab: &Lab, before: &[Snapshot; 2]) {
    for (was, name) in before.iter().zip(NAMESPACES) {
        was.assert_same(&Snapshot::configuration(lab.ns(name)), name);
    }
}

/// Waits until the node is not ready, for a reason with these words.
#[track_caller]
fn not_ready(lab: &Lab, words: &[&str]) -> String {
    value("the node to be not ready", wait::LONG, || {
        let status = lab.agent("na").status()?;
        let ready = http::get(lab.ns("na"), 15014, "/readyz").unwrap();
        let told = |word: &&str| status.message.contains(word) && ready.contains(word);
        if words.iter().all(told) && !status.capture_ready && ready.starts_with("HTTP/1.1 503") {
            Ok(status.message)
        } else {
            Err(format!("{status:?} {ready}"))
        }
    })
}

fn in_place(lab: &Lab) {
    value("the shim to be in place", wait::LONG, || {
        let status = lab.agent("na").status()?;
        let current = status.files.iter().all(|file| file.current);
        // It is written for those who look later, not for those who wait.
        let told = ambient(lab) == READY;
        if current && told && status.capture_ready && status.files.len() == 2 {
            Ok(())
        } else {
            Err(format!("{status:?}"))
        }
    });
}

/// What is in a directory: each file's name, inode, mode and contents.
fn contents(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    let contents = entries.filter_map(|entry| {
        let mode = unless_gone(entry.metadata())?.mode();
        let name = entry.file_name().display().to_string();
        Some((name, (mode, unless_gone(fs::read(entry.path()))?)))
    });
    contents.collect()
}

/// Of a file that may be there for a moment only.
fn unless_gone<T>(looked: io::Result<T>) -> Option<T> {
    match looked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        looked => Some(looked.unwrap()),
    }
}

/// The node's directories, as others see them.
fn directories(lab: &Lab) -> Vec<BTreeMap<String, (u32, Vec<u8>)>> {
    let node = lab.node("na");
    let runtime = node.runtime.as_ref().unwrap();
    let ambient = node.dir.join("ambient-config");
    [&runtime.conf, &runtime.bin, &ambient]
        .map(|dir| contents(dir))
        .into()
}

fn conf(lab: &Lab) -> std::path::PathBuf {
    lab.node("na").runtime.as_ref().unwrap().conf.join(OURS)
}

fn ambient(lab: &Lab) -> String {
    fs::read_to_string(lab.node("na").dir.join("ambient-config/config.json")).unwrap_or_default()
}

fn last_plugin(lab: &Lab) -> String {
    let chain = lab.node("na").current_chain(true);
    chain.plugins.last().unwrap()["type"]
        .as_str()
        .unwrap()
        .into()
}

#[test]
fn a_node_that_lives_already_joins_without_a_restart_and_is_restored_byte_for_byte() {
    let mut lab = node_before_us();
    let before = directories(&lab);
    let kernel = kernels(&lab);
    assert_eq!(last_plugin(&lab), "ptp");

    // Nobody has told the agent of the pod, nor of the proxy.
    join(&mut lab);
    assert!(lab.through_proxy("a1", "u1"));
    assert_eq!(last_plugin(&lab), "sluice-cni");
    // Whatever the runtime makes from now on comes through the shim.
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));
    lab.add_pod(PodSpec::new("p6", "na", 6, "plain"));
    assert!(!lab.through_proxy("p6", "u1"));

    // An upgrade leaves everything in place, and changes nothing.
    let (installed, inode) = (directories(&lab), fs::metadata(conf(&lab)).unwrap().ino());
    lab.agent_mut("na").stop();
    assert_eq!(directories(&lab), installed);
    assert!(lab.through_proxy("a1", "u1"));
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a5"]);
    in_place(&lab);
    assert_eq!(directories(&lab), installed);
    assert_eq!(fs::metadata(conf(&lab)).unwrap().ino(), inode);

    for pod in ["a5", "p6"] {
        lab.remove_pod(pod);
    }
    lab.agent_mut("na").stop();
    lab.cleanup_files("na");
    assert_eq!(directories(&lab), before);
    assert_restored(&lab, &kernel);
    assert!(!lab.through_proxy("a1", "u1"));
}

#[test]
fn meddling_is_mended_and_counted_and_the_original_is_followed() {
    let mut lab = node_before_us();
    join(&mut lab);
    let runtime = lab.node("na").runtime.clone().unwrap();
    let good = directories(&lab);
    let mended = |what: &str| {
        value(what, wait::LONG, || match directories(&lab) {
            now if now == good => Ok(()),
            _ => Err("not yet".into()),
        });
    };
    fs::remove_file(conf(&lab)).unwrap();
    mended("the configuration to be back");
    fs::write(conf(&lab), "").unwrap();
    mended("the configuration to be whole");
    fs::write(runtime.bin.join("sluice-cni"), "not the shim").unwrap();
    mended("the shim to be back");
    fs::write(lab.node("na").dir.join("ambient-config/config.json"), "{}").unwrap();
    mended("config.json to be back");
    let metrics = lab.metrics("na");
    assert!(
        metrics.contains(r#"sluice_cni_files_written_total{kind="conf",cause="repair"} 2"#),
        "{metrics}"
    );

    // The primary CNI writes its configuration anew.
    let original = runtime.conf.join("10-ptp.conflist");
    let text = fs::read_to_string(&original).unwrap();
    fs::write(
        &original,
        text.replace(r#""name":"lab""#, r#""name":"lab2""#),
    )
    .unwrap();
    value("the copy to follow", wait::LONG, || {
        match lab.node("na").current_chain(true).name {
            name if name == "lab2" => Ok(()),
            name => Err(name),
        }
    });
    fs::write(&original, text).unwrap();

    // Somebody else's sorts first: said, and the node is not ready.
    let eager = runtime.conf.join("00-eager.conflist");
    fs::copy(&original, &eager).unwrap();
    not_ready(&lab, &["00-eager.conflist sorts before"]);
    fs::remove_file(eager).unwrap();
    in_place(&lab);
    let ready = http::get(lab.ns("na"), 15014, "/readyz").unwrap();
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
}

#[test]
fn hostile_files_in_the_runtimes_directory_stop_nobody() {
    let mut lab = node_before_us();
    let conf = lab.node("na").runtime.clone().unwrap().conf;
    nix::unistd::mkfifo(&conf.join("11-pipe.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/zero", conf.join("12-zero.conflist")).unwrap();
    fs::write(conf.join("13-huge.conf"), vec![b'['; 4 << 20]).unwrap();
    fs::write(conf.join("14-deep.conf"), vec![b'['; 200_000]).unwrap();
    fs::create_dir(conf.join("15-folder.conflist")).unwrap();
    // Where ours would be written first, and ours itself.
    std::os::unix::fs::symlink("/dev/full", conf.join(format!(".{OURS}.new"))).unwrap();
    nix::unistd::mkfifo(&conf.join(OURS), nix::sys::stat::Mode::S_IRWXU).unwrap();
    join(&mut lab);
    assert_eq!(last_plugin(&lab), "sluice-cni");
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));
}

#[test]
fn config_json_follows_the_proxy() {
    let mut lab = node_before_us();
    join(&mut lab);
    let says = |lab: &Lab, ready: bool| {
        let wanted = format!(r#"{{"ztunnelReady":{ready},"redirectMode":"iptables"}}"#);
        value("config.json to follow", wait::LONG, || match ambient(lab) {
            text if text == wanted => Ok(()),
            text => Err(text),
        });
    };
    says(&lab, true);
    lab.proxy_mut("na").kill();
    says(&lab, false);
    lab.start_proxy("na");
    says(&lab, true);
    lab.vanish("za");
    says(&lab, false);
    lab.remove_pod("za");
    let mut next = PodSpec::proxy("za", "na");
    next.host = 10;
    lab.add_pod(next);
    lab.start_proxy("na");
    says(&lab, true);
}

#[test]
fn a_proxy_that_was_replaced_while_the_agent_was_away_is_found() {
    let mut lab = node_before_us();
    join(&mut lab);
    lab.agent_mut("na").kill();
    // As a rolling restart does it, and nobody is told: not even the shim's
    // notes are there.
    lab.stop_proxy("na");
    lab.remove_pod("za");
    let mut next = PodSpec::proxy("za", "na");
    next.host = 10;
    lab.add_pod(next);
    lab.start_proxy("na");
    let _ = fs::remove_file(lab.node("na").state_dir().join("cni-notes.jsonl"));
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1"]);
    let proxy = lab.agent("na").status().unwrap().proxy.unwrap();
    let found = fs::metadata(&proxy.netns).unwrap().ino();
    assert_eq!(
        found,
        fs::metadata(lab.pod("za").netns.path()).unwrap().ino()
    );
    assert!(lab.through_proxy("a1", "u1"));
}

#[test]
fn a_node_that_is_told_to_leave_does_so_also_after_a_restart_without_a_controller() {
    let mut lab = node_before_us();
    let before = directories(&lab);
    let kernel = kernels(&lab);
    join(&mut lab);
    lab.stop_controller();
    lab.agent_mut("na").stop();
    // The last that it heard.
    let store = Store::new(&lab.node("na").state_dir());
    let mut told = sluice_agent::desired::Desired::clone(&store.load().unwrap());
    told.leave = true;
    for intent in told.pods.values_mut() {
        if intent.wanted == Wanted::Captured {
            intent.wanted = Wanted::Nothing;
        }
    }
    store.save(&told).unwrap();
    lab.agent_mut("na").start();
    value("the node to have left", wait::LONG, || {
        let status = lab.agent("na").status()?;
        match status.leaving() {
            Leaving::Left => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    });
    lab.wait_state("a1", PodState::Released);
    assert_eq!(directories(&lab), before);
    assert_restored(&lab, &kernel);
    // Pods start as if there were no agent, and it installs nothing.
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(!lab.through_proxy("a5", "u1"));
    assert!(!lab.through_proxy("a1", "u1"));
    lab.remove_pod("a5");
    assert_eq!(directories(&lab), before);
    lab.agent_mut("na").stop();
    let node = lab.node("na");
    for dir in [node.run_dir(), node.state_dir()] {
        assert!(!dir.exists(), "{}: {:?}", dir.display(), contents(&dir));
    }
    // Withdrawn: it joins again.
    lab.start_controller();
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1"]);
    in_place(&lab);
    assert!(wait::until(wait::LONG, || lab
        .try_through_proxy("a1", "u1")
        == Ok(true)));
}
