use proptest::prelude::*;
use serde_json::Value;

use super::*;

const OLD: &str = r#"{"cniVersion":"0.4.0", "zeta":1.500, "interfaces":[{"name":"veth1","mac":"aa"},{"name":"eth0","sandbox":"/n"}],
  "ips":[{"version":"4","interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1","x":12345678901234567890123},
         {"version":"6","address":"fd00::2/64"}], "routes":[{"dst":"0.0.0.0/0"}], "dns":{}, "alpha":{"b":1,"a":2}}"#;

const NEW: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","interface":0},{"address":"fd00::2/64","interface":-1}],"dns":{"nameservers":["10.0.0.1"]}}"#;

fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).unwrap()
}

fn render(json: &str, version: Version) -> String {
    PrevResult::parse(raw(json))
        .unwrap()
        .render(version)
        .unwrap()
        .into_owned()
}

#[test]
fn the_same_version_is_not_touched() {
    assert_eq!(render(OLD, Version::V0_4_0), OLD);
    assert_eq!(render(NEW, Version::V1_0_0), NEW);
}

#[test]
fn between_old_versions_only_the_version_changes() {
    for version in [Version::V0_3_0, Version::V0_3_1] {
        let expected = format!(
            r#"{{"cniVersion":"{}","zeta":1.500,"interfaces":[{{"name":"veth1","mac":"aa"}},{{"name":"eth0","sandbox":"/n"}}],"ips":"#,
            version.as_str()
        );
        let rendered = render(OLD, version);
        assert!(rendered.starts_with(&expected), "{rendered}");
        assert!(
            rendered.contains(r#""version":"4","interface":1"#),
            "{rendered}"
        );
        assert!(
            rendered.ends_with(r#""dns":{},"alpha":{"b":1,"a":2}}"#),
            "{rendered}"
        );
    }
}

#[test]
fn upwards_the_family_goes() {
    let rendered = render(OLD, Version::V1_0_0);
    assert!(
        rendered.contains(
            r#""ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1","x":12345678901234567890123},{"address":"fd00::2/64"}]"#
        ),
        "{rendered}"
    );
    assert!(rendered.contains(r#""zeta":1.500"#), "{rendered}");
}

#[test]
fn downwards_the_family_comes() {
    assert_eq!(
        render(NEW, Version::V0_3_1),
        r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24","interface":0},{"version":"6","address":"fd00::2/64","interface":-1}],"dns":{"nameservers":["10.0.0.1"]}}"#
    );
}

#[test]
fn a_result_without_a_version_has_that_of_the_configuration() {
    assert_eq!(
        render(r#"{"ips":[]}"#, Version::V0_3_0),
        r#"{"cniVersion":"0.3.0","ips":[]}"#
    );
    assert_eq!(render("{}", Version::V1_0_0), r#"{"cniVersion":"1.0.0"}"#);
}

#[test]
fn interfaces_and_addresses_are_read() {
    let result = PrevResult::parse(raw(OLD)).unwrap();
    assert_eq!(result.interfaces[0].name, "veth1");
    assert_eq!(result.interfaces[1].sandbox, "/n");
    assert_eq!(result.addresses[0].interface(), Some(1));
    assert_eq!(result.addresses[1].interface(), None);
    let result = PrevResult::parse(raw(NEW)).unwrap();
    assert_eq!(
        result.addresses[1].interface(),
        None,
        "-1 is of no interface"
    );
    let nulls = r#"{"cniVersion":"1.0.0","interfaces":null,"ips":null}"#;
    assert!(PrevResult::parse(raw(nulls)).unwrap().interfaces.is_empty());
    assert_eq!(
        render(nulls, Version::V0_4_0),
        nulls.replace("1.0.0", "0.4.0")
    );
}

#[test]
fn a_wrong_result_is_named() {
    for (json, code) in [
        ("7", Code::Decode),
        ("\"x\"", Code::Decode),
        (r#"{"ips":{}}"#, Code::Decode),
        (r#"{"ips":[7]}"#, Code::Decode),
        (r#"{"ips":[{}]}"#, Code::Decode),
        (r#"{"ips":[{"address":7}]}"#, Code::Decode),
        (r#"{"interfaces":[{"name":7}]}"#, Code::Decode),
        (r#"{"cniVersion":7}"#, Code::Decode),
        (r#"{"cniVersion":"0.2.0"}"#, Code::Version),
        (r#"{"cniVersion":"1.2.0"}"#, Code::Version),
    ] {
        let error = PrevResult::parse(raw(json)).expect_err(json);
        assert_eq!(error.code, code, "{json}: {error}");
        assert!(error.msg.contains("prevResult"), "{json}: {error}");
    }
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| format!("{}/24", std::net::Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| format!("{}/64", std::net::Ipv6Addr::from(ip))),
    ]
}

proptest! {
    #[test]
    fn there_and_back_is_the_same(addresses in proptest::collection::vec(address(), 0..5)) {
        let ips: Vec<Value> = addresses
            .iter()
            .map(|address| serde_json::json!({"address": address, "gateway": "\u{1}\"\\"}))
            .collect();
        let new = serde_json::json!({"cniVersion": "1.0.0", "ips": ips}).to_string();
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            let old = render(&new, version);
            let parsed: Value = serde_json::from_str(&old).unwrap();
            for ip in parsed["ips"].as_array().unwrap() {
                let family = if ip["address"].as_str().unwrap().contains(':') { "6" } else { "4" };
                prop_assert_eq!(&ip["version"], family);
            }
            prop_assert_eq!(render(&old, Version::V1_0_0), new.clone());
        }
    }

    #[test]
    fn no_object_panics(key in ".{0,8}", value in "0|[1-9][0-9]{0,30}|true|null|\"[a-z]{0,9}\"|\\[\\]|\\{\\}") {
        let object = format!("{{{}:{value}}}", serde_json::to_string(&key).unwrap());
        if let Ok(result) = PrevResult::parse(raw(&object)) {
            let rendered = result.render(Version::V0_4_0).unwrap();
            prop_assert!(rendered.contains(&value));
        }
    }
}
