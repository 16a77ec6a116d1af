//! Every metric of the agent, in one table: `/metrics` describes itself from
//! it, and the page in the documentation is made from it.

use std::time::{SystemTime, UNIX_EPOCH};

use sluice_ops::metrics::{Kind, Metric};
use tokio::sync::watch;

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
        "sluice_certificate_expires_timestamp_seconds",
        Kind::Gauge,
        "seconds",
        &[],
        "When the node's certificate expires; 0 while there is none.",
    ),
    metric(
        "sluice_certificate_requests_total",
        Kind::Counter,
        "requests",
        &["result"],
        "Requests for the node's certificate to the controller's issuer. result: issued, refused, \
         unreachable, no_token, unusable.",
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
        "sluice_cni_notes_total",
        Kind::Counter,
        "notes",
        &["result"],
        "Notes of the CNI shim for an agent that did not answer. result: taken; rejected, when one \
         makes no sense and was set aside; lost, each time that there were more than fit.",
    ),
    metric(
        "sluice_cni_requests_total",
        Kind::Counter,
        "calls",
        &["verb", "result"],
        "Calls of the CNI shim. verb: add, del, check, status, gc. result: captured, passed, proxy, ok, \
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
        "sluice_sandboxes_swept_total",
        Kind::Counter,
        "sandboxes",
        &[],
        "Sandboxes that were forgotten because they are gone, though nobody deleted them.",
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

/// Records when the certificate expires, each time there is a new one.
pub async fn record_expiry(mut expiry: watch::Receiver<Option<SystemTime>>) {
    loop {
        let end = *expiry.borrow_and_update();
        let since = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
        metrics::gauge!("sluice_certificate_expires_timestamp_seconds")
            .set(since.unwrap_or_default().as_secs_f64());
        if expiry.changed().await.is_err() {
            return;
        }
    }
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
