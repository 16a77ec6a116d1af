//! Disks that the installer cannot write to: said with what to do, and what was
//! there stays as it was and in use.

use std::{
    fs::{self, File},
    path::Path,
};

use sluice_tests::lab::{Lab, disk::Disk, node::Runtime, pod::PodSpec, programs, wait};

use super::{OURS, directories, in_place, last_plugin, node_with, not_ready, start};

/// What a disk does, and what is said of it.
struct Fault {
    strike: fn(&Disk),
    mend: fn(&Disk),
    said: [&'static str; 2],
}

const FAULTS: [Fault; 2] = [
    Fault {
        strike: Disk::fill,
        mend: Disk::make_room,
        said: ["No space left on device", "make room"],
    },
    Fault {
        strike: |disk| disk.read_only(true),
        mend: |disk| disk.read_only(false),
        said: ["Read-only file system", "mount it writable"],
    },
];

/// A node with a folder of its runtime on a disk of its own.
fn node_on_disk(folder: &str, kib: u32) -> (Lab, Disk, Runtime) {
    let mut disk = None;
    let lab = node_with(|dir| disk = Some(Disk::mount(&dir.join(folder), kib)));
    let runtime = lab.node("na").runtime.clone().unwrap();
    (lab, disk.unwrap(), runtime)
}

/// Another network of the primary CNI, made ready; what is returned puts it into
/// the place of its own, with nothing freed by that.
fn prepare_another(conf: &Path) -> impl FnOnce() -> File {
    let (next, original) = (conf.join("next"), conf.join("10-ptp.conflist"));
    let text = fs::read_to_string(&original).unwrap();
    let text = text.replace(r#""name":"lab""#, r#""name":"lab2""#);
    fs::write(&next, text).unwrap();
    move || {
        let old = File::open(&original).unwrap();
        fs::rename(&next, &original).unwrap();
        old
    }
}

fn configuration_stays(fault: &Fault, flags: &[&str]) {
    let (mut lab, disk, runtime) = node_on_disk("net.d", 64);
    let replace = prepare_another(&runtime.conf);
    start(&mut lab, flags);
    in_place(&lab);
    lab.agent_mut("na").stop();
    replace();
    (fault.strike)(&disk);
    let before = directories(&lab);
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1"]);
    not_ready(&lab, &fault.said);
    assert!(wait::until(wait::LONG, || directories(&lab) == before));
    assert!(lab.through_proxy("a1", "u1"));
    (fault.mend)(&disk);
    in_place(&lab);
    let chain = lab.node("na").current_chain(true);
    assert_eq!(chain.name, "lab2");
    assert_eq!(last_plugin(&lab), "sluice-cni");
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));
}

#[test]
fn a_copy_that_cannot_be_renewed_stays_in_use() {
    for fault in &FAULTS {
        configuration_stays(fault, &[]);
    }
}

#[test]
fn the_owners_list_stays_his_when_it_cannot_be_chained_to() {
    for fault in &FAULTS {
        configuration_stays(fault, &["--cni-mode", "chained"]);
    }
}

#[test]
fn pods_start_through_the_old_copy_while_the_disk_is_full() {
    let (mut lab, disk, runtime) = node_on_disk("net.d", 64);
    start(&mut lab, &[]);
    in_place(&lab);
    let replace = prepare_another(&runtime.conf);
    disk.fill();
    let _old = replace();
    not_ready(&lab, &FAULTS[0].said);
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    assert!(lab.through_proxy("a5", "u1"));
    assert_eq!(lab.node("na").current_chain(true).name, "lab");
    disk.make_room();
    in_place(&lab);
}

#[test]
fn a_shim_that_cannot_be_replaced_stays_and_one_that_is_not_there_is_not_named() {
    let shim = fs::read(programs::find("sluice-cni")).unwrap();
    for fault in &FAULTS {
        for old in [true, false] {
            // Reached by a link, as on k3s; and not where the image is, so that
            // renaming from there to here is not possible.
            let mut disk = None;
            let mut lab = node_with(|dir| {
                disk = Some(Disk::mount(&dir.join("data"), 64 << 10));
                std::os::unix::fs::symlink("data", dir.join("cni-bin")).unwrap();
            });
            let (disk, bin) = (disk.unwrap(), lab.node("na").runtime.clone().unwrap().bin);
            if old {
                fs::write(bin.join("sluice-cni"), [&*shim, b"\n"].concat()).unwrap();
            }
            (fault.strike)(&disk);
            let before = directories(&lab);
            start(&mut lab, &[]);
            not_ready(&lab, &fault.said);
            // Nothing calls what is not there, or what is not this agent's. It may be
            // trying again just now.
            assert!(wait::until(wait::LONG, || directories(&lab)[..2] == before[..2]));
            assert_eq!(last_plugin(&lab), "ptp");
            (fault.mend)(&disk);
            in_place(&lab);
            assert_eq!(fs::read(bin.join("sluice-cni")).unwrap(), shim);
            assert!(!bin.join(".sluice-cni.new").exists());
            assert!(
                lab.node("na")
                    .runtime
                    .as_ref()
                    .unwrap()
                    .conf
                    .join(OURS)
                    .exists()
            );
            lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
            assert!(lab.through_proxy("a5", "u1"));
        }
    }
}
