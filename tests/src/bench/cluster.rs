//! Sluice in a real cluster: what it costs a pod that starts, how long a label
//! takes, and what the API server sees of it.

mod flip;
mod pods;
mod start;

use std::env;

use serde_json::json;

use super::table::Table;
use crate::cluster::{Cluster, Options, sluice};

/// Never enrolled; enrolled; and excluded from everything by its name.
const EXCLUDED: &str = "kube-system";
const ENROLLED: &str = "bench-mesh";

/// Measures in a cluster of its own: first without Sluice, then with it.
pub fn run(table: &mut Table) {
    let cluster = Cluster::up(Options::default());
    cluster.import_sluice();
    cluster.start_proxies(Vec::new());
    cluster.create_namespace(ENROLLED, &json!({}));
    let without = start::Starts::of(&cluster, &[ENROLLED]);
    cluster.install_sluice(&[]);
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    let label = format!("{}=ambient", sluice::MODE);
    cluster.kubectl(&["label", "namespace", ENROLLED, &label]);
    let mark = cluster.audit_mark();
    let with = start::Starts::of(&cluster, &[EXCLUDED, ENROLLED]);
    let requests = cluster.audited(mark);
    start::report(table, &profile(), &without[0], &with[0], &with[1]);
    let agents = requests
        .iter()
        .filter(|one| one.user.ends_with(sluice::AGENT))
        .count();
    let captured = with[1].pods();
    table.row(
        "API server requests of the node per ADD of a captured pod",
        format!("{:.2} ({agents} for {captured})", ratio(agents, captured)),
        "counted by the API server itself".into(),
        "0",
    );
    flip::run(&cluster, table);
}

/// How the images were built.
fn profile() -> String {
    env::var("SLUICE_IMAGE_PROFILE").unwrap_or_else(|_| "image".into())
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
