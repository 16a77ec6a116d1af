//! Three ways out.

use sluice_tests::{
    cluster::{Cluster, SETTLE, pod::APP, sluice::MODE, stand_in::REDIRECTION},
    lab::wait,
    stand_in::Direction,
};

use super::shop::{self, NAMES, SHOP};

/// A pod's label, a pod's annotation, the namespace's label: each time the
/// annotation goes first, so that peers can know, and then the capture; the others
/// stay. Nothing is started anew.
pub(super) fn leave(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    let label = format!("{MODE}=none");
    leaves(cluster, "a2", None, || {
        cluster.kubectl(&["label", "--overwrite", "pod", "-n", SHOP, "a2", &label]);
    });
    assert_eq!(cluster.redirection(SHOP, "a1").as_deref(), Some("enabled"));
    cluster.kubectl(&["label", "pod", "-n", SHOP, "a2", &format!("{MODE}-")]);
    cluster.wait_captured(SHOP, &["a2"]);
    shop::wait_told(cluster, "a2", "b1");

    let disabled = format!("{REDIRECTION}=disabled");
    leaves(cluster, "a1", Some("disabled"), || {
        cluster.kubectl(&[
            "annotate",
            "--overwrite",
            "pod",
            "-n",
            SHOP,
            "a1",
            &disabled,
        ]);
    });
    cluster.kubectl(&[
        "annotate",
        "pod",
        "-n",
        SHOP,
        "a1",
        &format!("{REDIRECTION}-"),
    ]);
    cluster.wait_captured(SHOP, &["a1"]);
    shop::wait_told(cluster, "a1", "b1");

    leaves(cluster, "a1", None, || {
        cluster.kubectl(&["label", "namespace", SHOP, &format!("{MODE}-")]);
    });
    for pod in NAMES {
        cluster.wait_redirection(SHOP, pod, None);
    }
    let tap = cluster.tap();
    let client = cluster.running(SHOP, "a1");
    for to in cluster.pod_ips(SHOP, "b1") {
        wait::value("b1 to be called in the clear", SETTLE, || {
            let seen = tap.count("left-behind");
            shop::assert_saw(&client.say(to, APP, "left-behind"), "b1", &client, to);
            (tap.count("left-behind") > seen)
                .then_some(())
                .ok_or("not seen on the wire".to_owned())
        });
    }
    assert_eq!(shop::identities(cluster), before);
}

/// Waits until calls of `pod`, of node `na`, are no longer its proxy's; the
/// annotation must be `after` by then.
fn leaves(cluster: &Cluster, pod: &str, after: Option<&str>, ask: impl FnOnce()) {
    let client = cluster.running(SHOP, pod);
    let to = cluster.pod_ips(SHOP, "b1")[0];
    let source = client.ip_like(to);
    let captured = || {
        let mark = cluster.connections("na").len();
        // One that is under way when the rules go may be lost.
        let answer = client.say(to, APP, "on-the-way-out");
        if answer.is_err() {
            return true;
        }
        shop::assert_saw(&answer, "b1", &client, to);
        let lines = cluster.connections("na");
        let mut lines = lines.get(mark..).unwrap_or_default().iter();
        lines.any(|line| line.direction == Direction::Outbound && line.src.ip() == source)
    };
    assert!(captured(), "{pod} was not captured");
    ask();
    let plain = wait::until(SETTLE, || !captured());
    // The order matters: this is looked at after calls have gone in the clear.
    let annotation = cluster.redirection(SHOP, pod);
    assert!(
        plain,
        "{pod} is captured still; {REDIRECTION} is {annotation:?}\n{}",
        cluster.sluice_state()
    );
    assert_eq!(
        annotation.as_deref(),
        after,
        "{pod} left before peers could know"
    );
}
