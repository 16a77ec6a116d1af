//! Chained, discovered, stand-alone, and against somebody who does not want us.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use sluice_proto::capture::v1::PodState;
use sluice_tests::lab::{
    agent::addresses,
    cni::{Attachment, Chain},
    node::Runtime,
    observe::Snapshot,
    pod::PodSpec,
    wait::{self, value},
};

use super::{
    OURS, assert_restored, conf, contents, directories, in_place, join, kernels, last_plugin,
    node_before_us, node_with, not_ready, start, start_agent,
};

const CHAINED: [&str; 2] = ["--cni-mode", "chained"];

#[test]
fn chained_pods_come_through_the_owners_own_list_which_is_restored() {
    let mut lab = node_before_us();
    let before = directories(&lab);
    let kernel = kernels(&lab);
    start(&mut lab, &CHAINED);
    in_place(&lab);
    assert!(!conf(&lab).exists());
    assert_eq!(last_plugin(&lab), "sluice-cni");
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));

    // Its owner writes it again, as he knows it.
    let original = lab
        .node("na")
        .runtime
        .clone()
        .unwrap()
        .conf
        .join("10-ptp.conflist");
    let chained = fs::read(&original).unwrap();
    fs::write(&original, &before[0]["10-ptp.conflist"].1).unwrap();
    value("the shim to be in it again", wait::LONG, || {
        let now = fs::read(&original).unwrap();
        if now == chained {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&now).into_owned())
        }
    });

    // Another mode is a restart away, both ways, with pods starting.
    lab.agent_mut("na").stop();
    start_agent(&mut lab, &[]);
    in_place(&lab);
    assert_eq!(fs::read(&original).unwrap(), before[0]["10-ptp.conflist"].1);
    assert!(conf(&lab).exists());
    lab.add_pod(PodSpec::new("a6", "na", 6, "shop"));
    assert!(lab.through_proxy("a6", "u1"));
    lab.agent_mut("na").stop();
    start_agent(&mut lab, &CHAINED);
    in_place(&lab);
    assert_eq!(fs::read(&original).unwrap(), chained);
    assert!(!conf(&lab).exists());

    for pod in ["a5", "a6"] {
        lab.remove_pod(pod);
    }
    lab.agent_mut("na").stop();
    lab.cleanup_files("na");
    assert_eq!(directories(&lab), before);
    assert_restored(&lab, &kernel);
}

#[test]
fn a_fight_is_slowed_down_said_with_the_remedy_and_won_when_the_other_stops() {
    let mut lab = node_before_us();
    join(&mut lab);
    let ours = conf(&lab);
    let stop = AtomicBool::new(false);
    let renamed = thread::scope(|scope| {
        // As Cilium does it by default.
        let rival = scope.spawn(|| {
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                let bak = ours.with_file_name(format!("{OURS}.cilium_bak"));
                times += u32::from(fs::rename(&ours, bak).is_ok());
                thread::sleep(Duration::from_millis(20));
            }
            times
        });
        not_ready(&lab, &["again and again", "cni.exclusive=false"]);
        // Pods that start now do so as the other wants it; those there stay.
        assert_eq!(last_plugin(&lab), "ptp");
        assert!(lab.through_proxy("a1", "u1"));
        thread::sleep(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        rival.join().unwrap()
    });
    assert!((5..=7).contains(&renamed), "written {renamed} times");
    value(
        "the shim to be in place",
        wait::LONG,
        || match last_plugin(&lab) {
            plugin if plugin == "sluice-cni" => Ok(()),
            plugin => Err(plugin),
        },
    );
    in_place(&lab);
}

#[test]
fn alone_as_multus_calls_it_the_kernel_says_what_the_pod_is_attached_by() {
    let mut lab = node_before_us();
    let before = directories(&lab);
    start(&mut lab, &["--cni-mode", "standalone"]);
    in_place(&lab);
    // The runtime's own choice stays as it is.
    assert_eq!(last_plugin(&lab), "ptp");
    let runtime = lab.node("na").runtime.clone().unwrap();
    let file = fs::read(runtime.conf.join("zzz-sluice-cni.conf")).unwrap();
    let plugin: Value = serde_json::from_slice(&file).unwrap();
    let kernel = Snapshot::configuration(lab.ns("na"));

    let spec = PodSpec::new("a5", "na", 5, "shop");
    lab.folder.pod(&spec.document(&[]));
    let (_netns, primary, attachment) = lab.sandbox(&spec, true);
    let node = lab.ns("na").clone();
    let alone = Chain {
        version: plugin["cniVersion"].as_str().unwrap().into(),
        name: plugin["name"].as_str().unwrap().into(),
        plugins: vec![plugin],
        ..primary.clone()
    };
    let second = Attachment {
        ifname: "net1".into(),
        ..attachment.clone()
    };
    // Before there is anything to capture.
    let error = alone.add(&node, &second).unwrap_err();
    assert!(error.msg.contains("no veth link"), "{error:?}");
    alone.del(&node, &second).unwrap();
    let first = primary.add(&node, &attachment).unwrap();
    let result = alone.add(&node, &second).unwrap();
    assert_eq!(result, json!({ "cniVersion": alone.version }));
    let pod = lab.agent("na").pod("a5").unwrap();
    assert_eq!(pod.status.as_ref().unwrap().state(), PodState::Captured);
    let given = first["ips"].as_array().unwrap().iter();
    let given = given.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap());
    let given: BTreeSet<IpAddr> = given.map(|text| text.parse().unwrap()).collect();
    assert_eq!(given, addresses(&pod).into_iter().collect());
    assert_eq!(alone.check(&node, &second), Ok(()));
    alone.del(&node, &second).unwrap();
    primary.del(&node, &attachment).unwrap();
    lab.folder.remove_pod(&spec.document(&[]));
    kernel.assert_same(&Snapshot::configuration(&node), "after DEL");

    // Any other configuration without a result is a mistake.
    let mut broken = alone;
    broken.plugins[0]
        .as_object_mut()
        .unwrap()
        .remove("standalone");
    let error = broken.add(&node, &second).unwrap_err();
    assert!(error.msg.contains("prevResult is missing"), "{error:?}");
    lab.agent_mut("na").stop();
    lab.cleanup_files("na");
    assert_eq!(directories(&lab), before);
}

/// containerd's configuration, with its folders.
fn containerd(conf: &str, bin: &str) -> String {
    format!(
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nconf_dir = '{conf}'\nbin_dir = '{bin}'\n"
    )
}

/// Another runtime's folders, with plugins and this list.
fn another(dir: &Path, list: &[u8]) -> Runtime {
    let runtime = Runtime {
        conf: dir.join("net.d"),
        bin: dir.join("bin"),
    };
    fs::create_dir_all(&runtime.conf).unwrap();
    fs::create_dir_all(&runtime.bin).unwrap();
    fs::write(runtime.conf.join("20-ptp.conflist"), list).unwrap();
    for plugin in ["ptp", "host-local"] {
        let from = Path::new("/usr/lib/cni").join(plugin);
        std::os::unix::fs::symlink(from, runtime.bin.join(plugin)).unwrap();
    }
    runtime
}

#[test]
fn the_folders_are_found_in_the_runtimes_configuration_and_followed() {
    let mut lab = node_with(|dir| {
        fs::create_dir_all(dir.join("root/etc/containerd")).unwrap();
        fs::create_dir_all(dir.join("root/run/containerd")).unwrap();
        // What the node reaches by a link, it reaches below its own root.
        std::os::unix::fs::symlink("/etc/net.d", dir.join("root/link")).unwrap();
        for (name, path) in [("net.d", "root/etc/net.d"), ("cni-bin", "root/opt/bin")] {
            fs::create_dir_all(dir.join(path)).unwrap();
            std::os::unix::fs::symlink(path, dir.join(name)).unwrap();
        }
    });
    let root = lab.node("na").dir.join("root");
    let told = root.join("etc/containerd/config.toml");
    fs::write(&told, containerd("/link", "/opt/bin")).unwrap();
    let before = directories(&lab);
    lab.start_controller();
    let shim = sluice_tests::lab::programs::find("sluice-cni");
    let ambient = lab.node("na").dir.join("ambient-config");
    let given = [&root, &shim, &ambient].map(|path| path.display().to_string());
    let flags = [
        ["--cni-discover", "--host-root", &given[0]],
        ["--cni-shim", &given[1], "--ambient-config-dir"],
    ];
    let mut flags = flags.concat();
    flags.push(&given[2]);
    lab.start_agent("na", &flags);
    lab.wait_captured(&["a1"]);
    in_place(&lab);
    assert_eq!(last_plugin(&lab), "sluice-cni");
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));

    // The runtime is set up anew, and reads another folder.
    let moved = another(&root.join("srv"), &before[0]["10-ptp.conflist"].1);
    fs::write(&told, containerd("/srv/net.d", "/srv/bin")).unwrap();
    value(
        "the shim to be in the new folder",
        wait::LONG,
        || match contents(&moved.conf) {
            files if files.contains_key(OURS) => Ok(()),
            files => Err(format!("{:?}", files.keys())),
        },
    );
    in_place(&lab);
    // Nothing of ours stays behind.
    assert_eq!(directories(&lab)[..2], before[..2]);
    lab.node_mut("na").runtime = Some(moved);
    assert_eq!(last_plugin(&lab), "sluice-cni");
    lab.add_pod(PodSpec::new("a6", "na", 6, "shop"));
    assert!(lab.through_proxy("a6", "u1"));

    // Not to be understood: what is there stays, and it is said.
    fs::write(&told, "version = [").unwrap();
    lab.agent_mut("na").stop();
    lab.agent_mut("na").start();
    not_ready(&lab, &["config.toml", "--cni-conf-dir"]);
    assert_eq!(last_plugin(&lab), "sluice-cni");
}
