//! What users, other pods and broken agents may try: refused or bounded, told, and
//! nobody else is affected.

mod callers;
mod flood;

pub(super) use callers::{tokens_of_others, tokens_open_nothing_else};
pub(super) use flood::flood;

use std::{thread, time::Duration};

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{Cluster, SETTLE, pod, stand_in::REDIRECTION},
    lab::wait,
};

use super::shop::{self, NAMES, SHOP};

/// As much as the API server takes in one pod, and a little less.
const BIG: usize = 250 << 10;
/// Flips of a namespace's label, one per second.
const FLIPS: usize = 15;

/// Annotations of the size of everything that a pod may say: what means nothing
/// does not matter, what is not supported is told of without being repeated, and
/// what only we may say is said by us in the end.
pub(super) fn big_annotations(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let annotated = |name: &str, key: &str| {
        let mut pod = pod::workload(SHOP, name, "na");
        pod["metadata"]["annotations"] = json!({ key: "x".repeat(BIG) });
        // Not applied: that would write it twice.
        cluster.create(&pod);
    };
    annotated("big-other", "example.com/big");
    annotated("big-asking", "istio.io/reroute-virtual-interfaces");
    annotated("big-liar", REDIRECTION);
    cluster.wait_captured(SHOP, &["big-other", "big-liar"]);
    let told = wait::value("an event of it", SETTLE, || {
        let list = cluster.get(&[
            "-n",
            SHOP,
            "events",
            "--field-selector=involvedObject.name=big-asking",
        ]);
        let events = list["items"].as_array().cloned().unwrap_or_default();
        let ours = events
            .into_iter()
            .find(|event| event["reason"] == "CaptureUnsupported");
        ours.ok_or_else(|| list.to_string())
    });
    let text = told["message"].as_str().unwrap_or_default();
    assert!(text.contains("reroute-virtual-interfaces"), "{told:#}");
    assert!(text.len() < 2048, "{} bytes", text.len());
    assert_eq!(cluster.redirection(SHOP, "big-asking"), None);
    for pod in NAMES {
        assert_eq!(cluster.redirection(SHOP, pod).as_deref(), Some("enabled"));
    }
    cluster.kubectl(&[
        "delete",
        "pod",
        "-n",
        SHOP,
        "big-other",
        "big-asking",
        "big-liar",
    ]);
}

/// A namespace's label that comes and goes each second: no pod is written to more
/// often than that, and the last word counts.
pub(super) fn flapping_label(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    for (last, wanted) in [("none", None), ("ambient", Some("enabled"))] {
        let mark = cluster.audit_mark();
        for flip in 0..FLIPS {
            let mode = if flip % 2 == 0 { "none" } else { "ambient" };
            shop::label(cluster, SHOP, mode);
            // This is what the user does, not what is waited for.
            thread::sleep(Duration::from_secs(1));
        }
        shop::label(cluster, SHOP, last);
        for pod in NAMES {
            cluster.wait_redirection(SHOP, pod, wanted);
            let writes = cluster
                .audited(mark)
                .into_iter()
                .filter(|one| one.is_write() && one.resource == "pods/status" && one.name == pod);
            let writes: Vec<String> = writes.map(|one| one.line()).collect();
            assert!(writes.len() <= FLIPS, "{writes:#?}");
        }
    }
    shop::enrolled(cluster);
    assert_eq!(shop::identities(cluster), before);
}

/// A user cannot call a pod captured, and may opt it out.
pub(super) fn annotation_by_a_user(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let mut liar = pod::workload(SHOP, "liar", "na");
    liar["metadata"]["annotations"] = json!({ REDIRECTION: "enabled" });
    assert_refused(cluster.try_apply(&liar));
    liar["metadata"]["annotations"] = json!({ REDIRECTION: "disabled" });
    cluster.apply(&liar);
    cluster.wait_pods_ready(SHOP, &["liar"]);
    let patch = json!({"metadata": {"annotations": {REDIRECTION: "enabled"}}}).to_string();
    for subresource in [&[][..], &["--subresource=status"]] {
        let args = ["patch", "pod", "-n", SHOP, "liar", "--patch", &patch];
        assert_refused(cluster.try_kubectl(&[&args, subresource].concat()));
    }
    // Everybody else is looked at anew, and this one is left alone.
    let mark = cluster.audit_mark();
    shop::label(cluster, SHOP, "none");
    cluster.wait_redirection(SHOP, "a1", None);
    shop::enrolled(cluster);
    assert_eq!(
        cluster.redirection(SHOP, "liar").as_deref(),
        Some("disabled")
    );
    let touched: Vec<String> = cluster
        .audited(mark)
        .iter()
        .filter(|one| one.name == "liar" && one.is_write())
        .map(|one| one.line())
        .collect();
    assert!(touched.is_empty(), "{touched:#?}");
    let explained = cluster.agent("na", &["explain", &format!("{SHOP}/liar"), "--json"]);
    let explained: Value = serde_json::from_str(&explained.expect("explain")).expect("JSON");
    assert_eq!(
        explained["pod"]["status"]["steered"], false,
        "{explained:#}"
    );
    cluster.kubectl(&["delete", "pod", "-n", SHOP, "liar"]);
}

#[track_caller]
fn assert_refused(answer: Result<String, String>) {
    let error = answer.expect_err("a user called a pod captured");
    assert!(error.contains("only Sluice's controller knows"), "{error}");
}
