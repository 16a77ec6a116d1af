use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, value::RawValue};

use super::*;
use crate::env::Verb;

fn env(container: &str) -> Env {
    let variables = [
        ("CNI_CONTAINERID", container),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
        (
            "CNI_ARGS",
            "K8S_POD_UID=u;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart",
        ),
    ];
    Env::read(Verb::Add, &|name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(value))
    })
    .unwrap()
}

#[test]
fn a_note_says_what_the_agent_needs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state/notes");
    let raw: &RawValue = serde_json::from_str(
        r#"{"cniVersion":"1.0.0","interfaces":[{"name":"veth1","mac":"aa","sandbox":""}],
            "ips":[{"address":"10.0.0.2/24","interface":0},{"address":"fd00::2/64"}]}"#,
    )
    .unwrap();
    let result = PrevResult::parse(raw).unwrap();
    append(&file, "lab", What::Passed, &env("c1"), Some(&result)).unwrap();
    append(&file, "lab", What::Del, &env("c2"), None).unwrap();
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        "{\"verb\":\"PASSED\",\"network\":\"lab\",\"containerId\":\"c1\",\"netns\":\"/run/netns/x\",\"ifname\":\"eth0\",\
         \"podUid\":\"u\",\"podNamespace\":\"shop\",\"podName\":\"cart\",\
         \"interfaces\":[{\"name\":\"veth1\",\"mac\":\"aa\",\"sandbox\":\"\"}],\
         \"addresses\":[{\"cidr\":\"10.0.0.2/24\",\"interface\":0},{\"cidr\":\"fd00::2/64\"}],\"crc\":\"d14c9b6d\"}\n\
         {\"verb\":\"DEL\",\"network\":\"lab\",\"containerId\":\"c2\",\"netns\":\"/run/netns/x\",\"ifname\":\"eth0\",\
         \"podUid\":\"u\",\"podNamespace\":\"shop\",\"podName\":\"cart\",\
         \"interfaces\":[],\"addresses\":[],\"crc\":\"dac88c00\"}\n"
    );
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(
        fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o7777,
        0o700
    );
}

/// Of a line: what is before the checksum has it.
fn is_sealed(line: &str) -> bool {
    let (open, crc) = line.rsplit_once(",\"crc\":\"").unwrap();
    crc == format!("{:08x}\"}}", crc32fast::hash(open.as_bytes()))
}

#[test]
fn a_full_file_takes_no_more_and_tells_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes");
    let env = env("c");
    let mut notes = 0;
    let error = loop {
        match append(&path, "lab", What::Del, &env, None) {
            Ok(()) => notes += 1,
            Err(error) => break error,
        }
        // Soon full.
        if notes == 1 {
            let one = fs::read(&path).unwrap();
            let count = usize::try_from(LARGEST_FILE).unwrap() / one.len() - 3;
            fs::write(&path, one.repeat(count)).unwrap();
        }
    };
    assert!(error.to_string().contains("may have"), "{error}");
    assert!(notes > 2 && notes < 8, "{notes}");
    let full = fs::read_to_string(&path).unwrap();
    assert_eq!(full.matches("LOST").count(), 1);
    assert!(full.lines().all(is_sealed));
    // Once is enough, and nothing comes after it.
    for _ in 0..3 {
        append(&path, "lab", What::Del, &env, None).unwrap_err();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), full);
    // Somebody else's, and much too long.
    let long = vec![b'\n'; usize::try_from(LARGEST_FILE).unwrap() + 100];
    fs::write(&path, &long).unwrap();
    append(&path, "lab", What::Del, &env, None).unwrap_err();
    assert_eq!(fs::metadata(&path).unwrap().len(), long.len() as u64);
}

#[test]
fn a_long_note_goes_without_the_result() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes");
    let interfaces = vec![r#"{"name":"veth"}"#; 2000].join(",");
    let json = format!(r#"{{"cniVersion":"1.0.0","interfaces":[{interfaces}]}}"#);
    let raw: &RawValue = serde_json::from_str(&json).unwrap();
    let result = PrevResult::parse(raw).unwrap();
    append(&file, "lab", What::Passed, &env("c"), Some(&result)).unwrap();
    let note: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(note["interfaces"], Value::Array(Vec::new()));
    assert_eq!(note["containerId"], "c");

    let mut endless = env("c");
    endless.pod.name = "x".repeat(LONGEST);
    assert!(append(&file, "lab", What::Del, &endless, None).is_err());
}

#[test]
fn half_a_line_does_not_spoil_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes");
    fs::write(&file, "{\"verb\":\"DE").unwrap();
    append(&file, "lab", What::Del, &env("c"), None).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(serde_json::from_str::<Value>(lines[1]).is_ok());
}

#[test]
fn the_lock_is_respected_and_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes");
    let held = File::create(&path).unwrap();
    held.lock().unwrap();
    let error = append(&path, "lab", What::Del, &env("c"), None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    held.unlock().unwrap();
    append(&path, "lab", What::Del, &env("c"), None).unwrap();
}

#[test]
fn only_a_plain_file_takes_notes() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    assert!(append(&pipe, "lab", What::Del, &env("c"), None).is_err());
    assert!(append(dir.path(), "lab", What::Del, &env("c"), None).is_err());
    let link = dir.path().join("link");
    symlink(dir.path().join("real"), &link).unwrap();
    assert!(append(&link, "lab", What::Del, &env("c"), None).is_err());
    assert!(!dir.path().join("real").exists());
    let missing = dir.path().join("no/such/dir/notes");
    assert!(append(&missing, "lab", What::Del, &env("c"), None).is_err());
}

#[test]
fn many_at_once_write_whole_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes");
    thread::scope(|scope| {
        for writer in 0..16 {
            let path = &path;
            scope.spawn(move || {
                for line in 0..20 {
                    let env = env(&format!("c{writer}-{line}"));
                    append(path, "lab", What::Del, &env, None).unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 320);
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
}
