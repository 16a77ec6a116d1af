use serde_json::{Value, json};

use super::{Kind as _, Namespaces, Object, Pods};
use crate::model::{Pod, Relevant};

fn relevant() -> Relevant {
    Relevant::new(["app".to_owned()])
}

fn convert(pod: Value) -> Result<Object<crate::model::Uid, std::sync::Arc<Pod>>, String> {
    Pods::new(relevant()).convert(serde_json::from_value(pod).unwrap())
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web-0", "namespace": "shop", "uid": "7b0e", "resourceVersion": "42",
            "creationTimestamp": null, "managedFields": [{"manager": "kubelet"}],
            "labels": {"app": "web", "tier": "front"},
            "annotations": {
                "ambient.istio.io/redirection": "enabled",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "sidecar.istio.io/status": "x".repeat(250 << 10),
            },
        },
        "spec": {
            "nodeName": "a", "serviceAccountName": "web",
            "containers": [{"name": "c", "ports": [
                {"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
                {"containerPort": 81},
            ]}],
            "initContainers": [{"name": "i", "ports": [{"containerPort": 1, "hostPort": 9000, "protocol": "TCP"}]}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]},
    })
}

#[test]
fn a_pod_is_trimmed_to_what_is_used() {
    let object = convert(pod()).unwrap();
    insta::assert_debug_snapshot!(object);
}

#[test]
fn phases_and_states() {
    let change = |path: &str, value: Value| {
        let mut pod = pod();
        *pod.pointer_mut(path).unwrap() = value;
        convert(pod).unwrap().body
    };
    assert!(change("/status/phase", json!("Succeeded")).completed);
    assert!(change("/status/phase", json!("Failed")).completed);
    assert!(!change("/status/phase", json!("Pending")).completed);
    assert_eq!(change("/spec/nodeName", json!("")).node, None);
    assert_eq!(
        &*change("/spec/serviceAccountName", json!(null)).service_account,
        "default"
    );
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    assert!(convert(host).unwrap().body.host_network);
    let mut going = pod();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        convert(going).unwrap().body,
        convert(pod()).unwrap().body,
        "until it is gone it is as it was"
    );
}

#[test]
fn a_static_pod_is_known_by_its_hash() {
    let mut mirror = pod();
    mirror["metadata"]["annotations"]["kubernetes.io/config.hash"] = json!("c0ffee");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("c0ffee");
    assert_eq!(
        convert(mirror.clone()).unwrap().body.static_uid.as_deref(),
        Some("c0ffee")
    );
    mirror["metadata"]["annotations"]["kubernetes.io/config.hash"] = json!("a b");
    let object = convert(mirror).unwrap();
    assert_eq!(object.body.static_uid, None);
    assert_eq!(object.left_out.len(), 1);
}

#[test]
fn what_nobody_checked_is_left_out_and_the_pod_stays() {
    let mut odd = pod();
    odd["status"]["podIPs"] =
        json!([{"ip": "10.0.0.1"}, {"ip": "127.0.0.1"}, {"ip": "x".repeat(5000)}, {}]);
    let ports: Vec<_> = (1..=300).map(|port| json!({"hostPort": port})).collect();
    odd["spec"]["containers"] = json!([{"ports": ports}, {"ports": [{"hostPort": 70000}]}]);
    let object = convert(odd).unwrap();
    assert_eq!(object.body.addresses.len(), 1);
    assert_eq!(object.body.host_ports.len(), 256);
    assert_eq!(object.left_out.len(), 4, "{:?}", object.left_out);
    assert!(object.left_out.iter().all(|reason| reason.len() < 200));
}

#[test]
fn an_object_that_cannot_be_placed_makes_the_answer_unbelievable() {
    for path in ["name", "namespace", "uid", "resourceVersion"] {
        for wrong in [json!(null), json!("")] {
            let mut pod = pod();
            pod["metadata"][path] = wrong;
            assert!(convert(pod).is_err(), "{path}");
        }
    }
    let mut pod = pod();
    pod["metadata"]["namespace"] = json!("Not A Name");
    assert!(convert(pod).is_err());
    assert!(convert(json!({})).is_err());
}

#[test]
fn a_version_that_is_no_number_is_nought() {
    let mut opaque = pod();
    opaque["metadata"]["resourceVersion"] = json!("v7-abc");
    assert_eq!(convert(opaque).unwrap().version, 0);
}

#[test]
fn namespaces() {
    let namespace = json!({
        "kind": "PartialObjectMetadata",
        "metadata": {"name": "shop", "uid": "1", "resourceVersion": "7",
            "labels": {"istio.io/dataplane-mode": "ambient", "kubernetes.io/metadata.name": "shop"}},
    });
    let object = Namespaces::new(relevant())
        .convert(serde_json::from_value(namespace).unwrap())
        .unwrap();
    assert_eq!((&*object.key, object.version), ("shop", 7));
    assert_eq!(object.body.labels.len(), 1);
}
