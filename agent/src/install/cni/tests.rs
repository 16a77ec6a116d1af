use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::install::conf::tests::entry;

const PTP: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"}]}"#;

struct Host {
    dir: tempfile::TempDir,
    installer: Installer,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["net.d", "bin"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("image"), "the shim").unwrap();
        let installer = installer(dir.path());
        Self { dir, installer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn conf(&self) -> PathBuf {
        self.path("net.d/02-sluice.conflist")
    }

    fn look(&mut self, goal: Goal) -> FileState {
        self.installer.look(goal).state
    }

    /// Looks once, as it is to be in place then.
    #[track_caller]
    fn installed(&mut self) {
        let state = self.look(Goal::Install);
        assert!(state.current && state.present, "{state:?}");
    }

    /// Everything, by name.
    fn files(&self) -> Vec<(String, Vec<u8>, u32)> {
        let mut files = Vec::new();
        for folder in ["net.d", "bin"] {
            for entry in fs::read_dir(self.path(folder)).unwrap().flatten() {
                let mode = entry.metadata().unwrap().permissions().mode();
                let name = format!("{folder}/{}", entry.file_name().display());
                files.push((name, fs::read(entry.path()).unwrap(), mode & 0o777));
            }
        }
        files.sort();
        files
    }
}

fn installer(dir: &Path) -> Installer {
    let places = Places {
        conf_dir: dir.join("net.d"),
        bin_dir: dir.join("bin"),
        conf_name: "02-sluice.conflist".into(),
    };
    Installer::new(places, entry(), &dir.join("image"))
}

#[test]
fn it_waits_for_an_original_and_follows_it() {
    let mut host = Host::new();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("waited for"),
        "{state:?}"
    );
    assert!(!host.conf().exists());
    // The program is there first, so that whatever names it finds it.
    assert!(host.path("bin/sluice-cni").exists());
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    let mode = fs::metadata(host.conf()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::write(
        host.path("net.d/10-ptp.conflist"),
        PTP.replace("net", "other"),
    )
    .unwrap();
    host.installed();
    assert!(
        fs::read_to_string(host.conf())
            .unwrap()
            .contains("\"other\"")
    );
    // Nothing is written that is so already.
    let before = host.files();
    let inode =
        |host: &Host| std::os::unix::fs::MetadataExt::ino(&fs::metadata(host.conf()).unwrap());
    let number = inode(&host);
    host.installed();
    host.installer = installer(host.dir.path());
    host.installed();
    assert_eq!((host.files(), inode(&host)), (before, number));
}

#[test]
fn somebody_elses_changes_are_mended_and_a_fight_is_slowed_down() {
    let mut host = Host::new();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    let good = host.files();
    let (conf, shim) = (host.conf(), host.path("bin/sluice-cni"));
    fs::remove_file(&conf).unwrap();
    host.installed();
    fs::write(&conf, "").unwrap();
    host.installed();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o666)).unwrap();
    host.installed();
    fs::write(&shim, "not the shim").unwrap();
    host.installed();
    fs::remove_file(&conf).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &conf).unwrap();
    host.installed();
    assert_eq!(host.files(), good);
    // The sixth within a minute has to wait, and is not called in place.
    fs::remove_file(&conf).unwrap();
    let looked = host.installer.look(Goal::Install);
    assert!(!looked.state.current && looked.again.is_some());
    assert!(
        looked.state.message.contains("cni.exclusive=false"),
        "{looked:?}"
    );
    assert!(!conf.exists());
    // A new original is no fight.
    fs::write(
        host.path("net.d/10-ptp.conflist"),
        PTP.replace("net", "other"),
    )
    .unwrap();
    assert!(!host.look(Goal::Install).current);
}

#[test]
fn it_is_not_called_in_place_while_the_runtime_takes_another() {
    let mut host = Host::new();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    fs::write(host.path("net.d/00-eager.conflist"), PTP).unwrap();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("00-eager.conflist"),
        "{state:?}"
    );
    fs::remove_file(host.path("net.d/00-eager.conflist")).unwrap();
    host.installed();
    // Broken, it stops containerd: said, and nothing slips past.
    fs::write(host.path("net.d/00-broken.conf"), "{").unwrap();
    let state = host.look(Goal::Install);
    assert!(
        state.current && state.message.contains("00-broken.conf"),
        "{state:?}"
    );
}

#[test]
fn with_the_original_gone_the_copy_stays() {
    let mut host = Host::new();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    let original = host.path("net.d/10-ptp.conflist");
    fs::rename(&original, host.path("net.d/10-ptp.conflist.bak")).unwrap();
    let state = host.look(Goal::Install);
    assert!(
        state.current && state.message.contains("the copy stays"),
        "{state:?}"
    );
}

#[test]
fn trouble_is_told_and_the_old_files_stay() {
    let mut host = Host::new();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    let good = host.files();
    // Where the new configuration would be written first.
    fs::create_dir(host.path("net.d/.02-sluice.conflist.new")).unwrap();
    fs::write(
        host.path("net.d/10-ptp.conflist"),
        PTP.replace("net", "other"),
    )
    .unwrap();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("cannot create"),
        "{state:?}"
    );
    fs::remove_dir(host.path("net.d/.02-sluice.conflist.new")).unwrap();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    host.installed();
    assert_eq!(host.files(), good);
    fs::remove_file(host.path("image")).unwrap();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("image"),
        "{state:?}"
    );
    assert_eq!(host.files(), good);
    // A version that the shim does not speak would fail every pod.
    let mut host = Host::new();
    fs::write(
        host.path("net.d/10-ptp.conflist"),
        PTP.replace("1.0.0", "0.2.0"),
    )
    .unwrap();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("0.2.0"),
        "{state:?}"
    );
    assert!(!host.conf().exists());
}

#[test]
fn leaving_restores_the_directories() {
    let mut host = Host::new();
    fs::write(host.path("net.d/10-ptp.conflist"), PTP).unwrap();
    fs::write(host.path("bin/ptp"), "ptp").unwrap();
    let before = host.files();
    host.installed();
    // What a crash and an agent with another name would have left.
    fs::write(host.path("net.d/.02-sluice.conflist.new"), "half").unwrap();
    fs::write(host.path("bin/.sluice-cni.new"), "half").unwrap();
    fs::copy(host.conf(), host.path("net.d/01-older.conflist")).unwrap();
    assert!(host.look(Goal::Wait).present);
    let state = host.look(Goal::Leave);
    assert!(!state.present && !state.current, "{state:?}");
    assert_eq!(host.files(), before);
    assert!(!host.look(Goal::Leave).present);
    // Withdrawn.
    host.installed();
    // Somebody else's configuration calls the shim: it stays.
    let chained = PTP.replace(
        "{\"type\":\"ptp\"}",
        "{\"type\":\"ptp\"},{\"type\":\"sluice-cni\"}",
    );
    fs::write(host.path("net.d/10-ptp.conflist"), chained).unwrap();
    host.look(Goal::Leave);
    assert!(!host.conf().exists() && host.path("bin/sluice-cni").exists());
}
