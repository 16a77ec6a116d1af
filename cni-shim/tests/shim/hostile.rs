//! Hostile arguments, results and paths: what the shim itself refuses, and what
//! it hands to the agent to judge.

use std::os::unix::fs::symlink;

use super::*;

/// The call fails with `code`, names `names`, and the agent is not asked.
fn refused(call: &Call, code: u64, names: &str) {
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    let ended = call.run();
    let (told, text) = ended.error();
    assert_eq!(told, code, "{text}");
    assert!(text.contains(names), "{names} is not in: {text}");
    // It is to be read by people.
    assert!(ended.stdout.len() < 5_000, "{}", ended.stdout.len());
    assert!(agent.asked().is_empty(), "{text}");
}

/// The agent is asked, and its answer counts.
fn handed_on(call: &Call) -> agent::Asked {
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    call.run().result();
    agent.asked_once()
}

#[test]
fn arguments() {
    let with = |arguments: &str| Call::new("ADD").set("CNI_ARGS", arguments);
    for (arguments, names) in [
        ("K8S_POD_NAME=a;K8S_POD_NAME=a".to_owned(), "more than once"),
        ("K8S_POD_NAME=;K8S_POD_NAME=a".to_owned(), "more than once"),
        ("K8S_POD_NAME=a;K8S_POD_NAME=".to_owned(), "more than once"),
        (
            "IgnoreUnknown=1;IgnoreUnknown=1".to_owned(),
            "more than once",
        ),
        ("K8S_POD_NAME=a;;".to_owned(), "KEY=VALUE"),
        ("=".to_owned(), "unknown keys"),
        ("K8S_POD_NAME =a".to_owned(), "unknown keys"),
        ("k8s_pod_name=a".to_owned(), "unknown keys"),
        ("x".repeat(100_000), "CNI_ARGS"),
        ("A=B;".repeat(25_000) + "A=B", "CNI_ARGS"),
    ] {
        refused(&with(&arguments), 4, names);
    }
    // The agent judges names; the shim does not take one for another.
    let odd =
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=kube-system\n;K8S_POD_NAME=a=b;K8S_POD_UID=\u{202e}";
    let asked = handed_on(&with(odd));
    assert!(!asked.add.unwrap().excluded);
    assert_eq!(asked.sandbox.pod_namespace, "kube-system\n");
    assert_eq!(asked.sandbox.pod_name, "a=b");
    let long = format!(
        "K8S_POD_NAMESPACE=shop;K8S_POD_NAME={}",
        "n".repeat(100_000)
    );
    assert_eq!(handed_on(&with(&long)).sandbox.pod_name.len(), 100_000);
    let many = format!("IgnoreUnknown=1;{}K8S_POD_NAME=a", "A=B;".repeat(25_000));
    assert_eq!(handed_on(&with(&many)).sandbox.pod_name, "a");
}

#[test]
fn results() {
    let with = |result: &str| Call::new("ADD").conf("prevResult", result);
    for (result, names) in [
        (
            r#"{"ips":[{"address":"10.0.0.2/24","interface":1.5}]}"#,
            "prevResult",
        ),
        (r#"{"ips":[{"address":["10.0.0.2/24"]}]}"#, "prevResult"),
        (
            r#"{"ips":[{"address":"10.0.0.2/24","interface":99999999999999999999}]}"#,
            "prevResult",
        ),
        (
            r#"{"interfaces":[{"name":"a","sandbox":{}}]}"#,
            "prevResult",
        ),
        (r#"{"interfaces":[],"interfaces":[]}"#, "duplicate"),
        (r#"{"ips":[{"address":"a","address":"b"}]}"#, "duplicate"),
    ] {
        refused(&with(result), 6, names);
    }
    // What nobody asked for is handed on, however odd.
    let (open, close) = ("[".repeat(5_000), "]".repeat(5_000));
    let deep = format!(r#"{{"cniVersion":"1.0.0","x":{open}{close}}}"#);
    let call = with(&deep);
    let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    assert_eq!(call.run().result(), deep);
    // What is of the right form is the agent's to judge, which knows of the pod.
    for address in [
        "0.0.0.0/0",
        "224.0.0.1/4",
        "127.0.0.1/8",
        "::/0",
        "::ffff:10.0.0.1/128",
        "ff02::1/128",
        "10.0.0.1",
        "10.0.0.1/99",
        "garbage",
        "",
        "\\u0000",
        "\\ud83d\\ude00",
    ] {
        let result = format!(r#"{{"cniVersion":"1.0.0","ips":[{{"address":"{address}"}}]}}"#);
        let call = with(&result);
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
        assert_eq!(call.run().result(), result);
        assert_eq!(agent.asked_once().add.unwrap().addresses.len(), 1);
    }
    let interfaces = vec![r#"{"name":"v","mac":"aa"}"#; 5_000].join(",");
    let addresses = vec![r#"{"address":"10.0.0.2/24","interface":-1}"#; 5_000].join(",");
    let many =
        format!(r#"{{"cniVersion":"1.0.0","interfaces":[{interfaces}],"ips":[{addresses}]}}"#);
    let call = with(&many);
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    assert_eq!(call.run().result(), many);
    let add = agent.asked_once().add.unwrap();
    assert_eq!((add.interfaces.len(), add.addresses.len()), (5_000, 5_000));
    assert_eq!(add.addresses[0].interface, None);
}

#[test]
fn paths_of_namespaces() {
    for path in ["netns/p", "./p", "../p", " /run/netns/p"] {
        refused(&Call::new("ADD").set("CNI_NETNS", path), 4, "CNI_NETNS");
    }
    // However the plugin's own namespace is spelt.
    let call = Call::new("ADD");
    let link = call.dir.path().join("link");
    symlink("/proc/self/ns/net", &link).unwrap();
    for path in [
        "/proc/thread-self/ns/net",
        "/proc/self/../self/ns/net",
        "/proc/self/task/../ns/net",
        "//proc//self/ns/net",
        link.to_str().unwrap(),
    ] {
        let call = Call::new("ADD").set("CNI_NETNS", path);
        refused(&call, 4, "CNI_NETNS_OVERRIDE");
    }
    // No namespace at all: the agent says so, and nothing is held up by looking.
    let pipe = call.dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [
        pipe.to_str().unwrap(),
        "/dev/null",
        "/",
        "/no/such/file",
        "/proc/self/ns/mnt",
    ] {
        let asked = handed_on(&Call::new("ADD").set("CNI_NETNS", path));
        assert_eq!(asked.sandbox.netns, path);
    }
}
