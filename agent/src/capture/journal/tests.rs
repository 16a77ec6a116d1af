use std::os::unix::fs::PermissionsExt;

use super::*;

fn entry(container_id: &str, order: u64) -> Entry {
    Entry {
        sandbox: Sandbox {
            container_id: container_id.into(),
            ifname: "eth0".into(),
            network: "net".into(),
            netns: "/run/netns/x".into(),
            pod_uid: "u".into(),
            namespace: "a".into(),
            name: "b".into(),
            host_link: Some("veth1".into()),
            addresses: BTreeSet::from(["10.0.0.4".parse().unwrap(), "fd00::4".parse().unwrap()]),
            standalone: false,
        },
        uid: PodUid::new("u"),
        netns: Some(NetnsId {
            path: "/run/netns/x".into(),
            device: 4,
            inode: 17,
        }),
        order,
        link: None,
        digest: None,
        intent: None,
    }
}

#[test]
fn entries_come_back_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_for_boot(directory.path(), "boot").unwrap();
    let (old, new) = (entry("b", 1), entry("a", 2));
    journal.write(&new).unwrap();
    journal.write(&old).unwrap();
    assert_eq!(journal.load(), vec![old.clone(), new]);
    journal.remove("a").unwrap();
    journal.remove("a").unwrap();
    assert_eq!(journal.load(), vec![old]);
    let mode = fs::metadata(journal.path("b"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn entries_from_before_networks_were_kept_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_for_boot(directory.path(), "boot").unwrap();
    journal.write(&entry("a", 1)).unwrap();
    let path = journal.path("a");
    let stored = fs::read_to_string(&path).unwrap();
    let old = stored.replace(r#""network":"net","#, "");
    assert_ne!(stored, old);
    fs::write(&path, old).unwrap();
    assert_eq!(journal.load()[0].sandbox.network, "");
}

#[test]
fn entries_of_another_boot_are_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_for_boot(directory.path(), "one").unwrap();
    journal.write(&entry("a", 1)).unwrap();
    let journal = Journal::open_for_boot(directory.path(), "two").unwrap();
    assert_eq!(journal.load(), vec![]);
    assert_eq!(
        fs::read_dir(directory.path().join("journal"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn without_the_boots_id_nothing_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let id = directory.path().join("boot_id");
    assert_eq!(boot(Path::new(BOOT_ID)), boot(Path::new(BOOT_ID)));
    for unreadable in [None, Some(""), Some(" \n")] {
        if let Some(text) = unreadable {
            fs::write(&id, text).unwrap();
        }
        let open = || Journal::open_for_boot(directory.path(), &boot(&id)).unwrap();
        let journal = open();
        journal.write(&entry("a", 1)).unwrap();
        assert_eq!(journal.load().len(), 1);
        assert_eq!(open().load(), vec![]);
    }
}

#[test]
fn files_of_nobody_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_for_boot(directory.path(), "boot").unwrap();
    journal.write(&entry("a", 1)).unwrap();
    journal.write(&entry("b", 2)).unwrap();
    fs::write(journal.path(".a").with_extension("json.new"), "").unwrap();
    fs::write(journal.directory.join("odd"), "").unwrap();
    journal.tidy(|id| id == "b");
    let left = fs::read_dir(&journal.directory).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["b.json"]);
}

#[test]
fn broken_entries_do_not_stop_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open_for_boot(directory.path(), "boot").unwrap();
    let good = entry("good", 1);
    journal.write(&good).unwrap();
    let folder = directory.path().join("journal");
    let whole = fs::read(journal.path("good")).unwrap();
    fs::write(folder.join("half.json"), &whole[..whole.len() / 2]).unwrap();
    fs::write(folder.join("empty.json"), b"").unwrap();
    fs::write(folder.join("other.json"), &whole).unwrap();
    fs::write(folder.join(".good.json.new"), b"left by a crash").unwrap();
    fs::write(folder.join("big.json"), vec![b' '; 70_000]).unwrap();
    fs::create_dir(folder.join("folder.json")).unwrap();
    assert_eq!(journal.load(), vec![good.clone()]);
    assert_eq!(journal.load(), vec![good]);
}

#[test]
fn what_was_applied_is_known_by_its_digest() {
    let mut entry = entry("a", 1);
    assert_eq!(entry.pod(), None);
    let pod = Pod {
        link: Link {
            index: 7,
            name: "veth1".into(),
        },
        addresses: entry.sandbox.addresses.clone(),
    };
    let uid = PodUid::new("u").unwrap();
    assert!(entry.applied(&uid, &pod));
    assert!(!entry.applied(&uid, &pod));
    assert_eq!(entry.pod(), Some(pod));
    entry.sandbox.addresses.clear();
    assert_eq!(entry.pod(), None);
}
