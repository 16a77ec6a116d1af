//! Malformed input: the error that the specification names, on standard
//! output, and nothing done.

use std::{ffi::OsString, io::Write as _, os::unix::ffi::OsStringExt as _, time::Duration};

use sluice_proto::agent::v1::AddOutcome;

use crate::{
    agent::{Answers, FakeAgent},
    run::{Call, PREV_RESULT},
};

/// The call fails with `code`, names `names`, and neither the agent nor the
/// disk has heard of it.
fn refused(call: &Call, code: u64, names: &[&str]) {
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    let before = call.files();
    let (told, text) = call.run().error();
    assert_eq!(told, code, "{text}");
    for name in names {
        assert!(text.contains(name), "{name} is not in: {text}");
    }
    assert!(agent.asked().is_empty(), "the agent was asked: {text}");
    assert_eq!(call.files(), before, "{text}");
}

#[test]
fn variables_that_are_missing_are_named_together() {
    for verb in ["ADD", "CHECK"] {
        let call = Call::new(verb)
            .unset("CNI_CONTAINERID")
            .set("CNI_NETNS", "")
            .unset("CNI_IFNAME")
            .unset("CNI_PATH");
        let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
        refused(&call, 4, &all);
    }
    let call = Call::new("DEL")
        .unset("CNI_CONTAINERID")
        .unset("CNI_IFNAME");
    refused(&call, 4, &["CNI_CONTAINERID", "CNI_IFNAME"]);
}

#[test]
fn variables_that_are_wrong_are_named() {
    let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    for verb in ["ADD", "CHECK", "DEL"] {
        for (name, value) in [
            ("CNI_CONTAINERID", bytes(b"../../etc")),
            ("CNI_CONTAINERID", bytes(b"a b")),
            ("CNI_CONTAINERID", bytes(&[b'a'; 1000])),
            ("CNI_CONTAINERID", bytes(b"a\xff")),
            ("CNI_IFNAME", bytes(b"..")),
            ("CNI_IFNAME", bytes(b"eth0:1")),
            ("CNI_IFNAME", bytes(b"sixteen-letters.")),
            ("CNI_IFNAME", bytes(b"\xc3\x28")),
            ("CNI_NETNS", bytes(b"run/netns/p")),
            ("CNI_NETNS", bytes(&[b'/'; 5000])),
            ("CNI_NETNS", bytes(b"/run/\xff")),
            ("CNI_ARGS", bytes(b"K8S_POD_NAME")),
            ("CNI_ARGS", bytes(b"UNHEARD=of")),
            ("CNI_ARGS", bytes(b"IgnoreUnknown=perhaps")),
            ("CNI_ARGS", bytes(b"K8S_POD_UID=a;K8S_POD_UID=b")),
            ("CNI_ARGS", bytes(b"K8S_POD_NAME=\xff")),
        ] {
            refused(&Call::new(verb).set(name, value), 4, &[name]);
        }
    }
    for command in ["add", "ADD ", "DELETE", "\u{e4}"] {
        refused(&Call::new(command), 4, &["CNI_COMMAND", command]);
    }
    let raw = Call::new("ADD").set("CNI_COMMAND", bytes(b"\xff"));
    refused(&raw, 4, &["CNI_COMMAND"]);
}

#[test]
fn the_plugins_own_namespace_is_refused_before_anything_is_done() {
    for verb in ["ADD", "CHECK", "DEL"] {
        let call = Call::new(verb).set("CNI_NETNS", "/proc/self/ns/net");
        refused(&call, 4, &["CNI_NETNS", "CNI_NETNS_OVERRIDE"]);
    }
    let call = Call::new("ADD")
        .set("CNI_NETNS", "/proc/self/ns/net")
        .set("CNI_NETNS_OVERRIDE", "1");
    let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    assert_eq!(call.run().result(), PREV_RESULT);
}

#[test]
fn configurations_that_do_not_parse_are_refused() {
    for stdin in [
        &b""[..],
        b"garbage",
        b"[]",
        b"{",
        b"{}{}",
        b"\xff\xff",
        b"\0",
        br#"{"cniVersion":["1.0.0"],"name":"n"}"#,
    ] {
        for verb in ["ADD", "CHECK", "DEL"] {
            refused(&Call::new(verb).stdin(stdin), 6, &["configuration"]);
        }
    }
    refused(
        &Call::new("ADD").stdin(vec![b' '; 2 << 20]),
        6,
        &["larger than"],
    );
    refused(
        &Call::new("ADD").stdin(vec![b'['; 1 << 19]),
        6,
        &["configuration"],
    );
}

#[test]
fn configurations_that_are_wrong_are_refused() {
    for verb in ["ADD", "CHECK", "DEL"] {
        for (key, json, code) in [
            ("cniVersion", "\"0.1.0\"", 1),
            ("cniVersion", "\"0.2.0\"", 1),
            ("cniVersion", "\"1.2.0\"", 1),
            ("cniVersion", "\"one\"", 1),
            ("name", "\"\"", 7),
            ("name", "\"a/b\"", 7),
            ("name", "7", 7),
            ("socket", "\"agent.sock\"", 7),
            ("socket", "7", 7),
            ("timeoutSeconds", "0", 7),
            ("timeoutSeconds", "601", 7),
            ("timeoutSeconds", "\"10\"", 7),
            ("excludeNamespaces", "\"kube-system\"", 7),
            ("namespacesFile", "\"\"", 7),
            ("notesFile", "{}", 7),
            ("onAgentDown", "\"allow\"", 2),
        ] {
            let value = json.trim_matches('"');
            refused(&Call::new(verb).conf(key, json), code, &[value]);
        }
        refused(&Call::new(verb).without("cniVersion"), 1, &["0.1.0"]);
        refused(&Call::new(verb).without("name"), 7, &["name"]);
    }
    for verb in ["ADD", "CHECK"] {
        refused(&Call::new(verb).without("prevResult"), 7, &["prevResult"]);
        refused(
            &Call::new(verb).conf("prevResult", "null"),
            7,
            &["prevResult"],
        );
        for wrong in [
            "7",
            "[]",
            r#"{"ips":7}"#,
            r#"{"ips":[{}]}"#,
            r#"{"interfaces":[1]}"#,
        ] {
            refused(
                &Call::new(verb).conf("prevResult", wrong),
                6,
                &["prevResult"],
            );
        }
        let foreign = r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24"}}"#;
        refused(
            &Call::new(verb).conf("prevResult", foreign),
            1,
            &["prevResult", "0.2.0"],
        );
    }
}

#[test]
fn errors_repeat_the_version_they_were_asked_in() {
    let call = Call::new("ADD")
        .conf("cniVersion", "\"0.3.1\"")
        .without("prevResult");
    assert!(call.run().stdout.contains(r#""cniVersion":"0.3.1""#));
    let call = Call::new("ADD")
        .conf("cniVersion", "\"0.4.0\"")
        .unset("CNI_PATH");
    assert!(call.run().stdout.contains(r#""cniVersion":"0.4.0""#));
}

#[test]
fn version_and_about_need_nothing() {
    let all = r#""supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#;
    for (stdin, version) in [("{\"cniVersion\":\"0.4.0\"}", "0.4.0"), ("", "1.1.0")] {
        let mut call = Call::new("VERSION").stdin(stdin);
        for name in [
            "CNI_CONTAINERID",
            "CNI_NETNS",
            "CNI_IFNAME",
            "CNI_PATH",
            "CNI_ARGS",
        ] {
            call = call.unset(name);
        }
        let expected = format!(r#"{{"cniVersion":"{version}",{all}"#);
        assert_eq!(call.run().result(), expected);
    }
    let ended = Call::new("").run();
    ended.silent();
    assert!(
        ended
            .stderr
            .contains("CNI protocol versions supported: 0.3.0")
    );
}

#[test]
fn verbs_of_a_later_version_are_refused() {
    for verb in ["STATUS", "GC"] {
        for version in ["\"0.3.0\"", "\"0.3.1\"", "\"0.4.0\"", "\"1.0.0\""] {
            let call = Call::new(verb).conf("cniVersion", version);
            refused(&call, 1, &[verb, "1.1.0"]);
        }
    }
}

#[test]
fn a_reader_that_is_gone_is_a_failure_and_no_panic() {
    let call = Call::new("ADD");
    let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    let mut child = call.command().spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&call.input())
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn input_that_comes_in_pieces_is_waited_for() {
    let call = Call::new("ADD");
    let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    let mut child = call.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for piece in call.input().chunks(200) {
        stdin.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, format!("{PREV_RESULT}\n").into_bytes());
}
