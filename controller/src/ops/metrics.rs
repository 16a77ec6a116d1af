//! Everything that is measured: one table, and one function per fact.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use sluice_ops::metrics::{Kind, Metric};

use crate::model::Wanted;

/// The table; the page in the documentation is made from it.
pub const TABLE: &[Metric] = &[
    Metric {
        name: "sluice_controller_streams",
        kind: Kind::Gauge,
        unit: "streams",
        labels: &[],
        help: "Streams of nodes that this replica holds.",
    },
    Metric {
        name: "sluice_controller_stream_ends_total",
        kind: Kind::Counter,
        unit: "streams",
        labels: &["code"],
        help: "Streams that ended or were refused, by gRPC code; `Ok`: the agent hung up.",
    },
    Metric {
        name: "sluice_controller_pods",
        kind: Kind::Gauge,
        unit: "pods",
        labels: &["wanted"],
        help: "Pods known, by what is wanted of them.",
    },
    Metric {
        name: "sluice_controller_nodes",
        kind: Kind::Gauge,
        unit: "nodes",
        labels: &[],
        help: "Nodes that have pods.",
    },
    Metric {
        name: "sluice_controller_messages_sent_total",
        kind: Kind::Counter,
        unit: "messages",
        labels: &["kind"],
        help: "Messages sent to agents: parts of snapshots, and deltas.",
    },
    Metric {
        name: "sluice_controller_queue_depth",
        kind: Kind::Gauge,
        unit: "keys",
        labels: &[],
        help: "Pods and namespaces whose newest state has not been sent to their agents yet.",
    },
    Metric {
        name: "sluice_controller_send_delay_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "From a change being known to the message that has it being sent, oldest change of the message.",
    },
    Metric {
        name: "sluice_controller_rejections_total",
        kind: Kind::Counter,
        unit: "messages",
        labels: &["reason"],
        help: "Messages that agents refused to store.",
    },
    Metric {
        name: "sluice_controller_status_reports_total",
        kind: Kind::Counter,
        unit: "reports",
        labels: &[],
        help: "Status reports taken in.",
    },
    Metric {
        name: "sluice_controller_reported_pods",
        kind: Kind::Gauge,
        unit: "pods",
        labels: &["state"],
        help: "Pods of the streams held, by the state their agents report.",
    },
    Metric {
        name: "sluice_controller_resolves_total",
        kind: Kind::Counter,
        unit: "calls",
        labels: &["answer"],
        help: "ResolvePod calls answered.",
    },
    Metric {
        name: "sluice_controller_apply_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time to take a batch of the source in and queue what it changes.",
    },
    Metric {
        name: "sluice_controller_source_in_sync",
        kind: Kind::Gauge,
        unit: "flag",
        labels: &[],
        help: "1 once the source has told of everything there is.",
    },
    Metric {
        name: "sluice_controller_source_errors",
        kind: Kind::Gauge,
        unit: "problems",
        labels: &[],
        help: "What is wrong with the source now: documents that cannot be used, collections that are not followed.",
    },
    Metric {
        name: "sluice_controller_source_contact_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &["collection"],
        help: "How long ago the API server was last heard of, by collection; it is asked every few seconds when nothing happens.",
    },
    Metric {
        name: "sluice_controller_source_lists_total",
        kind: Kind::Counter,
        unit: "lists",
        labels: &["collection"],
        help: "Full lists begun: one at the start, more when the API server has forgotten what came since.",
    },
    Metric {
        name: "sluice_controller_source_failures_total",
        kind: Kind::Counter,
        unit: "failures",
        labels: &["collection", "kind"],
        help: "Lists and watches that failed, and questions whether the API server is there (collection probe).",
    },
    Metric {
        name: "sluice_controller_source_in_touch",
        kind: Kind::Gauge,
        unit: "flag",
        labels: &[],
        help: "0 while the source is not followed: there may be news that this replica does not know.",
    },
    Metric {
        name: "sluice_controller_source_reload_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time to look at the folder and read what is new.",
    },
    Metric {
        name: "sluice_controller_source_reloads_total",
        kind: Kind::Counter,
        unit: "reloads",
        labels: &["result"],
        help: "Looks at the folder: changed, or unchanged.",
    },
    Metric {
        name: "sluice_controller_writes_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: &["kind", "result"],
        help: "Requests to the API server to write back what was found out: `annotate`, `remove_annotation`, `condition`, `untaint`, and `look` when a write did not go as expected; `dropped`: the node's stream was lost meanwhile.",
    },
    Metric {
        name: "sluice_controller_write_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &["kind"],
        help: "Time of such a request.",
    },
    Metric {
        name: "sluice_controller_writes_waiting",
        kind: Kind::Gauge,
        unit: "objects",
        labels: &[],
        help: "Pods and nodes that are to be looked at, or written again later.",
    },
    Metric {
        name: "sluice_controller_events_total",
        kind: Kind::Counter,
        unit: "events",
        labels: &["result"],
        help: "Events for people; `repeated` was told before, `dropped` was too many.",
    },
    Metric {
        name: "sluice_controller_certificate_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "How long the controller's own certificate is still valid.",
    },
    Metric {
        name: "sluice_controller_certificate_requests_total",
        kind: Kind::Counter,
        unit: "requests",
        labels: &["code"],
        help: "Requests for the certificate of a node, by gRPC code; `Ok`: issued.",
    },
    Metric {
        name: "sluice_controller_token_reviews_total",
        kind: Kind::Counter,
        unit: "reviews",
        labels: &["result"],
        help: "Tokens that the API server was asked about: good, bad, or failed when it did not say.",
    },
    Metric {
        name: "sluice_controller_token_review_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time to find out whose token it is, waiting for a turn included.",
    },
    Metric {
        name: "sluice_controller_issuer_authority_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "How long the issuer's authority is still valid; 0 without an issuer.",
    },
];

pub(crate) fn streams(count: usize) {
    gauge!("sluice_controller_streams").set(count as f64);
}

pub(crate) fn stream_end(code: tonic::Code) {
    counter!("sluice_controller_stream_ends_total", "code" => format!("{code:?}")).increment(1);
}

pub(crate) fn pods(wanted: Wanted, count: usize) {
    gauge!("sluice_controller_pods", "wanted" => wanted.word()).set(count as f64);
}

pub(crate) fn nodes(count: usize) {
    gauge!("sluice_controller_nodes").set(count as f64);
}

pub(crate) fn sent(kind: &'static str) {
    counter!("sluice_controller_messages_sent_total", "kind" => kind).increment(1);
}

pub(crate) fn queue_depth(before: usize, after: usize) {
    gauge!("sluice_controller_queue_depth").increment(after as f64 - before as f64);
}

pub(crate) fn send_delay(delay: Duration) {
    histogram!("sluice_controller_send_delay_seconds").record(delay);
}

pub(crate) fn rejection(reason: &'static str) {
    counter!("sluice_controller_rejections_total", "reason" => reason).increment(1);
}

pub(crate) fn status_report() {
    counter!("sluice_controller_status_reports_total").increment(1);
}

pub(crate) fn reported_pods(state: &'static str, change: i32) {
    gauge!("sluice_controller_reported_pods", "state" => state).increment(f64::from(change));
}

pub(crate) fn resolve(answer: &'static str) {
    counter!("sluice_controller_resolves_total", "answer" => answer).increment(1);
}

pub(crate) fn apply(took: Duration) {
    histogram!("sluice_controller_apply_seconds").record(took);
}

pub(crate) fn source_in_sync(in_sync: bool) {
    gauge!("sluice_controller_source_in_sync").set(f64::from(u8::from(in_sync)));
}

pub(crate) fn source_problems(count: usize) {
    gauge!("sluice_controller_source_errors").set(count as f64);
}

pub(crate) fn source_contact(collection: &'static str, age: Duration) {
    gauge!("sluice_controller_source_contact_age_seconds", "collection" => collection)
        .set(age.as_secs_f64());
}

pub(crate) fn source_list(collection: &'static str) {
    counter!("sluice_controller_source_lists_total", "collection" => collection).increment(1);
}

pub(crate) fn source_error(collection: &'static str, kind: &'static str) {
    counter!("sluice_controller_source_failures_total", "collection" => collection, "kind" => kind)
        .increment(1);
}

pub(crate) fn source_in_touch(in_touch: bool) {
    gauge!("sluice_controller_source_in_touch").set(f64::from(u8::from(in_touch)));
}

pub(crate) fn source_reload(took: Duration, changed: bool) {
    let result = if changed { "changed" } else { "unchanged" };
    counter!("sluice_controller_source_reloads_total", "result" => result).increment(1);
    histogram!("sluice_controller_source_reload_seconds").record(took);
}

pub(crate) fn write(kind: &'static str, result: &'static str, took: Duration) {
    counter!("sluice_controller_writes_total", "kind" => kind, "result" => result).increment(1);
    histogram!("sluice_controller_write_seconds", "kind" => kind).record(took);
}

pub(crate) fn writes_waiting(count: usize) {
    gauge!("sluice_controller_writes_waiting").set(count as f64);
}

pub(crate) fn event(result: &'static str) {
    counter!("sluice_controller_events_total", "result" => result).increment(1);
}

pub(crate) fn certificate(left: Duration) {
    gauge!("sluice_controller_certificate_seconds").set(left.as_secs_f64());
}

pub(crate) fn certificate_request(code: tonic::Code) {
    let code = format!("{code:?}");
    counter!("sluice_controller_certificate_requests_total", "code" => code).increment(1);
}

pub(crate) fn token_review(good: bool, took: Duration) {
    let result = if good { "good" } else { "bad" };
    counter!("sluice_controller_token_reviews_total", "result" => result).increment(1);
    histogram!("sluice_controller_token_review_seconds").record(took);
}

pub(crate) fn token_review_failed() {
    counter!("sluice_controller_token_reviews_total", "result" => "failed").increment(1);
}

pub(crate) fn authority(left: Duration) {
    gauge!("sluice_controller_issuer_authority_seconds").set(left.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::TABLE;

    #[test]
    fn the_page_is_current() {
        let page = format!(
            "# Metrics of the controller\n\nServed on `--metrics-listen`, path `/metrics`. This \
             page is made from the table in `controller/src/ops/metrics.rs`; after changing it, \
             run `SLUICE_WRITE_DOCS=1 cargo test -p sluice-controller page_is_current`.\n\n{}",
            sluice_ops::metrics::page(TABLE)
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics-controller.md");
        if env::var_os("SLUICE_WRITE_DOCS").is_some() {
            fs::write(&path, &page).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), page);
    }
}
