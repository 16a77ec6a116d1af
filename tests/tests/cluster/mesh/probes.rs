//! The kubelet's own probes of captured pods.

use sluice_tests::{
    cluster::{Cluster, SETTLE, pod::APP},
    lab::wait,
};

use super::shop::{self, GUARDED, PLAIN, SHOP, STRICT};

/// Probes pass although nobody without an identity may call, by HTTP, by TCP and by
/// a program; and one that fails is noticed, so it is the pod that they ask.
pub(super) fn probes(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    let pods = [(SHOP, "a2"), (SHOP, "b2")];
    let since = pods.map(|(namespace, pod)| condition(cluster, namespace, pod));
    let guarded = cluster.running(STRICT, GUARDED);
    let outsider = cluster.running(PLAIN, shop::OUTSIDER);
    let insider = cluster.running(SHOP, "a1");
    for to in guarded.ips.clone() {
        let refused = outsider.call(to, APP, &[]);
        let reset = |error: &String| error.starts_with("reset") || error.starts_with("closed");
        assert!(
            refused.as_ref().is_err_and(reset),
            "the policy is not in force: {refused:?}"
        );
        shop::assert_saw(&insider.call(to, APP, &[]), GUARDED, &insider, to);
    }
    for (namespace, pod) in [(SHOP, "a1"), (STRICT, GUARDED)] {
        let run = |program: &[&str]| cluster.exec(namespace, pod, program).expect("exec");
        run(&["touch", "/tmp/unready"]);
        wait_ready(cluster, namespace, pod, "False");
        run(&["rm", "/tmp/unready"]);
        wait_ready(cluster, namespace, pod, "True");
    }
    // Those that nobody meddled with were ready all the time.
    for ((namespace, pod), since) in pods.into_iter().zip(since) {
        assert_eq!(
            condition(cluster, namespace, pod),
            since,
            "{pod} was not ready for a while"
        );
    }
    assert_eq!(
        shop::identities(cluster),
        before,
        "a liveness probe has failed"
    );
    assert_eq!(cluster.running(STRICT, GUARDED).identity, guarded.identity);
}

fn wait_ready(cluster: &Cluster, namespace: &str, pod: &str, wanted: &str) {
    wait::value(&format!("Ready of {pod} to be {wanted}"), SETTLE, || {
        let (status, since) = condition(cluster, namespace, pod);
        (status == wanted)
            .then_some(())
            .ok_or(format!("{status} since {since}"))
    });
}

/// The condition Ready of a pod, and since when.
fn condition(cluster: &Cluster, namespace: &str, pod: &str) -> (String, String) {
    let pod = cluster.get(&["-n", namespace, "pod", pod]);
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions
        .iter()
        .find(|one| one["type"] == "Ready")
        .expect("Ready");
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("lastTransitionTime"))
}
