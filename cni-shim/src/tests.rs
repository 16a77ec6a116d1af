use std::ffi::OsString;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn run_with(variables: &[(&str, &str)], stdin: &[u8]) -> Ending {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(value))
    };
    run(&lookup, Instant::now(), |_| Ok(stdin.to_vec()))
}

fn code(ending: &Ending) -> u64 {
    assert!(ending.failed, "{ending:?}");
    let error: Value = serde_json::from_str(&ending.stdout).unwrap();
    let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(error["cniVersion"].is_string() && error["msg"].is_string());
    assert!(error["details"].is_string());
    let code = error["code"].as_u64().unwrap();
    assert!(code != 999 && code != 8);
    code
}

#[test]
fn run_by_hand_it_says_what_it_is() {
    for variables in [&[][..], &[("CNI_COMMAND", "")]] {
        let ending = run_with(variables, b"garbage");
        assert_eq!(ending.stdout, "");
        assert!(ending.stderr.contains("1.1.0") && !ending.failed);
    }
    for version in Version::ALL {
        assert!(ABOUT.contains(version.as_str()));
    }
}

#[test]
fn version_needs_nothing_and_repeats_what_it_was_asked() {
    let all = r#""supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
    for (stdin, version) in [
        (r#"{"cniVersion":"0.3.1"}"#, "0.3.1"),
        (r#"{"cniVersion":"2.0.0"}"#, "2.0.0"),
        (r#"{"cniVersion":"\n"}"#, "1.1.0"),
        ("garbage", "1.1.0"),
        ("", "1.1.0"),
    ] {
        let ending = run_with(&[("CNI_COMMAND", "VERSION")], stdin.as_bytes());
        assert!(!ending.failed);
        assert_eq!(
            ending.stdout,
            format!(r#"{{"cniVersion":"{version}",{all}"#)
        );
    }
    let lookup = |name: &str| (name == "CNI_COMMAND").then(|| OsString::from("VERSION"));
    let unread = run(&lookup, Instant::now(), |_| {
        Err(CniError::new(Code::Io, "no input"))
    });
    assert!(!unread.failed);
}

#[test]
fn an_unknown_command_is_named() {
    let ending = run_with(&[("CNI_COMMAND", "add")], b"{}");
    assert_eq!(code(&ending), 4);
    assert!(ending.stdout.contains("add"));
}

#[test]
fn status_and_gc_came_with_1_1_0() {
    for verb in ["STATUS", "GC"] {
        let variables = [("CNI_COMMAND", verb), ("CNI_PATH", "/x")];
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let stdin = format!(r#"{{"cniVersion":"{version}","name":"n"}}"#);
            let ending = run_with(&variables, stdin.as_bytes());
            assert_eq!(code(&ending), 1, "{verb} {version}");
            assert!(
                ending
                    .stdout
                    .contains(&format!(r#""cniVersion":"{version}""#))
            );
        }
        assert_eq!(code(&run_with(&[("CNI_COMMAND", verb)], b"")), 4);
    }
}

const VARIABLES: [&str; 9] = [
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_PATH",
    "CNI_ARGS",
    "CNI_NETNS_OVERRIDE",
    "TRACEPARENT",
    "BAGGAGE",
];

/// A value for a variable that is right, nearly right or anything.
fn value() -> impl Strategy<Value = Option<OsString>> {
    use std::os::unix::ffi::OsStringExt as _;
    prop_oneof![
        Just(None),
        "ADD|DEL|CHECK|VERSION|STATUS|GC|eth0|c1|/run/netns/none|/proc/self/ns/net|1|[ -~]{0,20}"
            .prop_map(|text| Some(text.into())),
        "(K8S_POD_(UID|NAME|NAMESPACE)=(a|kube-system)?;?){0,4}".prop_map(|text| Some(text.into())),
        proptest::collection::vec(1..=255_u8, 0..20)
            .prop_map(|bytes| Some(OsString::from_vec(bytes))),
    ]
}

/// A configuration that is right but for what hostility adds. It names files
/// that cannot be there, so that nothing is touched.
fn stdin() -> impl Strategy<Value = Vec<u8>> {
    let json = "null|true|7|-1|1e400|\"\"|\"1.0.0\"|\"0.4.0\"|\"1.1.0\"|\"[ -~]{0,9}\"|\\[\\]|\\{\\}|\\[1\\]|\\{\"ips\":\\[\\{\"address\":\"::1/64\"\\}\\]\\}";
    let key = "cniVersion|name|prevResult|excludeNamespaces|onAgentDown|timeoutSeconds|cni\\.dev/valid-attachments|x";
    let nowhere = r#""socket":"/proc/no/s","notesFile":"/proc/no/n","namespacesFile":"/proc/no/f""#;
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        proptest::collection::vec((key, json), 0..6).prop_map(move |fields| {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("\"{key}\":{value},"))
                .collect();
            format!("{{{}{nowhere}}}", fields.concat()).into_bytes()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_comes_the_answer_is_one(
        command in "ADD|DEL|CHECK|STATUS|GC",
        values in proptest::collection::vec(value(), VARIABLES.len()),
        sound in any::<bool>(),
        stdin in stdin(),
    ) {
        let good = [&command, "c1", "/run/netns/none", "eth0", "/x"];
        let lookup = |name: &str| {
            let at = VARIABLES.iter().position(|known| *known == name)?;
            match good.get(at) {
                Some(good) if sound => Some(OsString::from(good)),
                _ => values[at].clone(),
            }
        };
        let ending = run(&lookup, Instant::now(), |_| Ok(stdin));
        if ending.failed {
            code(&ending);
        } else if !ending.stdout.is_empty() {
            prop_assert!(serde_json::from_str::<Value>(&ending.stdout).is_ok());
        }
    }
}
