use super::*;

pub(crate) fn entry() -> Entry {
    Entry {
        socket: "/run/sluice/agent.sock".into(),
        namespaces_file: "/run/sluice/namespaces.json".into(),
        notes_file: "/var/lib/sluice/cni-notes.jsonl".into(),
        exclude_namespaces: vec!["istio-system".into(), "kube-system".into()],
        on_agent_down: "known",
        timeout_seconds: 10,
    }
}

fn of(file: &str) -> Mark {
    Mark::CopyOf(file.into())
}

fn copy(file: &str, text: &str) -> String {
    let list = List::parse(file, text.as_bytes()).unwrap();
    assert_eq!(list.refusal(), None);
    String::from_utf8(list.with(&entry(), &of(file)).unwrap()).unwrap()
}

#[test]
fn a_list_is_copied_as_it_is_written_with_the_shim_behind_it() {
    // Numbers, escapes and keys that we know nothing of.
    let text = r#"{"name":"net","cniVersion":"1.0.0","disableCheck":true,
 "x-vendor": {"big": 12345678901234567890123, "e": 1.50e+3, "u": "\u00e9"},
 "plugins":[{ "type":"ptp",  "mtu":1400 , "ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
    insta::assert_snapshot!(copy("10-ptp.conflist", text), @r#"
    {
      "name": "net",
      "cniVersion": "1.0.0",
      "disableCheck": true,
      "x-vendor": {"big": 12345678901234567890123, "e": 1.50e+3, "u": "\u00e9"},
      "plugins": [
        { "type":"ptp",  "mtu":1400 , "ipam":{"type":"host-local"}},
        {"type":"portmap","capabilities":{"portMappings":true}},
        {"type":"sluice-cni","copyOf":"10-ptp.conflist","socket":"/run/sluice/agent.sock","namespacesFile":"/run/sluice/namespaces.json","notesFile":"/var/lib/sluice/cni-notes.jsonl","excludeNamespaces":["istio-system","kube-system"],"onAgentDown":"known","timeoutSeconds":10}
      ]
    }
    "#);
}

#[test]
fn a_single_plugin_becomes_a_list_that_keeps_its_name_and_version() {
    let text = r#"{"cniVersion":"0.3.1","name":"net","type":"ptp","ipMasq":true}"#;
    insta::assert_snapshot!(copy("10-ptp.conf", text), @r#"
    {
      "cniVersion": "0.3.1",
      "name": "net",
      "plugins": [
        {"cniVersion":"0.3.1","name":"net","type":"ptp","ipMasq":true},
        {"type":"sluice-cni","copyOf":"10-ptp.conf","socket":"/run/sluice/agent.sock","namespacesFile":"/run/sluice/namespaces.json","notesFile":"/var/lib/sluice/cni-notes.jsonl","excludeNamespaces":["istio-system","kube-system"],"onAgentDown":"known","timeoutSeconds":10}
      ]
    }
    "#);
}

#[test]
fn a_copy_of_a_copy_has_the_shim_once() {
    let text = r#"{"name":"net","cniVersion":"1.0.0","plugins":[{"type":"ptp"},{"type":"sluice-cni","socket":"/elsewhere"},{"type":"portmap"}]}"#;
    let once = copy("10-a.conflist", text);
    let list = List::parse("02-sluice.conflist", once.as_bytes()).unwrap();
    assert_eq!(list.copy_of(), Some("10-a.conflist"));
    assert!(list.is_ours());
    assert_eq!(
        list.with(&entry(), &of("10-a.conflist")).unwrap(),
        once.as_bytes()
    );
    assert_eq!(once.matches(SHIM).count(), 1);
    // The shim in somebody else's own file makes that not ours.
    let theirs = List::parse("10-a.conflist", text.as_bytes()).unwrap();
    assert!(theirs.has_shim() && !theirs.is_ours());
}

#[test]
fn what_no_runtime_can_use_is_refused_with_the_reason() {
    let deep = format!(
        r#"{{"name":"n","cniVersion":"1.0.0","plugins":[{{"type":"a","x":{}{}}}]}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let keys: Vec<String> = (0..1000).map(|key| format!("\"k{key}\":1")).collect();
    let many = format!("{{{}}}", keys.join(","));
    let table: [(&str, &str); 16] = [
        ("a.conflist", ""),
        ("a.conflist", "{"),
        ("a.conflist", "null"),
        ("a.conflist", "[]"),
        ("a.conflist", "\u{0}\u{1}"),
        ("a.conflist", r#"{"name":"n","cniVersion":"1.0.0"}"#),
        ("a.conflist", r#"{"name":"n","plugins":null}"#),
        ("a.conflist", r#"{"name":"n","plugins":[]}"#),
        ("a.conflist", r#"{"name":"n","plugins":{"type":"a"}}"#),
        (
            "a.conflist",
            r#"{"name":"n","plugins":[{"type":"a"},{"type":""}]}"#,
        ),
        ("a.conflist", r#"{"name":"n","plugins":["a"]}"#),
        ("a.conflist", r#"{"name":"","plugins":[{"type":"a"}]}"#),
        ("a.conflist", r#"{"name":7,"plugins":[{"type":"a"}]}"#),
        (
            "a.conflist",
            r#"{"name":"n","cniVersion":1,"plugins":[{"type":"a"}]}"#,
        ),
        ("a.conf", r#"{"name":"n","plugins":[{"type":"a"}]}"#),
        ("a.conf", r#"{"cniVersion":"1.0.0","type":"a"}"#),
    ];
    let mut said = String::new();
    for (file, text) in table {
        let invalid = List::parse(file, text.as_bytes()).unwrap_err();
        let _ = writeln!(said, "{text:?}: {invalid}");
    }
    for hostile in [&deep, &many] {
        let invalid = List::parse("a.conflist", hostile.as_bytes()).unwrap_err();
        let _ = writeln!(said, "hostile: {invalid}");
    }
    insta::assert_snapshot!(said);
    assert!(List::parse("a.conflist", &[0xff, 0xfe]).is_err());
}

#[test]
fn of_a_key_that_comes_twice_the_last_one_counts_as_for_every_runtime() {
    let text = r#"{"name":"old","plugins":[{"type":"a","type":"b"}],"cniVersion":"0.4.0","name":"new","plugins":[{"type":"c","type":"d"}]}"#;
    let list = List::parse("a.conflist", text.as_bytes()).unwrap();
    assert_eq!(list.text("name").unwrap().unwrap(), "new");
    assert_eq!(list.plugins[0].kind, "d");
}

#[test]
fn a_version_that_the_shim_does_not_speak_is_not_copied() {
    for version in [
        "",
        r#""cniVersion":"","#,
        r#""cniVersion":"0.2.0","#,
        r#""cniVersion":"9.9.9","#,
    ] {
        let text = format!(r#"{{{version}"name":"n","plugins":[{{"type":"a"}}]}}"#);
        let list = List::parse("a.conflist", text.as_bytes()).unwrap();
        assert!(
            list.refusal().unwrap().contains("sluice-cni speaks"),
            "{version}"
        );
    }
}

#[test]
fn of_several_versions_each_that_a_runtime_may_choose_must_be_spoken() {
    let refused = |keys: &str| {
        let text = format!(r#"{{{keys},"name":"n","plugins":[{{"type":"a"}}]}}"#);
        let list = List::parse("a.conflist", text.as_bytes()).unwrap();
        list.refusal().is_some()
    };
    assert!(!refused(r#""cniVersion":"1.1.0""#));
    assert!(!refused(
        r#""cniVersion":"0.4.0","cniVersions":["0.2.0","1.1.0","1.0.0"]"#
    ));
    // No runtime takes one that it does not know.
    assert!(!refused(r#""cniVersions":["1.0.0","9.0.0"]"#));
    assert!(refused(r#""cniVersion":"0.2.0","cniVersions":["1.1.0"]"#));
    assert!(refused(r#""cniVersions":["0.1.0","0.2.0"]"#));
    assert!(refused(r#""cniVersions":[]"#));
}

#[test]
fn plugins_in_a_folder_are_known_and_those_alone_are_refused() {
    let bare = r#"{"cniVersion":"1.1.0","name":"n"}"#;
    let list = List::of_folder(bare.as_bytes()).unwrap();
    assert!(list.refusal().unwrap().contains("loadOnlyInlinedPlugins"));
    let only = r#"{"cniVersion":"1.1.0","name":"n","loadOnlyInlinedPlugins":true}"#;
    assert!(List::of_folder(only.as_bytes()).is_none());
    for (key, takes) in [("false", true), ("true", false), (r#""True""#, false)] {
        let text =
            format!(r#"{{"loadOnlyInlinedPlugins":{key},"name":"n","plugins":[{{"type":"a"}}]}}"#);
        let list = List::parse("a.conflist", text.as_bytes()).unwrap();
        assert_eq!(list.takes_folder(), takes, "{key}");
    }
}

#[test]
fn what_we_mark_is_known_again() {
    for mark in [
        Mark::CopyOf("10-a.conf".into()),
        Mark::ChainedTo("10-a.conflist".into()),
        Mark::Standalone,
    ] {
        let text = entry().marked(&mark).unwrap();
        let list = format!(r#"{{"name":"n","plugins":[{{"Type":"a"}},{text}]}}"#);
        let list = List::parse("a.conflist", list.as_bytes()).unwrap();
        assert_eq!(list.mark(), Some(&mark));
    }
    let alone = entry().marked(&Mark::Standalone).unwrap();
    insta::assert_snapshot!(alone, @r#"{"cniVersion":"1.0.0","name":"sluice-cni","type":"sluice-cni","standalone":true,"socket":"/run/sluice/agent.sock","namespacesFile":"/run/sluice/namespaces.json","notesFile":"/var/lib/sluice/cni-notes.jsonl","excludeNamespaces":["istio-system","kube-system"],"onAgentDown":"known","timeoutSeconds":10}"#);
    assert!(List::parse("a.conf", alone.as_bytes()).unwrap().is_ours());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_what_is_copied_can_be_read(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = List::parse("a.conflist", &bytes);
    }

    #[test]
    fn a_copy_is_a_list_of_the_same_name(name in "[a-z\\\\\"\u{e9}]{1,8}", kind in "[a-z]{1,9}", key in "\\PC{0,9}", number in proptest::prelude::any::<f64>()) {
        let text = serde_json::json!({
            "cniVersion": "1.0.0", "name": name, key: number, "plugins": [{"type": kind, "k": name}],
        }).to_string();
        if let Ok(list) = List::parse("a.conflist", text.as_bytes()) {
            let copy = list.with(&entry(), &of("a.conflist")).unwrap();
            let copy = List::parse("x.conflist", &copy).unwrap();
            proptest::prop_assert_eq!(copy.text("name").unwrap(), list.text("name").unwrap());
            proptest::prop_assert_eq!(copy.copy_of(), Some("a.conflist"));
        }
    }
}
