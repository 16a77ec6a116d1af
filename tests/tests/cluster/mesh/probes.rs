//! The kubelet's own probes of captured pods.

use sluice_tests::{
    cluster::{Cluster, SETTLE, pod::APP},
    lab::wait,
    workloads::Policy,
};

use super::shop::{self, NAMES, PLAIN, SHOP};

/// Probes pass although nobody without an identity may call, by HTTP, by TCP and by
/// a program; and one that fails is noticed, so it is the pod that they ask.
pub(super) fn probes(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let before = shop::identities(cluster);
    let ready = |pod: &str| condition(cluster, pod);
    let since: Vec<_> = NAMES.iter().map(|pod| ready(pod)).collect();
    cluster.publish(SHOP, &[Policy::strict(SHOP)]);
    let outsider = cluster.running(PLAIN, shop::OUTSIDER);
    let insider = cluster.running(SHOP, "a1");
    for to in cluster.pod_ips(SHOP, "b1") {
        let refused = outsider.call(to, APP, &[]);
        let reset = refused
            .as_ref()
            .is_err_and(|error| error.starts_with("reset"));
        assert!(reset, "the policy is not in force: {refused:?}");
        shop::assert_saw(&insider.call(to, APP, &[]), "b1", &insider, to);
    }
    for pod in ["a1", "b1"] {
        let run = |program: &[&str]| cluster.exec(SHOP, pod, program).expect("exec");
        run(&["touch", "/tmp/unready"]);
        wait_ready(cluster, pod, "False");
        run(&["rm", "/tmp/unready"]);
        wait_ready(cluster, pod, "True");
    }
    // Those that nobody meddled with were ready all the time.
    for (pod, since) in NAMES
        .iter()
        .zip(since)
        .filter(|(pod, _)| pod.ends_with('2'))
    {
        assert_eq!(ready(pod), since, "{pod} was not ready for a while");
    }
    assert_eq!(
        shop::identities(cluster),
        before,
        "a liveness probe has failed"
    );
    cluster.publish(SHOP, &[]);
}

fn wait_ready(cluster: &Cluster, pod: &str, wanted: &str) {
    wait::value(&format!("Ready of {pod} to be {wanted}"), SETTLE, || {
        let (status, since) = condition(cluster, pod);
        (status == wanted)
            .then_some(())
            .ok_or(format!("{status} since {since}"))
    });
}

/// The condition Ready of a pod, and since when.
fn condition(cluster: &Cluster, pod: &str) -> (String, String) {
    let pod = cluster.get(&["-n", SHOP, "pod", pod]);
    let conditions = pod["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions
        .iter()
        .find(|one| one["type"] == "Ready")
        .expect("Ready");
    let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("lastTransitionTime"))
}
