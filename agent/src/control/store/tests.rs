use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sluice_kernel::model::PodUid;

use super::*;
use crate::desired::{Intent, Revision, Wanted};

fn desired() -> Desired {
    let uid = PodUid::new("u1").unwrap();
    let intent = Intent {
        uid: uid.clone(),
        namespace: "default".into(),
        name: "web".into(),
        wanted: Wanted::Captured,
        hash: "h1".into(),
        addresses: BTreeSet::from(["10.0.0.4".parse().unwrap()]),
        static_uid: Some("abc".into()),
        host_ports: BTreeSet::from([80]),
        host_network: false,
        message: String::new(),
    };
    Desired {
        origin: Origin::Controller,
        revision: Some(Revision {
            source: "cluster".into(),
            pods: 7,
            namespaces: 3,
        }),
        pods: BTreeMap::from([(uid, intent)]),
        namespaces: BTreeMap::from([("default".into(), true)]),
        leave: false,
    }
}

#[test]
fn what_was_kept_comes_back_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    assert_eq!(store.load(), None);
    store.save(&desired()).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.origin, Origin::Disk);
    assert_eq!(loaded.pods, desired().pods);
    assert_eq!(loaded.namespaces, desired().namespaces);
    assert_eq!(loaded.revision, desired().revision);
    assert!(!loaded.leave);
}

#[test]
fn a_node_that_was_told_to_leave_knows_it_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    let leaving = Desired {
        leave: true,
        ..desired()
    };
    store.save(&leaving).unwrap();
    assert!(store.load().unwrap().leave);
}

#[test]
fn a_corrupt_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path());
    store.save(&desired()).unwrap();
    let mut bytes = fs::read(&store.path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&store.path, &bytes).unwrap();
    assert_eq!(store.load(), None);
    assert!(!store.path.exists());
    assert_eq!(
        fs::read(dir.path().join("desired.pb.corrupt")).unwrap(),
        bytes
    );
    store.save(&desired()).unwrap();
    assert!(store.load().is_some());
}

#[test]
fn a_failed_write_keeps_what_was_there_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Store::new(&missing).save(&desired()).unwrap_err();
    let source = error.source().unwrap().to_string();
    assert!(source.contains("missing/.desired.pb"), "{source}");
}

#[test]
fn other_versions_are_not_guessed_at() {
    let bytes = LastGood {
        version: 2,
        sha256: vec![],
        state: vec![],
    }
    .encode_to_vec();
    assert!(matches!(decode(&bytes), Err(Corrupt::Version(2))));
}

proptest! {
    #[test]
    fn no_flipped_bit_is_believed(index in any::<proptest::sample::Index>(), bit in 0u8..8) {
        let mut bytes = encode(&desired()).unwrap();
        let index = index.index(bytes.len());
        bytes[index] ^= 1 << bit;
        if let Ok(read) = decode(&bytes) {
            // Fields that nobody reads may differ; the state may not.
            prop_assert_eq!(read.pods, desired().pods);
        }
    }

    #[test]
    fn no_truncated_file_is_believed(index in any::<proptest::sample::Index>()) {
        let bytes = encode(&desired()).unwrap();
        prop_assert!(decode(&bytes[..index.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
