use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::install::conf::SHIM;
use crate::install::{
    conf::{List, tests::entry},
    host::Host as Root,
};

mod corpus;

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
    installer_of(dir, Mode::Own)
}

fn wanted(dir: &Path, mode: Mode) -> Wanted {
    Wanted {
        host: Root::new(Path::new("/")),
        conf_dir: Some(dir.join("net.d")),
        bin_dirs: vec![dir.join("bin")],
        conf_name: match mode {
            Mode::Standalone => "zzz-sluice-cni.conf".into(),
            Mode::Own | Mode::Chained => "02-sluice.conflist".into(),
        },
        mode,
        primary: None,
    }
}

fn installer_of(dir: &Path, mode: Mode) -> Installer {
    Installer::new(wanted(dir, mode), entry(), &dir.join("image"))
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
    // Broken, it stops containerd.
    fs::write(host.path("net.d/00-broken.conf"), "{").unwrap();
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("00-broken.conf"),
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

const CONFLIST: &str = "{\n  \"cniVersion\": \"1.0.0\", \"x\": 1.50e+3,\n  \"name\": \"net\",\n  \"plugins\": [\n    {\"type\": \"ptp\"}\n  ]\n}\n";

impl Host {
    fn write(&self, name: &str, text: &str) {
        fs::write(self.path("net.d").join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path("net.d").join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let files = self.files().into_iter().map(|(name, _, _)| name);
        files
            .filter_map(|name| Some(name.strip_prefix("net.d/")?.to_owned()))
            .collect()
    }

    fn switch(&mut self, mode: Mode) {
        self.installer = installer_of(self.dir.path(), mode);
    }

    #[track_caller]
    fn refuses(&mut self, why: &str) {
        let state = self.look(Goal::Install);
        assert!(!state.current && state.message.contains(why), "{state:?}");
    }
}

#[test]
fn chained_the_owners_list_gets_our_entry_and_is_restored_byte_for_byte() {
    let mut host = Host::new();
    host.switch(Mode::Chained);
    host.refuses("waited for");
    host.write("10-ptp.conflist", CONFLIST);
    fs::set_permissions(
        host.path("net.d/10-ptp.conflist"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    let before = host.files();
    host.installed();
    let text = host.text("10-ptp.conflist");
    assert!(
        text.starts_with("{\n  \"cniVersion\": \"1.0.0\", \"x\": 1.50e+3,"),
        "{text}"
    );
    assert!(
        text.contains(
            "{\"type\": \"ptp\"},\n    {\"type\":\"sluice-cni\",\"chainedTo\":\"10-ptp.conflist\""
        ),
        "{text}"
    );
    let mode = fs::metadata(host.path("net.d/10-ptp.conflist"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    let good = host.files();
    host.installed();
    host.switch(Mode::Chained);
    host.installed();
    assert_eq!(host.files(), good);
    // Its owner writes it anew.
    host.write("10-ptp.conflist", &CONFLIST.replace("ptp", "other"));
    host.installed();
    assert!(host.text("10-ptp.conflist").contains("sluice-cni"));
    host.look(Goal::Leave);
    assert_eq!(
        host.text("10-ptp.conflist"),
        CONFLIST.replace("ptp", "other")
    );
    host.write("10-ptp.conflist", CONFLIST);
    let without_shim: Vec<_> = before
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("bin/"))
        .collect();
    assert_eq!(host.files(), without_shim);
}

#[test]
fn a_single_plugin_becomes_a_list_and_itself_again() {
    let single = "{ \"cniVersion\": \"0.4.0\", \"name\": \"net\",\n\"type\": \"ptp\" }";
    let mut host = Host::new();
    host.switch(Mode::Chained);
    host.write("10-ptp.conf", single);
    let before = host.files();
    for _ in 0..2 {
        host.installed();
        assert_eq!(host.names(), ["10-ptp.conf.sluice_bak", "10-ptp.conflist"]);
        let list = List::parse("a.conflist", host.text("10-ptp.conflist").as_bytes()).unwrap();
        assert_eq!(
            (list.name().as_str(), list.mark()),
            ("net", Some(&Mark::ChainedTo("10-ptp.conf".into())))
        );
        host.switch(Mode::Chained);
    }
    host.look(Goal::Leave);
    assert_eq!(host.names(), ["10-ptp.conf"]);
    assert_eq!(
        host.files(),
        before
            .into_iter()
            .filter(|(name, ..)| !name.starts_with("bin/"))
            .collect::<Vec<_>>()
    );
    // Interrupted before the old one was put aside.
    host.installed();
    host.write("10-ptp.conf", single);
    host.switch(Mode::Chained);
    host.installed();
    assert_eq!(host.names(), ["10-ptp.conf.sluice_bak", "10-ptp.conflist"]);
    // Its owner changed the list meanwhile: that stays, and only our entry goes.
    let text = host.text("10-ptp.conflist").replace("0.4.0", "1.0.0");
    host.write("10-ptp.conflist", &text);
    host.look(Goal::Leave);
    assert_eq!(host.names(), ["10-ptp.conflist"]);
    assert!(
        !host.text("10-ptp.conflist").contains(SHIM)
            && host.text("10-ptp.conflist").contains("1.0.0")
    );
    // The list that it would become is another's.
    host.write("10-ptp.conf", single);
    host.refuses("which is there already");
    assert!(!host.text("10-ptp.conflist").contains(SHIM));
}

#[test]
fn what_is_a_link_is_copied_and_never_written_through() {
    let mut host = Host::new();
    let target = host.path("elsewhere");
    fs::write(&target, CONFLIST).unwrap();
    std::os::unix::fs::symlink(&target, host.path("net.d/10-ptp.conflist")).unwrap();
    host.installed();
    assert!(host.conf().exists());
    host.switch(Mode::Chained);
    host.refuses("it is a link");
    assert_eq!(fs::read_to_string(&target).unwrap(), CONFLIST);
}

#[test]
fn another_mode_cleans_up_after_the_one_before() {
    let mut host = Host::new();
    host.write(
        "10-ptp.conf",
        r#"{"cniVersion":"1.0.0","name":"net","type":"ptp"}"#,
    );
    let before = host.names();
    for mode in [
        Mode::Chained,
        Mode::Own,
        Mode::Standalone,
        Mode::Chained,
        Mode::Standalone,
        Mode::Own,
    ] {
        host.switch(mode);
        host.installed();
        let wanted: &[&str] = match mode {
            Mode::Own => &["02-sluice.conflist", "10-ptp.conf"],
            Mode::Chained => &["10-ptp.conf.sluice_bak", "10-ptp.conflist"],
            Mode::Standalone => &["10-ptp.conf", "zzz-sluice-cni.conf"],
        };
        assert_eq!(host.names(), wanted, "{mode:?}");
    }
    // Whatever the mode, what another one left goes too.
    for (made, left) in [
        (Mode::Chained, Mode::Own),
        (Mode::Own, Mode::Standalone),
        (Mode::Standalone, Mode::Chained),
    ] {
        host.switch(made);
        host.installed();
        host.switch(left);
        assert!(!host.look(Goal::Leave).present, "{made:?}");
        assert_eq!(host.names(), before, "{made:?}");
    }
}

#[test]
fn a_broken_original_is_not_left_for_another_network() {
    let mut host = Host::new();
    host.write("05-cilium.conflist", CONFLIST);
    host.write("10-flannel.conflist", &CONFLIST.replace("net", "flannel"));
    host.installed();
    let good = host.text("02-sluice.conflist");
    for broken in ["", "{", "{\"name\""] {
        host.write("05-cilium.conflist", broken);
        let state = host.look(Goal::Install);
        assert!(
            state.current && state.message.contains("not usable any more"),
            "{state:?}"
        );
        assert_eq!(host.text("02-sluice.conflist"), good);
    }
    // Gone, it has left the place to the next one.
    fs::rename(
        host.path("net.d/05-cilium.conflist"),
        host.path("net.d/05-cilium.conflist.cilium_bak"),
    )
    .unwrap();
    host.installed();
    assert!(host.text("02-sluice.conflist").contains("flannel"));
    fs::rename(
        host.path("net.d/10-flannel.conflist"),
        host.path("net.d/10-flannel.conflist.cilium_bak"),
    )
    .unwrap();
    let state = host.look(Goal::Install);
    assert!(
        state.current
            && state
                .message
                .contains("Cilium (cni.exclusive=true) renames"),
        "{state:?}"
    );
}

#[test]
fn cilium_in_its_exclusive_mode_is_recognised() {
    let mut host = Host::new();
    host.write("05-cilium.conflist", CONFLIST);
    host.installed();
    for _ in 0..6 {
        fs::rename(
            host.conf(),
            host.path("net.d/02-sluice.conflist.cilium_bak"),
        )
        .unwrap();
        let state = host.look(Goal::Install);
        assert!(
            state
                .message
                .contains("Cilium (cni.exclusive=true) renames every other"),
            "{state:?}"
        );
    }
    // The fight is ended, and said.
    let state = host.look(Goal::Install);
    assert!(
        !state.current && state.message.contains("again and again"),
        "{state:?}"
    );
    host.look(Goal::Leave);
    assert_eq!(host.names(), ["05-cilium.conflist"]);
}

#[test]
fn the_shim_is_where_the_runtime_finds_it_first() {
    let mut host = Host::new();
    host.write("10-ptp.conflist", CONFLIST);
    let dir = host.dir.path().to_owned();
    let mut places = wanted(&dir, Mode::Own);
    // /proc takes no file, whoever asks.
    places.bin_dirs = vec!["/proc/sys".into(), dir.join("bin"), dir.join("nowhere")];
    host.installer = Installer::new(places.clone(), entry(), &dir.join("image"));
    let state = host.look(Goal::Install);
    assert!(
        state.current && state.message.contains("/proc/sys") && state.message.contains("nowhere"),
        "{state:?}"
    );
    // Another one in a folder before, that cannot be replaced.
    fs::create_dir_all(dir.join("early/.sluice-cni.new")).unwrap();
    fs::write(dir.join("early/sluice-cni"), "another").unwrap();
    places.bin_dirs = vec![dir.join("early"), dir.join("bin")];
    host.installer = Installer::new(places, entry(), &dir.join("image"));
    host.refuses("first, which is not this agent's");
}

#[test]
fn a_runtime_that_takes_every_network_is_chained_to_and_not_given_a_copy() {
    let mut host = Host::new();
    let root = host.dir.path().to_owned();
    fs::create_dir_all(root.join("etc/containerd")).unwrap();
    let config = "[plugins.cri.cni]\nconf_dir='/net.d'\nbin_dir='/bin'\nmax_conf_num=2";
    fs::write(root.join("etc/containerd/config.toml"), config).unwrap();
    host.write("10-ptp.conflist", CONFLIST);
    let mut wanted = wanted(&root, Mode::Own);
    wanted.host = Root::new(&root.canonicalize().unwrap());
    wanted.conf_dir = None;
    wanted.bin_dirs.clear();
    host.installer = Installer::new(wanted.clone(), entry(), &root.join("image"));
    host.refuses("--cni-mode chained");
    wanted.mode = Mode::Chained;
    host.installer = Installer::new(wanted, entry(), &root.join("image"));
    host.installed();
    assert!(
        host.look(Goal::Install)
            .source
            .contains("/etc/containerd/config.toml")
    );
    // The runtime moves, and we with it.
    fs::create_dir(root.join("other.d")).unwrap();
    fs::write(root.join("other.d/10-ptp.conflist"), CONFLIST).unwrap();
    fs::write(
        root.join("etc/containerd/config.toml"),
        config.replace("/net.d", "/other.d"),
    )
    .unwrap();
    host.installed();
    assert_eq!(host.text("10-ptp.conflist"), CONFLIST);
    assert!(
        fs::read_to_string(root.join("other.d/10-ptp.conflist"))
            .unwrap()
            .contains(SHIM)
    );
}

#[test]
fn alone_it_is_never_the_pods_own_network() {
    let mut host = Host::new();
    host.switch(Mode::Standalone);
    host.installed();
    assert_eq!(host.names(), ["zzz-sluice-cni.conf"]);
    let root = host.dir.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
    let mut wanted = wanted(&root, Mode::Standalone);
    wanted.host = Root::new(&root);
    wanted.conf_dir = Some("/etc/cni/net.d/".into());
    wanted.bin_dirs = vec!["/bin".into()];
    host.installer = Installer::new(wanted, entry(), &root.join("image"));
    host.refuses("network of every pod");
    fs::write(
        root.join("etc/cni/net.d/00-multus.conf"),
        r#"{"name":"m","type":"multus"}"#,
    )
    .unwrap();
    host.installed();
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn five_hundred_rewrites_leave_nothing_behind() {
    for mode in [Mode::Own, Mode::Chained] {
        let mut host = Host::new();
        host.switch(mode);
        let (mut files, mut most) = (0, 0);
        for number in 0..250 {
            host.write(
                "10-ptp.conflist",
                &CONFLIST.replace("ptp", &format!("p{number}")),
            );
            // Each agent has its own limit of repairs.
            host.switch(mode);
            host.installed();
            let names = host.names().len();
            if number == 0 {
                (files, most) = (names, descriptors());
            }
            assert_eq!(names, files);
        }
        // Other tests of this process hold some at times.
        assert!(
            descriptors() < most + 100,
            "{} and then {}",
            most,
            descriptors()
        );
    }
}
