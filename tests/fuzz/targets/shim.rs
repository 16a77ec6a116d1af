//! The shim, whole: environment and standard input, and the file that it reads
//! while the agent does not answer. Here nobody ever does.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, time::Instant};

use serde_json::Value;
use sluice_agent::cni::notes::line::{self, Line};
use sluice_cni::Ending;

const NAMESPACES: &str = "/namespaces.json";
const NOTES: &str = "/notes/cni-notes.jsonl";
/// Enrolled, as the file says; nothing of it may start while nobody answers.
const ENROLLED: &[u8] = b"K8S_POD_NAMESPACE=shop";

/// Lines `NAME=VALUE`, an empty line, and standard input.
pub(super) fn check(input: &[u8]) {
    let (environment, stdin) = halves(input);
    let variables: Vec<(&[u8], &[u8])> = environment
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            Some((&line[..at], &line[at + 1..]))
        })
        .collect();
    let list = r#"{"enrolled":["shop"],"notEnrolled":["plain"]}"#;
    fs::write(NAMESPACES, list).expect("write the list of namespaces");
    let _ = fs::remove_file(NOTES);
    let get = |name: &str| variables.iter().find(|(key, _)| *key == name.as_bytes());
    let ending = run(|name| get(name).map(|(_, value)| value.to_vec()), stdin);
    let conf: Option<Value> = serde_json::from_slice(stdin).ok();
    // Of what it does not read the shim takes more than our parser, as runtimes
    // do: what is no UTF-8, for example. It hands that on as it is.
    if ending.failed || conf.is_some() {
        judge(&ending);
    }
    let is = |name: &str, value: &[u8]| get(name).is_some_and(|(_, is)| *is == value);
    if !ending.failed && is("CNI_COMMAND", b"ADD") {
        if let Some(conf) = &conf {
            passed(&ending.stdout, conf);
        }
        let arguments = get("CNI_ARGS").map_or(&b""[..], |(_, value)| value);
        let enrolled = arguments
            .split(|byte| *byte == b';')
            .any(|one| one == ENROLLED);
        // Unless the configuration excludes it, however that is written.
        let said = |text: &[u8]| stdin.windows(text.len()).any(|part| part == text);
        let plain = said(b"shop") || said(b"\\");
        assert!(!enrolled || plain, "an enrolled pod passed unseen");
    }
    noted();
}

/// What there is in the list of namespaces.
pub(super) fn namespaces(input: &[u8]) {
    fs::write(NAMESPACES, input).expect("write the list of namespaces");
    let add = |namespace: &str| {
        let variables = [
            ("CNI_COMMAND", "ADD".to_owned()),
            ("CNI_CONTAINERID", "c1".into()),
            ("CNI_NETNS", "/netns".into()),
            ("CNI_IFNAME", "eth0".into()),
            ("CNI_PATH", "/bin".into()),
            (
                "CNI_ARGS",
                format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=p"),
            ),
        ];
        let stdin = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","socket":"/none","namespacesFile":"{NAMESPACES}","notesFile":"{NOTES}","prevResult":{{"cniVersion":"1.0.0"}}}}"#
        );
        let _ = fs::remove_file(NOTES);
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name);
        let ending = run(
            |name| get(name).map(|(_, value)| value.clone().into()),
            stdin.as_bytes(),
        );
        judge(&ending);
        !ending.failed
    };
    // It is known to be free of enrolled pods only if the list says so, whole.
    let list: Option<Value> = serde_json::from_slice(input).ok();
    let says = |key: &str, name: &str| {
        let names = list.as_ref().and_then(|list| list.get(key)?.as_array());
        names.is_some_and(|names| names.iter().any(|one| one == name))
    };
    for namespace in ["shop", "plain"] {
        let free = says("notEnrolled", namespace) && !says("enrolled", namespace);
        assert!(free || !add(namespace), "{namespace} passed");
    }
}

fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let middle = input.windows(2).position(|pair| pair == b"\n\n");
    middle.map_or((input, b""), |at| (&input[..at], &input[at + 2..]))
}

fn run(variable: impl Fn(&str) -> Option<Vec<u8>>, stdin: &[u8]) -> Ending {
    let lookup = |name: &str| variable(name).map(OsString::from_vec);
    sluice_cni::run(&lookup, Instant::now(), |_| Ok(stdin.to_vec()))
}

/// A runtime can read the answer, whatever it is.
fn judge(ending: &Ending) {
    if !ending.failed {
        assert!(ending.stdout.is_empty() || json(&ending.stdout).is_object());
        return;
    }
    let error = json(&ending.stdout);
    let code = error["code"].as_u64().expect("a code");
    assert!(
        (1..=7).contains(&code)
            || code == 11
            || (50..=51).contains(&code)
            || (100..=102).contains(&code),
        "code {code}"
    );
    assert!(
        error["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
        "{error}"
    );
    assert!(
        error["cniVersion"].is_string() && error["details"].is_string(),
        "{error}"
    );
    assert!(
        ending.stdout.len() < 16 << 10,
        "an error of {} bytes",
        ending.stdout.len()
    );
}

/// ADD hands on what the plugin before it made: nothing is lost, nothing else
/// is there but the version and what it has of its own.
fn passed(stdout: &str, conf: &Value) {
    let (mut result, mut given) = (json(stdout), conf["prevResult"].clone());
    assert_eq!(result["cniVersion"], conf["cniVersion"]);
    for one in [&mut result, &mut given] {
        one.as_object_mut().expect("a result").remove("cniVersion");
        let addresses = one.get_mut("ips").and_then(Value::as_array_mut);
        for address in addresses
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            address.remove("version");
        }
    }
    assert_eq!(result, given);
}

/// One line was noted, whole; of a sandbox that is gone the agent believes it.
fn noted() {
    let Ok(text) = fs::read(NOTES) else { return };
    assert!(text.ends_with(b"\n"), "half a note");
    let lines: Vec<Line> = line::parse(&text).map(|(_, line)| line).collect();
    match lines.as_slice() {
        [Line::Del { .. } | Line::Passed(_) | Line::Nothing] => {}
        // What a pod is said to have may be nonsense: the agent says so.
        [Line::Rejected(why)] => {
            let passed = text.starts_with(br#"{"verb":"PASSED""#);
            assert!(passed && !why.contains("checksum"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
