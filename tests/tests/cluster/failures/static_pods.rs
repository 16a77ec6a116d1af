//! Pods of a kubelet's own folder, which the API server only mirrors.

use serde_json::Value;
use sluice_tests::{
    cluster::{Cluster, SETTLE},
    lab::wait,
};

use super::town::{self, MESH};

/// An enrolled one is captured from its first moment, and again in a new sandbox
/// while there is no API server. One that nobody knows yet waits for it.
pub(super) fn static_pods(cluster: &mut Cluster) {
    town::ready(cluster);
    let tap = cluster.tap();
    let [one, two] = ["fixed", "later"].map(|name| bare(town::dialer(cluster, MESH, name, "na")));
    cluster.node("na").write_static_pod(&one);
    wait_mirror(cluster, "fixed-na");
    town::wait_arrived(cluster, &["fixed-na"]);
    let netns = cluster.running(MESH, "fixed-na").identity.netns;
    let agent = town::agent_pid(cluster, "na");
    let old = town::explained(cluster.node("na"), agent, "mesh/fixed-na").expect("it is known");
    cluster.control.stop_api_server();
    let node = cluster.node("na");
    let errors = || {
        node.log("kubelet")
            .matches("pod mesh/later-na is not known")
            .count()
    };
    let before = errors();
    node.write_static_pod(&two);
    node.end_sandbox(&netns);
    town::wait_reborn(node, agent, "mesh/fixed-na", &old["netns"]);
    wait::value("the later one to be refused", SETTLE, || {
        (errors() > before).then_some(()).ok_or_else(String::new)
    });
    cluster.control.start_api_server();
    let kubeconfig = cluster.kubeconfig();
    cluster.control.wait_ready(&kubeconfig);
    wait_mirror(cluster, "later-na");
    town::wait_arrived(cluster, &["fixed-na", "later-na"]);
    town::assert_unread(&tap, &["fixed.", "later."]);
    for name in ["fixed", "later"] {
        cluster.node("na").remove_static_pod(name);
    }
    cluster.kubectl(&[
        "wait",
        "-n",
        MESH,
        "--for=delete",
        "--timeout=60s",
        "pod/fixed-na",
        "pod/later-na",
    ]);
}

/// As it may be in a kubelet's folder.
fn bare(mut pod: Value) -> Value {
    pod["spec"]
        .as_object_mut()
        .expect("a spec")
        .remove("nodeName");
    pod
}

fn wait_mirror(cluster: &Cluster, name: &str) {
    let pod = format!("pod/{name}");
    cluster.kubectl(&["wait", "-n", MESH, "--for=create", "--timeout=60s", &pod]);
}
