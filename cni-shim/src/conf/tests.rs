use super::*;

#[test]
fn defaults_are_those_of_the_documentation() {
    let conf = Conf::parse(br#"{"cniVersion":"1.0.0","name":"n","type":"sluice-cni"}"#).unwrap();
    assert_eq!(conf.version, Version::V1_0_0);
    assert_eq!(conf.socket, Path::new("/run/sluice/agent.sock"));
    assert_eq!(
        conf.namespaces_file,
        Path::new("/run/sluice/namespaces.json")
    );
    assert_eq!(
        conf.notes_file,
        Path::new("/var/lib/sluice/cni-notes.jsonl")
    );
    assert_eq!(conf.exclude_namespaces, EXCLUDED);
    assert_eq!(conf.on_agent_down, OnAgentDown::Known);
    assert_eq!(conf.timeout, Duration::from_secs(10));
    assert!(conf.prev_result.is_none());
}

#[test]
fn everything_can_be_said_and_the_rest_is_ignored() {
    let conf = Conf::parse(
        br#"{"cniVersion":"0.3.1","name":"n.1","socket":"/s","excludeNamespaces":[],
            "onAgentDown":"deny","timeoutSeconds":2.5,"namespacesFile":"/n","notesFile":"/o",
            "prevResult":{"a":1.50},"ipam":{"deep":[[[]]]},"runtimeConfig":null,"x":1e999}"#,
    )
    .unwrap();
    assert_eq!(conf.version, Version::V0_3_1);
    assert_eq!(conf.on_agent_down, OnAgentDown::Deny);
    assert_eq!(conf.timeout, Duration::from_millis(2500));
    assert!(conf.exclude_namespaces.is_empty());
    assert_eq!(conf.prev_result.map(RawValue::get), Some(r#"{"a":1.50}"#));
}

#[test]
fn null_is_the_same_as_nothing() {
    let conf = Conf::parse(
        br#"{"cniVersion":"1.0.0","name":"n","prevResult":null,"socket":null,"timeoutSeconds":null}"#,
    )
    .unwrap();
    assert!(conf.prev_result.is_none());
    assert_eq!(conf.timeout, Duration::from_secs(10));
}

/// `json` is refused with `code`, and the message names `names`.
fn refused(json: &str, code: Code, names: &str) {
    let error = Conf::parse(json.as_bytes()).expect_err(json);
    assert_eq!(error.code, code, "{json}: {error}");
    assert!(error.msg.contains(names), "{json}: {error}");
}

#[test]
fn what_does_not_parse_is_refused() {
    for json in ["", "[]", "{", "null", "{} {}", &"[".repeat(100_000)] {
        refused(json, Code::Decode, "does not parse");
    }
    refused(r#"{"cniVersion":7,"name":"n"}"#, Code::Decode, "cniVersion");
    refused(
        r#"{"socket":"/a","socket":"/b"}"#,
        Code::Decode,
        "duplicate",
    );
    assert_eq!(Conf::parse(b"\xff\xfe").unwrap_err().code, Code::Decode);
}

#[test]
fn other_versions_are_refused() {
    refused(r#"{"name":"n"}"#, Code::Version, "0.1.0");
    for (version, named) in [
        ("", "0.1.0"),
        ("0.2.0", "0.2.0"),
        ("1.2.0", "1.2.0"),
        ("1.0", "1.0"),
        (" 1.0.0", " 1.0.0"),
    ] {
        let json = format!(r#"{{"cniVersion":"{version}","name":"n"}}"#);
        refused(&json, Code::Version, named);
    }
}

#[test]
fn wrong_values_are_named_with_their_keys() {
    refused(r#"{"cniVersion":"1.0.0"}"#, Code::Config, "name");
    for name in ["\"\"", "\"a b\"", "\"-a\"", "{}", "7"] {
        let json = format!(r#"{{"cniVersion":"1.0.0","name":{name}}}"#);
        refused(&json, Code::Config, "name");
    }
    for (key, value, code) in [
        ("onAgentDown", "\"maybe\"", Code::UnsupportedField),
        ("onAgentDown", "1", Code::Config),
        ("timeoutSeconds", "0", Code::Config),
        ("timeoutSeconds", "-1", Code::Config),
        ("timeoutSeconds", "601", Code::Config),
        ("timeoutSeconds", "\"10\"", Code::Config),
        ("socket", "\"relative\"", Code::Config),
        ("notesFile", "7", Code::Config),
        ("namespacesFile", "[]", Code::Config),
        ("excludeNamespaces", "\"a\"", Code::Config),
        ("excludeNamespaces", "[1]", Code::Config),
    ] {
        let json = format!(r#"{{"cniVersion":"1.0.0","name":"n","{key}":{value}}}"#);
        refused(&json, code, key);
        refused(&json, code, value.trim_matches('"'));
    }
    for odd in [r#""socket":"/a\u0000b""#, r#""timeoutSeconds":1e300"#] {
        let json = format!(r#"{{"cniVersion":"1.0.0","name":"n",{odd}}}"#);
        refused(&json, Code::Config, "is wrong");
    }
}

#[test]
fn the_version_is_found_in_a_broken_configuration() {
    let asked = |json: &str| asked_version(json.as_bytes());
    assert_eq!(
        asked(r#"{"cniVersion":"0.4.0","name":7}"#).as_deref(),
        Some("0.4.0")
    );
    assert_eq!(
        asked(r#"{"cniVersion":"9.9.9-x+1"}"#).as_deref(),
        Some("9.9.9-x+1")
    );
    for none in [
        "",
        "7",
        "{}",
        r#"{"cniVersion":7}"#,
        r#"{"cniVersion":"a\"b"}"#,
    ] {
        assert_eq!(asked(none), None, "{none}");
    }
}
