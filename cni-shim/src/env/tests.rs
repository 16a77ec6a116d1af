use super::*;

fn read(verb: Verb, variables: &[(&str, &str)]) -> Result<Env, CniError> {
    Env::read(verb, &|name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.into())
    })
}

const GOOD: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_PATH", "/opt/cni/bin"),
];

fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut variables = vec![(name, value)];
    variables.extend(GOOD.into_iter().filter(|(key, _)| *key != name));
    variables
}

#[test]
fn what_is_missing_is_named_together() {
    let message = |verb| read(verb, &[]).unwrap_err().msg;
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        assert!(message(Verb::Add).contains(name), "{name}");
        assert!(message(Verb::Check).contains(name), "{name}");
    }
    assert!(!message(Verb::Del).contains("CNI_NETNS"));
    assert!(message(Verb::Del).contains("CNI_CONTAINERID"));
    assert!(read(Verb::Version, &[]).is_ok());
    let empty = with("CNI_IFNAME", "");
    assert!(
        read(Verb::Add, &empty)
            .unwrap_err()
            .msg
            .contains("CNI_IFNAME")
    );
}

#[test]
fn what_is_wrong_is_named_together() {
    let wrong = [
        ("CNI_CONTAINERID", "-x"),
        ("CNI_NETNS", "relative"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_PATH", "/x"),
        ("CNI_ARGS", "A"),
    ];
    let error = read(Verb::Add, &wrong).unwrap_err();
    assert_eq!(error.code, Code::Environment);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        assert!(error.msg.contains(name), "{}", error.msg);
    }
}

#[test]
fn names_are_judged() {
    for good in ["a", "9", "a_b.c-d", "cri-containerd_1"] {
        assert!(
            read(Verb::Add, &with("CNI_CONTAINERID", good)).is_ok(),
            "{good}"
        );
    }
    for bad in [".a", "_a", "a/b", "a b", "a\n", "\u{e4}", "a;b"] {
        let error = read(Verb::Add, &with("CNI_CONTAINERID", bad)).unwrap_err();
        assert!(error.msg.contains("CNI_CONTAINERID"), "{bad}");
    }
    for good in ["eth0", "a", "123456789012345", "...", "e\u{e4}"] {
        assert!(read(Verb::Add, &with("CNI_IFNAME", good)).is_ok(), "{good}");
    }
    for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "1234567890123456"] {
        let error = read(Verb::Add, &with("CNI_IFNAME", bad)).unwrap_err();
        assert!(error.msg.contains("CNI_IFNAME"), "{bad}");
    }
}

#[test]
fn a_pod_is_read_from_the_arguments() {
    let pod = Pod::parse(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;\
         K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1;MAC=",
    );
    let expected = Pod {
        uid: "u-1".into(),
        namespace: "shop".into(),
        name: "cart-0".into(),
    };
    assert_eq!(pod, Ok(expected));
    assert_eq!(Pod::parse(""), Ok(Pod::default()));
    assert!(Pod::default().is_none());
    assert!(Pod::parse("K8S_POD_NAME=a=b").is_ok_and(|pod| pod.name == "a=b"));
    for (bad, why) in [
        ("K8S_POD_NAME", "KEY=VALUE"),
        ("K8S_POD_NAME=a;", "KEY=VALUE"),
        (";", "KEY=VALUE"),
        ("X=1", "X"),
        ("X=1;IgnoreUnknown=0", "X"),
        ("IgnoreUnknown=perhaps", "perhaps"),
        ("K8S_POD_NAME=a;K8S_POD_NAME=b", "more than once"),
    ] {
        let error = Pod::parse(bad).expect_err(bad);
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn the_trace_is_taken_along() {
    let mut variables = with("TRACEPARENT", "00-ab-cd-01");
    variables.push(("BAGGAGE", "a=b"));
    let env = read(Verb::Add, &variables).unwrap();
    assert_eq!(
        env.trace,
        [
            ("traceparent", "00-ab-cd-01".to_owned()),
            ("baggage", "a=b".to_owned())
        ]
    );
}

#[test]
fn the_namespace_of_the_host_needs_leave() {
    for (value, allowed) in [
        ("1", true),
        ("true", true),
        ("TRUE", true),
        ("0", false),
        ("yes", false),
    ] {
        let env = read(Verb::Add, &with("CNI_NETNS_OVERRIDE", value)).unwrap();
        assert_eq!(env.netns_override, allowed, "{value}");
    }
}
