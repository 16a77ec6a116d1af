//! Answers as JSON, in the same words as `grpcurl` prints them. Pure.

use serde_json::{Value, json};
use sluice_proto::{
    agent::v1::{
        ControllerLink, ExplainPodResponse, GetStatusResponse, NodeFile, Pod, ProxyStatus,
    },
    capture::v1::PodStatus,
};

/// Indented, for a program and for the person who debugs it.
pub(super) fn text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The node and its pods, in one object.
pub(super) fn node(node: &GetStatusResponse, pods: &[Pod]) -> Value {
    let findings = node.findings.iter().map(|finding| {
        json!({
            "check": finding.check,
            "evidence": finding.evidence,
            "remedy": finding.remedy,
        })
    });
    json!({
        "nodeName": node.node_name,
        "version": node.version,
        "startedAt": time(node.started_at),
        "controller": controller(&node.controller.clone().unwrap_or_default()),
        "proxy": proxy(&node.proxy.clone().unwrap_or_default()),
        "findings": findings.collect::<Vec<_>>(),
        "auditedAt": time(node.audited_at),
        "auditMicros": node.audit_micros,
        "repairs": node.repairs,
        "captureReady": node.capture_ready,
        "message": node.message,
        "leaving": node.leaving().as_str_name(),
        "files": node.files.iter().map(file).collect::<Vec<_>>(),
        "pods": pods.iter().map(pod).collect::<Vec<_>>(),
    })
}

fn file(file: &NodeFile) -> Value {
    json!({
        "path": file.path,
        "present": file.present,
        "current": file.current,
        "message": file.message,
        "source": file.source,
    })
}

/// One pod and what was found.
pub(super) fn explained(explained: &ExplainPodResponse) -> Value {
    let evidence = explained
        .evidence
        .iter()
        .map(|evidence| json!({ "object": evidence.object, "present": evidence.present }));
    json!({
        "pod": pod(&explained.pod.clone().unwrap_or_default()),
        "evidence": evidence.collect::<Vec<_>>(),
        "commands": explained.commands,
    })
}

fn controller(link: &ControllerLink) -> Value {
    let revision = link.revision.as_ref().map(|revision| {
        json!({
            "source": revision.source,
            "pods": revision.pods,
            "namespaces": revision.namespaces,
        })
    });
    json!({
        "connected": link.connected,
        "endpoint": link.endpoint,
        "since": time(link.since),
        "lastError": link.last_error,
        "revision": revision,
        "origin": link.origin().as_str_name(),
    })
}

fn proxy(proxy: &ProxyStatus) -> Value {
    json!({
        "podUid": proxy.pod_uid,
        "netns": proxy.netns,
        "listening": proxy.listening,
        "missing": proxy.missing,
        "ready": proxy.ready,
    })
}

fn pod(pod: &Pod) -> Value {
    json!({
        "uid": pod.uid,
        "namespace": pod.namespace,
        "name": pod.name,
        "wanted": pod.wanted().as_str_name(),
        "status": status(&pod.status.clone().unwrap_or_default()),
        "addresses": pod.addresses,
        "interface": pod.interface,
        "netns": pod.netns,
    })
}

fn status(status: &PodStatus) -> Value {
    json!({
        "uid": status.uid,
        "intentHash": status.intent_hash,
        "state": status.state().as_str_name(),
        "reason": status.reason().as_str_name(),
        "message": status.message,
        "steered": status.steered,
    })
}

fn time(at: Option<prost_types::Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
