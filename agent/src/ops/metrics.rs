//! Every metric of the agent, in one table: `/metrics` describes itself from
//! it, and the page in the documentation is made from it.

use sluice_ops::metrics::{Kind, Metric};

const fn metric(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

/// The table.
pub const TABLE: &[Metric] = &[
    metric(
        "sluice_apply_duration_seconds",
        Kind::Histogram,
        "seconds",
        &[],
        "Time of a pass that changed the kernel, read-back included.",
    ),
    metric(
        "sluice_audit_duration_seconds",
        Kind::Histogram,
        "seconds",
        &[],
        "Time of a pass that looked at the whole kernel state and found nothing to change.",
    ),
    metric(
        "sluice_build_info",
        Kind::Gauge,
        "",
        &["version"],
        "Always 1; the label says which agent this is.",
    ),
    metric(
        "sluice_capture_ready",
        Kind::Gauge,
        "",
        &[],
        "1 while the node can capture: the proxy is ready and nothing forbids it.",
    ),
    metric(
        "sluice_cni_duration_seconds",
        Kind::Histogram,
        "seconds",
        &["verb"],
        "Time from a call of the CNI shim to its answer.",
    ),
    metric(
        "sluice_cni_files_written_total",
        Kind::Counter,
        "files",
        &["kind", "cause"],
        "Files that were put on the node for CNI. kind: binary, conf. cause: install; update, when \
         what they are made from has changed; repair, when somebody else changed or removed them.",
    ),
    metric(
        "sluice_cni_installed",
        Kind::Gauge,
        "",
        &[],
        "1 while the configuration that the runtime takes first names the shim, and the shim is \
         there; 0 also when the agent is not asked to install it.",
    ),
    metric(
        "sluice_cni_requests_total",
        Kind::Counter,
        "calls",
        &["verb", "result"],
        "Calls of the CNI shim. verb: add, del, check. result: captured, passed, proxy, ok, \
         invalid, not_found, unavailable, refused, failed.",
    ),
    metric(
        "sluice_pods",
        Kind::Gauge,
        "pods",
        &["state"],
        "Pods by state: captured, pending, failed, unsupported, released.",
    ),
    metric(
        "sluice_proxy_ready",
        Kind::Gauge,
        "",
        &[],
        "1 while the proxy's namespace lives and all its ports are listened on.",
    ),
    metric(
        "sluice_repairs_total",
        Kind::Counter,
        "objects",
        &["kind"],
        "Objects that were verified, then changed by somebody else, and mended. kind: link, \
         address, neighbour, sysctl, rule, route, nft.",
    ),
    metric(
        "sluice_state_received_timestamp_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "When the controller's last complete state arrived; 0 before the first.",
    ),
    metric(
        "sluice_stream_changed_timestamp_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "When the stream to the controller was last opened or lost.",
    ),
    metric(
        "sluice_stream_connected",
        Kind::Gauge,
        "",
        &[],
        "1 while the stream to the controller is open.",
    ),
    metric(
        "sluice_stream_ends_total",
        Kind::Counter,
        "attempts",
        &[],
        "Streams to the controller that ended, and attempts that never opened one.",
    ),
    metric(
        "sluice_stream_rejections_total",
        Kind::Counter,
        "messages",
        &["reason"],
        "Messages of the controller that were not taken. reason: invalid, older, incomplete, \
         storage.",
    ),
];

/// Records what never changes.
pub fn record_build() {
    metrics::gauge!("sluice_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The page of the documentation.
pub fn page() -> String {
    format!(
        "# Metrics of the agent\n\n\
         Served on `--metrics-listen`, path `/metrics`. This page is made from the table in \
         `agent/src/ops/metrics.rs`; after changing it, run \
         `SLUICE_WRITE_DOCS=1 cargo test -p sluice-agent page_is_current`.\n\n{}",
        sluice_ops::metrics::page(TABLE)
    )
}

#[cfg(test)]
mod tests;
