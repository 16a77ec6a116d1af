//! What the agent kept on disk, and somebody else wrote over.

use std::{fs, path::Path};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use sluice_agent::{capture::Journal, control::store::Store};

/// An entry of the journal, of a container `c1`.
pub(super) fn journal(input: &[u8]) {
    let run = Path::new("/run");
    let journal = Journal::open_for_boot(run, "boot").expect("a journal");
    let file = run.join("journal/c1.json");
    fs::write(&file, input).expect("write an entry");
    let entries = journal.load();
    let [entry] = entries.as_slice() else {
        assert!(entries.is_empty());
        assert!(!file.exists(), "what is not believed is left there");
        return;
    };
    assert_eq!(entry.sandbox.container_id, "c1");
    // What was believed is written and read as the same.
    let _ = entry.pod();
    journal.write(entry).expect("write it");
    assert_eq!(journal.load(), entries);
}

/// The last good state. Half of the inputs have a checksum that is right.
#[derive(Clone, PartialEq, prost::Message)]
struct LastGood {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    sha256: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    state: Vec<u8>,
}

/// First byte 0: the file as it is. Otherwise the state in it.
pub(super) fn desired(input: &[u8]) {
    let contents = match input {
        [] => return,
        [0, file @ ..] => file.to_vec(),
        [_, state @ ..] => LastGood {
            version: 1,
            sha256: digest(&SHA256, state).as_ref().to_vec(),
            state: state.to_vec(),
        }
        .encode_to_vec(),
    };
    let store = Store::new(Path::new("/"));
    fs::write(store.path(), contents).expect("write a state");
    let Some(desired) = store.load() else {
        assert!(!store.path().exists(), "what is not believed is left there");
        return;
    };
    store.save(&desired).expect("what was believed can be kept");
    assert_eq!(store.load().as_ref(), Some(&desired));
}
