use proptest::prelude::*;

use super::{ProxyRule, REDIRECTION, Rules, SIDECAR_STATUS, enrols, wanted};
use crate::model::{Namespace, Pod, Wanted};

type Change = fn(&mut Pod);
type Pairs = &'static [(&'static str, &'static str)];

const AMBIENT: Pairs = &[("istio.io/dataplane-mode", "ambient")];
const NONE: Pairs = &[("istio.io/dataplane-mode", "none")];
const EMPTY: Pairs = &[];

fn rules() -> Rules {
    Rules {
        proxy: ProxyRule {
            namespace: "istio-system".into(),
            service_account: "ztunnel".into(),
            labels: [("app".into(), "ztunnel".into())].into(),
        },
        excluded_namespaces: ["kube-system".into(), "istio-system".into()].into(),
        ..Rules::default()
    }
}

fn pod(labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Pod {
    let map = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    };
    Pod {
        uid: "uid".into(),
        namespace: "shop".into(),
        name: "web".into(),
        node: Some("a".into()),
        service_account: "default".into(),
        labels: map(labels),
        annotations: map(annotations),
        host_network: false,
        completed: false,
        addresses: [].into(),
        host_ports: [].into(),
        static_uid: None,
        version: 0.into(),
    }
}

fn namespace(name: &str, labels: Pairs) -> Namespace {
    Namespace {
        name: name.into(),
        labels: pod(labels, EMPTY).labels,
    }
}

fn decide(pod: &Pod, labels: Pairs) -> Wanted {
    let ns = namespace(&pod.namespace, labels);
    wanted(pod, Some(&ns), &rules()).0
}

#[test]
fn mode_of_namespace_and_pod() {
    let odd: Pairs = &[("istio.io/dataplane-mode", "Ambient")];
    let table = [
        (EMPTY, EMPTY, Wanted::Nothing),
        (EMPTY, NONE, Wanted::Nothing),
        (EMPTY, AMBIENT, Wanted::Captured),
        (EMPTY, odd, Wanted::Nothing),
        (AMBIENT, EMPTY, Wanted::Captured),
        (AMBIENT, NONE, Wanted::Nothing),
        (AMBIENT, AMBIENT, Wanted::Captured),
        (AMBIENT, odd, Wanted::Captured),
        (NONE, EMPTY, Wanted::Nothing),
        (NONE, NONE, Wanted::Nothing),
        (NONE, AMBIENT, Wanted::Captured),
        (odd, EMPTY, Wanted::Nothing),
        (odd, AMBIENT, Wanted::Captured),
    ];
    for (on_namespace, on_pod, expected) in table {
        let decided = decide(&pod(on_pod, EMPTY), on_namespace);
        assert_eq!(decided, expected, "{on_namespace:?} {on_pod:?}");
    }
}

#[test]
fn a_namespace_that_is_not_known_says_nothing() {
    assert_eq!(
        wanted(&pod(EMPTY, EMPTY), None, &rules()).0,
        Wanted::Nothing
    );
    assert_eq!(
        wanted(&pod(AMBIENT, EMPTY), None, &rules()).0,
        Wanted::Captured
    );
}

#[test]
fn never_however_it_is_labelled() {
    let table: [(&str, Change); 8] = [
        ("sidecar", |pod| {
            pod.annotations.insert(SIDECAR_STATUS.into(), "{}".into());
        }),
        ("empty sidecar status", |pod| {
            pod.annotations.insert(SIDECAR_STATUS.into(), "".into());
        }),
        ("opted out", |pod| {
            pod.annotations
                .insert(REDIRECTION.into(), "disabled".into());
        }),
        ("host network", |pod| pod.host_network = true),
        ("completed", |pod| pod.completed = true),
        ("excluded namespace", |pod| {
            pod.namespace = "kube-system".into();
        }),
        ("excluded namespace, with an odd annotation", |pod| {
            pod.namespace = "kube-system".into();
            pod.annotations.insert("sluice.dev/x".into(), "".into());
        }),
        ("host network proxy", |pod| {
            *pod = proxy();
            pod.host_network = true;
        }),
    ];
    for (what, change) in table {
        let mut changed = pod(AMBIENT, EMPTY);
        change(&mut changed);
        assert_eq!(decide(&changed, AMBIENT), Wanted::Nothing, "{what}");
    }
}

fn proxy() -> Pod {
    let mut proxy = pod(&[("app", "ztunnel")], EMPTY);
    proxy.namespace = "istio-system".into();
    proxy.service_account = "ztunnel".into();
    proxy
}

#[test]
fn a_proxy_is_one_by_namespace_account_and_labels_together() {
    assert_eq!(decide(&proxy(), EMPTY), Wanted::Proxy);
    assert_eq!(decide(&proxy(), AMBIENT), Wanted::Proxy);
    let pretenders: [fn(&mut Pod); 4] = [
        |pod| pod.namespace = "shop".into(),
        |pod| pod.service_account = "default".into(),
        |pod| pod.labels.clear(),
        |pod| {
            pod.labels.insert("app".into(), "web".into());
        },
    ];
    for change in pretenders {
        let mut pretender = proxy();
        change(&mut pretender);
        assert_ne!(decide(&pretender, AMBIENT), Wanted::Proxy, "{pretender:?}");
    }
}

#[test]
fn what_redirection_says_otherwise_is_no_opt_out() {
    for value in ["enabled", "pending", "", "Disabled", "disabled "] {
        let decided = decide(&pod(EMPTY, &[(REDIRECTION, value)]), AMBIENT);
        assert_eq!(decided, Wanted::Captured, "{value:?}");
    }
}

#[test]
fn capture_annotations() {
    let bypass = "ambient.istio.io/bypass-inbound-capture";
    let dns = "ambient.istio.io/dns-capture";
    let reroute = "istio.io/reroute-virtual-interfaces";
    let table = [
        (bypass, "true", Wanted::Unsupported),
        (bypass, "T", Wanted::Unsupported),
        (bypass, "false", Wanted::Captured),
        (bypass, "yes", Wanted::Captured),
        (bypass, "", Wanted::Captured),
        (dns, "1", Wanted::Unsupported),
        (dns, "0", Wanted::Captured),
        (dns, "\u{fffd}; drop", Wanted::Captured),
        (reroute, "eth1,eth2", Wanted::Unsupported),
        (reroute, "", Wanted::Captured),
        (reroute, "  ", Wanted::Captured),
        ("sluice.dev/exclude-ports", "80", Wanted::Unsupported),
        ("sluice.dev/", "", Wanted::Unsupported),
        (
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "80",
            Wanted::Captured,
        ),
        (
            "sidecar.istio.io/interceptionMode",
            "TPROXY",
            Wanted::Captured,
        ),
    ];
    for (key, value, expected) in table {
        let annotated = pod(EMPTY, &[(key, value)]);
        let ns = namespace("shop", AMBIENT);
        let (decided, message) = wanted(&annotated, Some(&ns), &rules());
        assert_eq!(decided, expected, "{key}={value:?}");
        assert_eq!(
            message.is_some_and(|text| text.contains(key)),
            expected == Wanted::Unsupported
        );
        assert_eq!(
            decide(&annotated, EMPTY),
            Wanted::Nothing,
            "not enrolled, so nothing to refuse: {key}={value:?}"
        );
    }
}

#[test]
fn namespaces_by_label() {
    assert!(enrols(&namespace("shop", AMBIENT), &rules()));
    assert!(!enrols(&namespace("shop", NONE), &rules()));
    assert!(!enrols(&namespace("shop", EMPTY), &rules()));
    assert!(!enrols(&namespace("kube-system", AMBIENT), &rules()));
}

proptest! {
    #[test]
    fn hostile_values_never_panic(key in ".{0,40}", value in ".{0,80}", ours in any::<bool>()) {
        let key = if ours { format!("sluice.dev/{key}") } else { key };
        let hostile = pod(&[(key.as_str(), value.as_str())], &[(key.as_str(), value.as_str())]);
        let (decided, message) = wanted(&hostile, Some(&namespace("shop", AMBIENT)), &rules());
        prop_assert_eq!(decided == Wanted::Unsupported, message.is_some());
    }
}
