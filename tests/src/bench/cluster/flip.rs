//! A namespace full of pods is labelled.

use std::{collections::BTreeMap, env, time::Instant};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{pods, ratio};
use crate::{
    bench::{median, quantile, table::Table},
    cluster::{Cluster, audit::Request, sluice},
    lab::rpc,
};

const NAMESPACE: &str = "bench-flip";
/// As many as are asked for; fewer on a machine that cannot hold them.
const PODS: &str = "SLUICE_BENCH_PODS";
const ROUNDS: usize = 3;

/// Measures from the label to the last annotation, and back.
pub(super) fn run(cluster: &Cluster, table: &mut Table) {
    let count: usize = env::var(PODS).map_or(200, |text| text.parse().expect("SLUICE_BENCH_PODS"));
    let names = fill(cluster, count);
    let (mut last, mut middle, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut requests = Vec::new();
    for _ in 0..ROUNDS {
        let mark = cluster.audit_mark();
        let seconds = flip(cluster, &names, "ambient", true);
        requests.push(cluster.audited(mark));
        last.push(quantile(&seconds, 1.0));
        middle.push(median(&seconds));
        plain.push(by_hand(cluster, &names));
        memory(cluster, table, count, last.len());
        flip(cluster, &names, "none", false);
    }
    table.row(
        &format!("label of a namespace of {count} pods to all annotated as captured"),
        format!(
            "{:.2} s (half of them {:.2} s)",
            median(&last),
            median(&middle)
        ),
        format!(
            "as many annotations written by one client, {} at a time: {:.2} s ({:.0} %)",
            pods::AT_ONCE,
            median(&plain),
            median(&last) / median(&plain) * 100.0
        ),
        "",
    );
    report(table, &requests, count);
    rpc::block_long(async {
        let api: Api<Pod> = pods::api(cluster, NAMESPACE).await;
        pods::delete(&api, &names).await;
    });
}

/// Pods on both nodes, ready.
fn fill(cluster: &Cluster, count: usize) -> Vec<String> {
    cluster.create_namespace(NAMESPACE, &json!({}));
    let names: Vec<String> = (0..count).map(|number| format!("flip-{number}")).collect();
    let nodes = cluster.nodes.iter().map(|node| node.name.as_str()).cycle();
    let wanted: Vec<Pod> = names
        .iter()
        .zip(nodes)
        .map(|(name, node)| pods::pod(name, node))
        .collect();
    rpc::block_long(async {
        let api: Api<Pod> = pods::api(cluster, NAMESPACE).await;
        let start = Instant::now();
        pods::create(&api, &wanted).await;
        pods::until(&api, &names, start, pods::is_ready).await;
        println!(
            "bench: {count} pods are ready after {:.0} s",
            start.elapsed().as_secs_f64()
        );
    });
    names
}

/// Labels the namespace; seconds until each pod is, or is not, called captured.
fn flip(cluster: &Cluster, names: &[String], mode: &str, captured: bool) -> Vec<f64> {
    let label = format!("{}={mode}", sluice::MODE);
    let start = Instant::now();
    cluster.kubectl(&["label", "--overwrite", "namespace", NAMESPACE, &label]);
    rpc::block_long(async {
        let api: Api<Pod> = pods::api(cluster, NAMESPACE).await;
        pods::until(&api, names, start, |pod| pods::is_captured(pod) == captured).await
    })
}

/// Seconds that one client needs to write an annotation to each pod.
fn by_hand(cluster: &Cluster, names: &[String]) -> f64 {
    let patch =
        json!({"metadata": {"annotations": {"example.com/seen": format!("{:?}", Instant::now())}}});
    rpc::block_long(async {
        let api: Api<Pod> = pods::api(cluster, NAMESPACE).await;
        let start = Instant::now();
        let patch = Patch::Merge(&patch);
        let params = PatchParams::default();
        let written = stream::iter(names)
            .map(|name| api.patch(name, &params, &patch))
            .buffer_unordered(pods::AT_ONCE);
        let failed = written
            .filter(|result| std::future::ready(result.is_err()))
            .count()
            .await;
        assert_eq!(failed, 0, "annotations were not written");
        start.elapsed().as_secs_f64()
    })
}

/// Requests of the controllers while the pods were captured, and of anybody else.
fn report(table: &mut Table, rounds: &[Vec<Request>], count: usize) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut total = 0;
    for request in rounds.iter().flatten() {
        if request.user.ends_with(sluice::CONTROLLER) {
            total += 1;
            let kind = format!("{} {}", request.verb, request.resource);
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let agents = rounds
        .iter()
        .flatten()
        .filter(|one| one.user.ends_with(sluice::AGENT))
        .count();
    let per_hundred = |requests: usize| ratio(requests, rounds.len() * count) * 100.0;
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, requests)| format!("{kind} {:.1}", per_hundred(*requests)))
        .collect();
    table.row(
        &format!("API server requests of the controllers per 100 pods captured ({count} pods)"),
        format!("{:.1}", per_hundred(total)),
        format!("{}; of the agents {agents}", kinds.join(", ")),
        "",
    );
}

/// Once is enough.
fn memory(cluster: &Cluster, table: &mut Table, count: usize, round: usize) {
    if round > 1 {
        return;
    }
    let resident = |pods: Vec<String>| -> String {
        let each = pods
            .iter()
            .map(|pod| cluster.resident_kib(sluice::NAMESPACE, pod));
        let each: Vec<String> = each
            .map(|kib| format!("{:.1}", ratio(kib as usize, 1024)))
            .collect();
        format!("{} MB", each.join(" and "))
    };
    let agents = cluster
        .nodes
        .iter()
        .map(|node| cluster.agent_of(&node.name));
    let agents = resident(agents.collect());
    let controllers = resident(cluster.controllers());
    table.row(
        &format!(
            "resident memory with {count} captured pods on two nodes: agents ({} images)",
            super::profile()
        ),
        agents,
        format!("controllers {controllers}"),
        "agent ≤ 30 MB with 500 pods",
    );
}
