//! Network configurations: other people's, and ours made of them.

use serde_json::Value;
use sluice_agent::install::{
    chain,
    conf::{Entry, List, Mark, SHIM},
    discover::Takes,
    survey::{self, Content, File, Listing, Look, Survey},
};

const OWN: &str = "02-sluice.conflist";
const LIST: &str = "10-a.conflist";

/// The shim in somebody else's file, and out of it again.
pub(super) fn chained(input: &[u8]) {
    let Ok(list) = List::parse(LIST, input) else {
        return;
    };
    let text = std::str::from_utf8(input).expect("JSON was read");
    let without = chain::without(text).expect("a list was read");
    if list.has_shim() {
        // By somebody else's hand: it is gone from where it was.
        let left = List::parse(LIST, without.as_bytes());
        assert!(left.is_err() || left.is_ok_and(|left| !left.has_shim()));
        return;
    }
    assert_eq!(without, text, "there was nothing to take out");
    let mark = Mark::ChainedTo(LIST.into());
    let ours = entry().marked(&mark).expect("an entry can be written");
    let there = chain::chained(text, &ours).expect("there is a plugin to be chained to");
    assert_eq!(chain::chained(&there, &ours).as_ref(), Ok(&there));
    let back = chain::without(&there).expect("what we wrote can be read");
    assert_eq!(back, text, "not as it was");
    let read = List::parse(LIST, there.as_bytes()).expect("a runtime can read it");
    assert_eq!((read.mark(), read.is_ours()), (Some(&mark), false));
    assert_eq!(read.refusal(), list.refusal());
    same(LIST, input, there.as_bytes());
}

/// A file. Of a name that ends like that of a list, and of one that does not.
pub(super) fn copied(input: &[u8]) {
    for name in [LIST, "10-a.conf"] {
        let Ok(list) = List::parse(name, input) else {
            continue;
        };
        if list.refusal().is_some() {
            continue;
        }
        let copy = copy(&list, name);
        let again = List::parse(OWN, &copy).expect("our copy can be read");
        assert!(again.is_ours() && again.has_shim());
        assert_eq!(again.copy_of(), Some(name));
        assert_eq!(again.refusal(), None);
        assert_eq!(copy, self::copy(&again, name), "a copy of a copy differs");
        same(name, input, &copy);
    }
}

fn copy(list: &List, of: &str) -> Vec<u8> {
    let copy = list.with(&entry(), &Mark::CopyOf(of.into()));
    copy.expect("a list can be written")
}

/// Read by another parser, `made` is the original and our entry: once, last.
fn same(name: &str, original: &[u8], made: &[u8]) {
    let mut original: Value = serde_json::from_slice(original).expect("it was read");
    if !name.ends_with(".conflist") {
        original = serde_json::json!({
            "name": original["name"], "cniVersion": original["cniVersion"], "plugins": [original],
        });
    }
    let mut made: Value = serde_json::from_slice(made).expect("it was read");
    let mut theirs = plugins(&mut original);
    theirs.retain(|plugin| !is_shim(plugin));
    let mut all = plugins(&mut made);
    let last = all.pop().expect("an entry of ours");
    assert!(is_shim(&last), "ours is not last");
    assert_eq!(all, theirs);
    assert_eq!(made, original);
}

fn plugins(list: &mut Value) -> Vec<Value> {
    match list["plugins"].take() {
        Value::Array(plugins) => plugins,
        other => panic!("plugins are {other}"),
    }
}

/// Runtimes find `type` in any case.
fn is_shim(plugin: &Value) -> bool {
    let mut keys = plugin.as_object().into_iter().flatten();
    let mut other = || keys.find(|(key, _)| key.eq_ignore_ascii_case("type"));
    let exact = plugin["type"].as_str();
    exact.or_else(|| other()?.1.as_str()) == Some(SHIM)
}

/// Files of a directory: a line `= NAME` before each.
pub(super) fn directory(input: &[u8]) {
    let Some(mut files) = files(input) else {
        return;
    };
    let found = judged(&files);
    let Some(primary) = found.primary else { return };
    assert!(!primary.list.is_ours() && primary.name != OWN);
    if primary.list.refusal().is_some() {
        return;
    }
    // With our copy in its place a runtime takes it, or it is said what else.
    let copy = copy(&primary.list, &primary.name);
    files.retain(|(name, _)| name != OWN && !found.stale.contains(name));
    files.push((OWN.into(), copy.clone()));
    let first = first(&files);
    match &found.before {
        None => assert_eq!(first, OWN),
        Some(before) if before.doubt.is_none() => assert_eq!(first, before.name),
        Some(before) => assert!(before.name.as_str() < first),
    }
    let later = judged(&files);
    assert_eq!(later.before, found.before);
    let own = later.own.expect("it is there");
    assert_eq!((own.contents, own.list.is_some()), (copy, true));
    assert_eq!(later.primary.map(|one| one.name), Some(primary.name));
}

fn files(input: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        match (line.strip_prefix(b"= "), files.last_mut()) {
            (Some(name), _) => {
                let name = String::from_utf8_lossy(name.trim_ascii()).into_owned();
                if files.iter().any(|(known, _)| *known == name) {
                    return None;
                }
                files.push((name, Vec::new()));
            }
            (None, Some((_, contents))) => contents.extend_from_slice(line),
            (None, None) => {}
        }
    }
    Some(files)
}

/// The first that a runtime can use.
fn first(files: &[(String, Vec<u8>)]) -> &str {
    let usable = files
        .iter()
        .filter(|(name, contents)| List::parse(name, contents).is_ok());
    let first = usable.map(|(name, _)| name.as_str()).min();
    first.expect("at least ours can be used")
}

fn judged(files: &[(String, Vec<u8>)]) -> Survey {
    let file = |(name, contents): &(String, Vec<u8>)| File {
        name: name.clone(),
        content: Content::Read {
            contents: contents.clone(),
            mode: 0o600,
            link: false,
        },
    };
    let listing = Listing {
        files: files.iter().map(file).collect(),
        ..Listing::default()
    };
    let look = Look {
        own: OWN,
        primary: None,
        takes: &Takes::default(),
    };
    survey::survey(listing, look)
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
