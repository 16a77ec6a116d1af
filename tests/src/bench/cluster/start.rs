//! The start of pods, from their creation to being ready.

use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::pods;
use crate::{
    bench::{median, quantile, table::Table},
    cluster::Cluster,
    lab::rpc,
};

const ALONE: usize = 10;
const TOGETHER: usize = 8;
const ROUNDS: usize = 4;
/// kubelet's own measure of the part in which plugins are called.
const OPERATIONS: &str = "kubelet_runtime_operations_duration_seconds";
const SANDBOX: &str = "{operation_type=\"run_podsandbox\"}";

/// Samples of one kind of namespace.
#[derive(Debug, Default)]
pub(super) struct Starts {
    alone: Vec<f64>,
    together: Vec<f64>,
    sandbox_alone: Mean,
    sandbox_together: Mean,
}

/// A sum in seconds, and of how many.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Starts {
    /// Starts pods on the first node, in one namespace after the other.
    pub(super) fn of(cluster: &Cluster, namespaces: &[&str]) -> Vec<Self> {
        let mut all: Vec<Self> = namespaces.iter().map(|_| Self::default()).collect();
        // The first of its kind finds nothing in any cache.
        for namespace in namespaces {
            round(cluster, namespace, 1);
        }
        for (count, rounds) in [(1, ALONE), (TOGETHER, ROUNDS)] {
            for _ in 0..rounds {
                for (namespace, starts) in namespaces.iter().zip(&mut all) {
                    let before = Mean::read(cluster);
                    let seconds = round(cluster, namespace, count);
                    let sandboxes = Mean::read(cluster).since(before);
                    starts.take(count, &seconds, sandboxes);
                }
            }
        }
        all
    }

    fn take(&mut self, count: usize, seconds: &[f64], sandboxes: Mean) {
        let (samples, mean) = if count == 1 {
            (&mut self.alone, &mut self.sandbox_alone)
        } else {
            (&mut self.together, &mut self.sandbox_together)
        };
        samples.extend(seconds);
        mean.sum += sandboxes.sum;
        mean.count += sandboxes.count;
    }

    /// How many pods were started, the first one included.
    pub(super) fn pods(&self) -> usize {
        self.alone.len() + self.together.len() + 1
    }
}

/// Makes pods, waits for them and deletes them; seconds of each.
fn round(cluster: &Cluster, namespace: &str, count: usize) -> Vec<f64> {
    let names: Vec<String> = (0..count).map(|number| format!("start-{number}")).collect();
    let wanted: Vec<Pod> = names.iter().map(|name| pods::pod(name, "na")).collect();
    rpc::block_long(async {
        let api: Api<Pod> = pods::api(cluster, namespace).await;
        let start = Instant::now();
        pods::create(&api, &wanted).await;
        let seconds = pods::until(&api, &names, start, pods::is_ready).await;
        pods::delete(&api, &names).await;
        seconds
    })
}

impl Mean {
    fn read(cluster: &Cluster) -> Self {
        let text = cluster.kubectl(&["get", "--raw", "/api/v1/nodes/na/proxy/metrics"]);
        let value = |what: &str| -> f64 {
            let name = format!("{OPERATIONS}_{what}{SANDBOX} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            let value = value.and_then(|value| value.parse().ok());
            // Nothing before its first pod.
            value.unwrap_or_default()
        };
        Self {
            sum: value("sum"),
            count: value("count"),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            sum: self.sum - before.sum,
            count: self.count - before.count,
        }
    }

    fn milliseconds(self) -> f64 {
        self.sum / self.count * 1e3
    }
}

/// Captured pods beside those of the same cluster before Sluice, and of a namespace
/// that is excluded.
pub(super) fn report(
    table: &mut Table,
    profile: &str,
    before: &Starts,
    excluded: &Starts,
    captured: &Starts,
) {
    type Column = (fn(&Starts) -> &Vec<f64>, fn(&Starts) -> Mean);
    let alone: Column = (|starts| &starts.alone, |starts| starts.sandbox_alone);
    let together: Column = (|starts| &starts.together, |starts| starts.sandbox_together);
    for (count, (samples, sandbox)) in [(1, alone), (TOGETHER, together)] {
        let middle = |starts: &Starts| median(samples(starts));
        table.row(
            &format!("pod start in a cluster, {count} at a time: created to ready, captured ({profile} images)"),
            format!(
                "median {:.2} s, p90 {:.2} s",
                middle(captured),
                quantile(samples(captured), 0.9)
            ),
            format!(
                "excluded namespace {:.2} s ({:.0} %); before Sluice was installed {:.2} s ({:.0} %)",
                middle(excluded),
                middle(captured) / middle(excluded) * 100.0,
                middle(before),
                middle(captured) / middle(before) * 100.0
            ),
            "",
        );
        let mean = |starts: &Starts| sandbox(starts).milliseconds();
        table.row(
            &format!("of that, the sandbox and its plugins, {count} at a time, as kubelet measures"),
            format!("mean {:.0} ms", mean(captured)),
            format!(
                "excluded namespace {:.0} ms (difference {:.0} ms); before Sluice {:.0} ms ({:.0} ms)",
                mean(excluded),
                mean(captured) - mean(excluded),
                mean(before),
                mean(captured) - mean(before)
            ),
            "",
        );
    }
}
