use proptest::prelude::*;

use super::*;
use crate::control::encode;

fn good() -> proto::PodIntent {
    proto::PodIntent {
        uid: "u1".into(),
        namespace: "default".into(),
        name: "web-0.a".into(),
        wanted: proto::Wanted::Captured.into(),
        intent_hash: "h1".into(),
        addresses: vec!["10.0.0.4".into()],
        ..proto::PodIntent::default()
    }
}

fn refused(change: impl FnOnce(&mut proto::PodIntent)) -> String {
    let mut message = good();
    change(&mut message);
    intent(message).unwrap_err().to_string()
}

#[test]
fn what_does_not_fit_is_named_with_its_pod() {
    assert!(intent(good()).is_ok());
    insta::assert_snapshot!(refused(|pod| pod.uid = String::new()), @r#"pod "" has a uid that is empty, too long or has odd characters"#);
    insta::assert_snapshot!(refused(|pod| pod.uid = "a\nb".into()), @r#"pod "a\nb" has a uid that is empty, too long or has odd characters"#);
    insta::assert_snapshot!(refused(|pod| pod.name = "../x".into()), @r#"the name "../x" of pod u1 does not parse or is too long"#);
    insta::assert_snapshot!(refused(|pod| pod.namespace = "a.b".into()), @r#"the namespace "a.b" of pod u1 does not parse or is too long"#);
    insta::assert_snapshot!(refused(|pod| pod.wanted = 99), @"pod u1 wants 99, which this agent does not know; update the agent");
    insta::assert_snapshot!(refused(|pod| pod.wanted = 0), @"pod u1 wants 0, which this agent does not know; update the agent");
    insta::assert_snapshot!(refused(|pod| pod.addresses = vec!["10.0.0.4/32".into()]), @r#"the address "10.0.0.4/32" of pod u1 does not parse or is too long"#);
    insta::assert_snapshot!(refused(|pod| pod.host_ports = vec![65_536]), @r#"the host port "65536" of pod u1 does not parse or is too long"#);
    insta::assert_snapshot!(refused(|pod| pod.addresses = vec!["10.0.0.4".into(); 17]), @"pod u1 has more than 16 addresses");
}

#[test]
fn addresses_that_are_nobodys_are_never_captured() {
    let nobodys = [
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "169.254.1.1",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ];
    for address in nobodys {
        let mut message = good();
        message.addresses.push(address.into());
        let intent = intent(message).unwrap();
        assert_eq!(intent.wanted, Wanted::Unsupported);
        assert_eq!(
            intent.addresses,
            BTreeSet::from(["10.0.0.4".parse().unwrap()])
        );
        assert!(
            intent.message.contains("is no address of one pod"),
            "{}",
            intent.message
        );
    }
    for text in ["10.0.0.1 ", "010.0.0.1", "", "localhost"] {
        assert!(
            refused(|pod| pod.addresses = vec![text.into()]).contains("u1"),
            "{text}"
        );
    }
}

#[test]
fn what_tenants_write_does_not_cost_the_node_its_state() {
    let mut message = good();
    message.static_uid = "a b".into();
    message.message = "x".repeat(100_000);
    let intent = intent(message).unwrap();
    assert_eq!(intent.static_uid, None);
    assert_eq!(intent.message.len(), LONGEST_MESSAGE);
}

fn intents() -> impl Strategy<Value = Intent> {
    let wanted = prop_oneof![
        Just(Wanted::Nothing),
        Just(Wanted::Captured),
        Just(Wanted::Releasing),
        Just(Wanted::Proxy),
        Just(Wanted::Unsupported),
    ];
    let keys = (
        "[!-~]{1,128}",
        "[!-~]{1,128}",
        proptest::option::of("[!-~]{1,128}"),
    );
    let names = ("[a-z0-9-]{1,63}", "[a-z0-9.-]{1,253}", "\\PC{0,100}");
    let addresses = proptest::collection::btree_set(any::<IpAddr>(), 0..4);
    let ports = proptest::collection::btree_set(1u16.., 0..5);
    (keys, names, wanted, addresses, ports, any::<bool>()).prop_map(
        |((uid, hash, static_uid), (namespace, name, message), wanted, addresses, ports, host)| {
            Intent {
                uid: PodUid::new(uid).unwrap(),
                namespace,
                name,
                wanted,
                hash,
                addresses: addresses.into_iter().filter(is_usable).collect(),
                static_uid,
                host_ports: ports,
                host_network: host,
                message,
            }
        },
    )
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(held in intents()) {
        prop_assert_eq!(intent(encode::intent(&held)), Ok(held));
    }

    #[test]
    fn text_never_panics(uid in "\\PC{0,200}", name in "\\PC{0,300}", address in "\\PC{0,40}") {
        let mut message = good();
        (message.uid, message.name, message.addresses) = (uid, name, vec![address]);
        if let Err(error) = intent(message) {
            prop_assert!(error.to_string().len() < 1000);
        }
    }
}
