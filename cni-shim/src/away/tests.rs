use std::{fs, os::unix::fs::symlink};

use nix::{sys::stat::Mode, unistd::mkfifo};
use proptest::prelude::*;

use super::*;

fn pod(namespace: &str) -> Pod {
    Pod {
        uid: "u".into(),
        namespace: namespace.into(),
        name: "p".into(),
    }
}

fn conf(more: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"n"{more}}}"#)
}

fn decided(more: &str, pod: &Pod, known: Known) -> Decision {
    let json = conf(more);
    let conf = Conf::parse(json.as_bytes()).unwrap();
    decide(&conf, pod, "no socket", |namespace| {
        assert_eq!(namespace, pod.namespace);
        known
    })
}

#[test]
fn each_row_of_the_table() {
    use Decision::{Pass, PassAndNote};
    let deny = r#","onAgentDown":"deny""#;
    for known in [Known::Enrolled, Known::NotEnrolled, Known::Unknown] {
        for more in ["", deny] {
            assert_eq!(decided(more, &pod("kube-system"), known), PassAndNote);
            assert_eq!(decided(more, &Pod::default(), known), Pass);
        }
        assert!(matches!(
            decided(deny, &pod("shop"), known),
            Decision::Fail(_)
        ));
    }
    assert_eq!(decided("", &pod("shop"), Known::NotEnrolled), PassAndNote);
    for known in [Known::Enrolled, Known::Unknown] {
        let Decision::Fail(error) = decided("", &pod("shop"), known) else {
            panic!("{known:?} passed");
        };
        assert_eq!(error.code, Code::TryLater);
        assert!(
            error.msg.contains("shop/p") && error.msg.contains("agent"),
            "{error}"
        );
        assert!(error.details.contains("no socket"), "{}", error.details);
    }
    let own = r#","excludeNamespaces":["shop"]"#;
    assert_eq!(decided(own, &pod("shop"), Known::Enrolled), PassAndNote);
    assert!(matches!(
        decided(own, &pod("kube-system"), Known::Unknown),
        Decision::Fail(_)
    ));
}

#[test]
fn a_pod_without_a_namespace_is_in_none() {
    let nameless = pod("");
    let empty = r#","excludeNamespaces":[""]"#;
    assert!(matches!(
        decided(empty, &nameless, Known::Unknown),
        Decision::Fail(_)
    ));
}

#[test]
fn the_list_is_believed_if_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("namespaces.json");
    let known = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        look_up(&file, "a")
    };
    assert_eq!(look_up(&file, "a"), Known::Unknown, "missing");
    assert_eq!(
        known(br#"{"enrolled":["a"],"notEnrolled":["b"]}"#),
        Known::Enrolled
    );
    assert_eq!(
        known(br#"{"enrolled":["b"],"notEnrolled":["a"]}"#),
        Known::NotEnrolled
    );
    assert_eq!(
        known(br#"{"enrolled":[],"notEnrolled":[]}"#),
        Known::Unknown
    );
    assert_eq!(
        known(br#"{"enrolled":["a"],"notEnrolled":["a"]}"#),
        Known::Enrolled,
        "a list that contradicts itself lets nobody pass"
    );
    for garbage in [
        &b""[..],
        b"{}",
        b"[]",
        br#"{"notEnrolled":["a"]}"#,
        br#"{"enrolled":{},"notEnrolled":["a"]}"#,
        br#"{"enrolled":[],"notEnrolled":["a"]"#,
        br#"{"enrolled":[],"notEnrolled":["a"]} x"#,
        b"\xff\xfe\x00",
    ] {
        assert_eq!(known(garbage), Known::Unknown, "{garbage:?}");
    }
    let mut huge = br#"{"enrolled":[],"notEnrolled":["a"]}"#.to_vec();
    huge.resize(usize::try_from(LARGEST_FILE).unwrap() + 1, b' ');
    assert_eq!(known(&huge), Known::Unknown);
    huge.pop();
    assert_eq!(known(&huge), Known::NotEnrolled);
}

#[test]
fn only_a_plain_file_is_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    assert_eq!(look_up(&pipe, "a"), Known::Unknown);
    assert_eq!(look_up(dir.path(), "a"), Known::Unknown);
    let link = dir.path().join("link");
    fs::write(
        dir.path().join("real"),
        br#"{"enrolled":[],"notEnrolled":["a"]}"#,
    )
    .unwrap();
    symlink(dir.path().join("real"), &link).unwrap();
    assert_eq!(look_up(&link, "a"), Known::Unknown);
}

proptest! {
    #[test]
    fn no_list_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, &text).unwrap();
        prop_assert_eq!(look_up(&file, "a"), Known::Unknown);
    }
}
