use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Body, Object, Parser, Wrong, documents};
use crate::model::{Pod, Relevant};

fn parse(text: &str) -> Result<Vec<Object>, Vec<Wrong>> {
    Parser::new(Relevant::new(["app".to_owned()])).parse(text)
}

fn pod(text: &str) -> Pod {
    let objects = parse(text).unwrap();
    match &objects[..] {
        [
            Object {
                body: Body::Pod(pod),
                ..
            },
        ] => (**pod).clone(),
        other => panic!("{other:?}"),
    }
}

fn wrongs(text: &str) -> Vec<String> {
    let wrong = parse(text).unwrap_err();
    wrong
        .into_iter()
        .map(|wrong| format!("{}: {}", wrong.line, wrong.reason))
        .collect()
}

fn whats(text: &str) -> Vec<String> {
    let objects = parse(text).unwrap();
    let what = |object: &Object| match &object.body {
        Body::Pod(pod) => format!("{} pod {}/{}", object.line, pod.namespace, pod.name),
        Body::Namespace(namespace) => format!("{} ns {}", object.line, namespace.name),
    };
    objects.iter().map(what).collect()
}

const ORDINARY: &str = r"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  uid: 6f6c3f8e-0000-4000-8000-000000000001
  labels: {app: web, tier: front, istio.io/dataplane-mode: ambient}
  annotations:
    kubernetes.io/config.hash: abcdef
    ambient.istio.io/dns-capture: true
    unrelated: very long
spec:
  nodeName: node-a
  serviceAccountName: web
  hostNetwork: false
  containers:
  - name: web
    image: web
    ports:
    - {containerPort: 80, hostPort: 8080}
    - {containerPort: 53, hostPort: 53, protocol: UDP}
    - {containerPort: 81, hostPort: 0}
    - {containerPort: 82}
  initContainers:
  - name: sidecar
    ports: [{hostPort: 9090, protocol: TCP}]
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
";

#[test]
fn an_ordinary_pod() {
    let pod = pod(ORDINARY);
    insta::assert_debug_snapshot!(pod, @r#"
    Pod {
        uid: "6f6c3f8e-0000-4000-8000-000000000001",
        namespace: "shop",
        name: "web",
        node: Some(
            "node-a",
        ),
        service_account: "web",
        labels: {
            "app": "web",
            "istio.io/dataplane-mode": "ambient",
        },
        annotations: {
            "ambient.istio.io/dns-capture": "true",
        },
        host_network: false,
        completed: false,
        addresses: {
            10.0.0.1,
            fd00::1,
        },
        host_ports: {
            8080,
            9090,
        },
        static_uid: Some(
            "abcdef",
        ),
        version: 0,
    }
    "#);
}

#[test]
fn the_least_there_can_be() {
    let first = pod("apiVersion: v1\nkind: Pod\nmetadata: {name: web}");
    assert_eq!(&*first.namespace, "default");
    assert_eq!(&*first.service_account, "default");
    assert_eq!(first.node, None);
    let again = pod(
        "kind: Pod\napiVersion: v1\nmetadata: {name: web, namespace: default, uid: }\nspec: \nstatus: ",
    );
    assert_eq!(first, again, "the same pod, the same uid");
    let other = pod("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: x}");
    assert_ne!(first.uid, other.uid);
}

#[test]
fn several_documents_a_list_and_other_kinds() {
    let text = "# comment
%YAML 1.2
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
# nothing
---
apiVersion: apps/v1
kind: Deployment
metadata: 7
spec: nonsense
--- # a list
apiVersion: v1
kind: List
metadata: {}
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: a}
- apiVersion: v1
  kind: Service
  spec: odd
- kind: Namespace
  apiVersion: v1
  metadata:
    name: other
...
{apiVersion: v1, kind: Pod, metadata: {name: b, annotations: {text: \"x
  y\"}}}
";
    assert_eq!(
        whats(text),
        [
            "4 ns shop",
            "19 pod default/a",
            "25 ns other",
            "30 pod default/b"
        ]
    );
}

#[test]
fn json_with_tabs_and_carriage_returns() {
    let text = "{\r\n\t\"apiVersion\": \"v1\",\r\n\t\"kind\": \"Pod\",\r\n\t\"metadata\": {\r\n\t\t\"name\": \"a\"\r\n\t}\r\n}\r\n";
    assert_eq!(whats(text), ["1 pod default/a"]);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let base = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ok}\n---\n";
    let table = [
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a\n",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n    b: c\n",
        "just text",
        "- a\n- b\n",
        "kind: Pod\nmetadata: {name: a}",
        "apiVersion: v1\nmetadata: {name: a}",
        "apiVersion: v1\nkind: Pod\nspec: {}",
        "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a}",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: Web_1",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a.b",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  uid: a/b",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  nodeName: '../x'",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  hostNetwork: maybe",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nstatus:\n  podIPs:\n  - ip: 10.0.0.256",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nspec:\n  containers:\n  - ports:\n    - hostPort: 70000",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  name: b",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: [a]",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {}",
        "apiVersion: v1\nkind: List\nitems:\n- metadata: {name: a}",
        "\u{0}",
        "apiVersion: v1\nkind: Pod\nmetadata: *missing",
    ];
    let told: Vec<_> = table
        .iter()
        .map(|text| wrongs(&format!("{base}{text}")).join("\n"))
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    7: unclosed bracket '{'
    9: mapping values are not allowed in this context
    5: expected mapping start
    5: expected mapping start
    5: apiVersion is missing; add `apiVersion: v1` and the kind
    5: kind is missing; add `apiVersion: v1` and the kind
    5: metadata is missing
    5: metadata.name is missing
    8: metadata.name "Web_1" is not a name: lower-case letters, digits, '-' inside, at most 253 characters
    8: metadata.name "a.b" is not a name: lower-case letters, digits, '-' inside, at most 63 characters
    9: metadata.uid "a/b" is not a uid: at most 128 printable characters without '/'
    10: spec.nodeName "../x" is not a name: lower-case letters, digits, '-' inside, at most 253 characters
    10: invalid boolean
    11: pod address "10.0.0.256" is not an IP address
    12: hostPort 70000 is not a port
    9: duplicate mapping key: name not allowed here
    9: expected mapping start
    8: metadata.name is missing
    8: kind is missing; add `apiVersion: v1` and the kind
    5: unexpected character: `\u{0}'
    7: reference to unknown value
    "#);
}

#[test]
fn what_would_take_other_peoples_traffic_is_wrong() {
    let mut told = Vec::new();
    for address in [
        "127.0.0.1",
        "::1",
        "169.254.0.9",
        "fe80::1",
        "224.0.0.1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ] {
        let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\nstatus:\n";
        told.extend(wrongs(&format!("{pod}  podIPs: [{{ip: '{address}'}}]\n")));
        told.extend(wrongs(&format!("{pod}  podIP: '{address}'\n")).pop());
    }
    let hash = "metadata: {name: a, annotations: {kubernetes.io/config.hash: \"a\\nb\"}}";
    told.extend(wrongs(&format!("apiVersion: v1\nkind: Pod\n{hash}")));
    told.dedup();
    insta::assert_snapshot!(told.join("\n"), @r#"
    6: pod address "127.0.0.1" is loopback, and no address of one pod
    6: pod address "::1" is loopback, and no address of one pod
    6: pod address "169.254.0.9" is link-local, and no address of one pod
    6: pod address "fe80::1" is link-local, and no address of one pod
    6: pod address "224.0.0.1" is multicast, and no address of one pod
    6: pod address "ff02::1" is multicast, and no address of one pod
    6: pod address "::ffff:10.0.0.1" is IPv4-mapped, and no address of one pod
    6: pod address "0.0.0.0" is unspecified, and no address of one pod
    6: pod address "255.255.255.255" is the broadcast address, and no address of one pod
    1: annotation kubernetes.io/config.hash "a\nb" is not a hash: at most 128 printable characters
    "#);
    // The host's addresses are the host's.
    let host = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true}\nstatus: {podIP: 127.0.0.1}";
    assert!(pod(host).host_network);
}

#[test]
fn the_example_is_understood() {
    let text = include_str!("../../../../../deploy/examples/intent/shop.yaml");
    assert_eq!(
        whats(text),
        [
            "2 ns shop",
            "9 pod shop/cart",
            "19 pod shop/batch",
            "30 pod istio-system/ztunnel-node-a"
        ]
    );
}

#[test]
fn every_wrong_document_is_told_but_not_more_than_some() {
    let two = "kind: Pod\n---\nkind: Pod\n";
    assert_eq!(wrongs(two).len(), 2);
    assert_eq!(wrongs(&two.repeat(100)).len(), 20);
}

#[test]
fn bombs_are_cheap() {
    let mut laughs =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nx0: &x0 [a,a,a,a,a,a,a,a,a]\n".to_owned();
    for n in 1..12 {
        let last = format!("*x{},", n - 1);
        laughs += &format!("x{n}: &x{n} [{}]\n", last.repeat(9));
    }
    let deep = format!(
        "apiVersion: v1\nkind: Pod\nx: {}{}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = "---\na\n".repeat(600_000);
    let lists = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}",
        "- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n".repeat(20_000)
    );
    for bomb in [laughs, deep, many, lists] {
        let started = Instant::now();
        assert!(parse(&bomb).is_err());
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "not a matter of time, but of bounds"
        );
    }
}

proptest! {
    #[test]
    fn text_is_never_lost_between_documents(text in "([-.%# a:\n]|---\n|\\.\\.\\.\n){0,40}") {
        for (document, skipped) in documents(&text) {
            let before = text.split_inclusive('\n').take(usize::try_from(skipped).unwrap());
            let offset: usize = before.map(str::len).sum();
            prop_assert!(text[offset..].starts_with(document));
        }
    }

    #[test]
    fn anything_at_all_is_an_answer(text in "[ -~\n\u{0}\u{fffd}]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn hostile_pods_are_an_answer(
        field in prop::sample::select(vec!["metadata", "spec", "status", "items", "kind"]),
        value in "[\\[\\]{}a:,&*!0-9'\" -]{0,60}",
    ) {
        let _ = parse(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{field}2: a\n{field}: {value}\n"));
        let _ = parse(&format!("apiVersion: v1\nkind: List\n{field}: {value}\n"));
    }
}
