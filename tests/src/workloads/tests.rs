use proptest::prelude::*;

use super::*;

/// As ztunnel's users write it, with nothing that has a default.
const EXAMPLE: &str = r#"
workloads:
- {uid: c//Pod/d/a1, name: a1, namespace: d, serviceAccount: a1, workloadIps: ["10.91.1.2","fd00:91:1::2"], protocol: HBONE, node: na, network: "", services: {"d/a1.d.svc.cluster.local": {80: 8080}}}
- uid: c//Pod/d/b1
  namespace: d
  workloadIps: ["10.91.2.2"]
  services: {}
services:
- {name: a1, namespace: d, hostname: a1.d.svc.cluster.local, vips: ["/10.96.0.11","/fd00:96::11"], ports: {80: 8080}}
policies:
- name: strict
  namespace: d
  scope: Namespace
  action: Deny
  rules:
  - - - notPrincipals:
        - !Presence []
"#;

fn mesh() -> Workloads {
    let service = Service::new("d", "a1", &["10.96.0.11".parse().unwrap()], 80, 8080);
    let address = "10.91.1.2".parse().unwrap();
    Workloads {
        workloads: vec![Workload::hbone("d", "a1", "na", &[address]).serving(&service)],
        services: vec![service],
        policies: vec![
            Policy::strict("d"),
            Policy::allow("callers", "d", &["cluster.local/ns/d/sa/a1"]),
        ],
    }
}

#[test]
fn the_example_is_understood() {
    let all = Workloads::parse(EXAMPLE).unwrap();
    assert_eq!(all.workloads[0].protocol, Protocol::Hbone);
    assert_eq!(
        all.workloads[0].services["d/a1.d.svc.cluster.local"][&80],
        8080
    );
    assert_eq!(all.workloads[1].protocol, Protocol::Tcp);
    assert_eq!(all.workloads[1].service_account, "default");
    assert_eq!(all.services[0].vips[1].0.to_string(), "fd00:96::11");
    assert_eq!(all.policies, vec![Policy::strict("d")]);
}

#[test]
fn written_text() {
    insta::assert_snapshot!(mesh().to_yaml(), @r#"
    workloads:
    - {uid: "Kubernetes//Pod/d/a1", name: "a1", namespace: "d", serviceAccount: "a1", trustDomain: "cluster.local", workloadIps: ["10.91.1.2"], protocol: "HBONE", node: "na", network: "", authorizationPolicies: [], services: {"d/a1.d.svc.cluster.local": {80: 8080}}}
    services:
    - {name: "a1", namespace: "d", hostname: "a1.d.svc.cluster.local", vips: ["/10.96.0.11"], ports: {80: 8080}}
    policies:
    - {name: "strict", namespace: "d", scope: "Namespace", action: "Deny", rules: [[[{notPrincipals: [!Presence []]}]]]}
    - {name: "callers", namespace: "d", scope: "Namespace", action: "Allow", rules: [[[{principals: [!Exact "cluster.local/ns/d/sa/a1"]}]]]}
    "#);
}

#[test]
fn what_is_not_understood_is_refused() {
    let cases = [
        ("waypoints: []", "unknown field"),
        (
            "policies: [{name: a, namespace: d, scope: Namespace, action: Deny, rules: [[[{sourceIps: [\"10.0.0.0/8\"]}]]]}]",
            "sourceIps",
        ),
        (
            "policies: [{name: a, namespace: d, scope: Mesh, action: Deny, rules: []}]",
            "Mesh",
        ),
        (
            "workloads: [{namespace: d, workloadIps: [\"10.0.0.1\"]}]",
            "services",
        ),
        (
            "workloads: [{namespace: d, workloadIps: [\"10.0.0.1\"], waypoint: x, services: {}}]",
            "waypoint",
        ),
        (
            "services: [{name: a, namespace: d, hostname: h, vips: [\"other/10.0.0.1\"], ports: {}}]",
            "empty network",
        ),
        (
            "services: [{name: a, namespace: d, hostname: h, vips: [\"10.0.0.1\"], ports: {}}]",
            "<network>/<address>",
        ),
    ];
    for (text, reason) in cases {
        let error = Workloads::parse(text).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let told = source.unwrap_or_else(|| error.to_string());
        assert!(told.contains(reason), "{text}: {told}");
    }
}

#[test]
fn references_must_lead_somewhere() {
    let mut all = mesh();
    all.services.clear();
    let error = Workloads::parse(&all.to_yaml()).unwrap_err();
    assert!(
        matches!(error, WorkloadsError::UnknownService { .. }),
        "{error}"
    );

    let mut all = mesh();
    all.workloads[0]
        .authorization_policies
        .push("d/other".to_owned());
    let error = Workloads::parse(&all.to_yaml()).unwrap_err();
    assert!(
        matches!(error, WorkloadsError::UnknownPolicy { .. }),
        "{error}"
    );

    let mut all = mesh();
    all.workloads.push(all.workloads[0].clone());
    let error = Workloads::parse(&all.to_yaml()).unwrap_err();
    assert!(
        matches!(error, WorkloadsError::DuplicateAddress { .. }),
        "{error}"
    );
}

fn string_matches() -> impl Strategy<Value = Vec<StringMatch>> {
    let one = prop_oneof![
        any::<String>().prop_map(StringMatch::Exact),
        any::<String>().prop_map(StringMatch::Prefix),
        any::<String>().prop_map(StringMatch::Suffix),
        Just(StringMatch::Presence()),
    ];
    prop::collection::vec(one, 0..3)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        name in any::<String>(),
        addresses in prop::collection::btree_set(any::<IpAddr>(), 0..3),
        ports in prop::collection::btree_map(any::<u16>(), any::<u16>(), 0..3),
        principals in string_matches(),
        not_namespaces in string_matches(),
        destination_ports in prop::collection::vec(any::<u16>(), 0..3),
    ) {
        let mut all = mesh();
        all.workloads[0].name = name;
        all.workloads[0].workload_ips = addresses.into_iter().collect();
        all.services[0].ports = ports;
        all.policies[0].rules[0][0].push(Match { principals, not_namespaces, destination_ports, ..Match::default() });
        prop_assert_eq!(Workloads::parse(&all.to_yaml()).unwrap(), all);
    }

    #[test]
    fn reading_never_panics(text in any::<String>()) {
        let _ = Workloads::parse(&text);
    }
}
