//! Network configurations: other people's, and ours made of them.

use serde_json::Value;
use sluice_agent::install::{
    conf::{Entry, List, SHIM},
    survey::{self, Content, File},
};

const OWN: &str = "02-sluice.conflist";

/// A file. Of a name that ends like that of a list, and of one that does not.
pub(super) fn check(input: &[u8]) {
    for name in ["10-a.conflist", "10-a.conf"] {
        let Ok(list) = List::parse(name, input) else {
            continue;
        };
        if list.refusal().is_some() {
            continue;
        }
        let copy = list.with(&entry(), name).expect("a list can be written");
        let again = List::parse(OWN, &copy).expect("our copy can be read");
        assert!(again.is_ours() && again.has_shim());
        assert_eq!(again.copy_of(), Some(name));
        assert_eq!(again.refusal(), None);
        let twice = again.with(&entry(), name).expect("a copy can be written");
        assert_eq!(copy, twice, "a copy of a copy differs");
        same(name, input, &copy);
    }
}

/// Read by another parser, the copy is the original and our entry: once, last.
fn same(name: &str, original: &[u8], copy: &[u8]) {
    let mut original: Value = serde_json::from_slice(original).expect("it was read");
    if !name.ends_with(".conflist") {
        original = serde_json::json!({
            "name": original["name"], "cniVersion": original["cniVersion"], "plugins": [original],
        });
    }
    let mut copy: Value = serde_json::from_slice(copy).expect("it was read");
    let ours = |plugin: &Value| plugin["type"] == SHIM;
    let plugins = |list: &mut Value| match list["plugins"].take() {
        Value::Array(plugins) => plugins,
        other => panic!("plugins are {other}"),
    };
    let mut theirs = plugins(&mut original);
    theirs.retain(|plugin| !ours(plugin));
    let mut all = plugins(&mut copy);
    assert!(
        ours(&all.pop().expect("an entry of ours")),
        "ours is not last"
    );
    assert_eq!(all, theirs);
    assert_eq!(copy, original);
}

/// Files of a directory: a line `= NAME` before each.
pub(super) fn survey(input: &[u8]) {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match (line.strip_prefix(b"= "), files.last_mut()) {
            (Some(name), _) => {
                let name = String::from_utf8_lossy(name.trim_ascii()).into_owned();
                if files.iter().any(|(known, _)| *known == name) {
                    return;
                }
                files.push((name, Vec::new()));
            }
            (None, Some((_, contents))) => contents.extend_from_slice(line),
            (None, None) => {}
        }
    }
    let found = survey::survey(read(&files), OWN);
    let Some(primary) = found.primary else { return };
    assert!(!primary.list.is_ours() && primary.name != OWN);
    if primary.list.refusal().is_some() {
        return;
    }
    // With our copy in its place a runtime takes it, or it is said what else.
    let copy = primary
        .list
        .with(&entry(), &primary.name)
        .expect("a list can be written");
    files.retain(|(name, _)| name != OWN && !found.stale.contains(name));
    files.push((OWN.into(), copy.clone()));
    let first = files.iter().map(|(name, _)| name.as_str()).filter(|name| {
        let mut found = files.iter().filter(|(known, _)| known == name);
        found.any(|(name, contents)| List::parse(name, contents).is_ok())
    });
    let first = first.min().expect("at least ours can be used");
    match &found.before {
        None => assert_eq!(first, OWN),
        Some(before) => assert_eq!((first, before.certain), (before.name.as_str(), true)),
    }
    let later = survey::survey(read(&files), OWN);
    assert_eq!(later.before, found.before);
    let own = later.own.expect("it is there");
    assert_eq!((own.contents, own.list.is_some()), (copy, true));
    assert_eq!(later.primary.map(|one| one.name), Some(primary.name));
}

fn read(files: &[(String, Vec<u8>)]) -> Vec<File> {
    let file = |(name, contents): &(String, Vec<u8>)| File {
        name: name.clone(),
        content: Content::Read {
            contents: contents.clone(),
            mode: 0o600,
        },
    };
    files.iter().map(file).collect()
}

fn entry() -> Entry {
    Entry {
        socket: "/run/sluice/agent.sock".into(),
        namespaces_file: "/run/sluice/namespaces.json".into(),
        notes_file: "/var/lib/sluice/cni-notes.jsonl".into(),
        exclude_namespaces: vec!["kube-system".into()],
        on_agent_down: "known",
        timeout_seconds: 10,
    }
}
