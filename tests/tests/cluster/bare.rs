//! What the cluster itself must be able to do before Sluice is in it.

use std::{net::IpAddr, time::Duration};

use serde_json::json;
use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        pod::{self, APP},
    },
    lab::{client::Call, wait},
};

use super::shared::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("nodes_are_ready", nodes_are_ready),
    (
        "pods_reach_pods_on_both_nodes",
        pods_reach_pods_on_both_nodes,
    ),
    ("services_by_kube_proxy", services_by_kube_proxy),
    ("probes_by_the_kubelet", probes_by_the_kubelet),
    ("tokens_for_an_audience", tokens_for_an_audience),
    (
        "daemons_see_the_namespaces_of_later_pods",
        daemons_see_the_namespaces_of_later_pods,
    ),
    ("deployments_and_host_ports", deployments_and_host_ports),
    (
        "kubelets_write_their_own_node_only",
        kubelets_write_their_own_node_only,
    ),
    (
        "pods_survive_kubelet_and_containerd",
        pods_survive_kubelet_and_containerd,
    ),
    ("a_client_of_the_api", a_client_of_the_api),
];

const NAMESPACE: &str = "bare";
/// A pod on each node.
const PODS: [(&str, &str); 2] = [("web", "na"), ("client", "nb")];

/// Makes the pods of these scenarios if they are not there.
fn pods(cluster: &Cluster) {
    if cluster
        .try_kubectl(&["get", "namespace", NAMESPACE])
        .is_err()
    {
        cluster.create_namespace(NAMESPACE, &json!({}));
        for (name, node) in PODS {
            cluster.apply(&pod::workload(NAMESPACE, name, node));
        }
    }
    cluster.wait_pods_ready(NAMESPACE, &PODS.map(|(name, _)| name));
}

fn nodes_are_ready(cluster: &mut Cluster) {
    let nodes = cluster.get(&["nodes"]);
    let mut names = Vec::new();
    for node in nodes["items"].as_array().expect("a list of nodes") {
        let conditions = node["status"]["conditions"].as_array().expect("conditions");
        let ready = conditions
            .iter()
            .find(|condition| condition["type"] == "Ready")
            .expect("the condition Ready");
        assert_eq!(ready["status"], "True", "{node:#}");
        assert_eq!(
            node["status"]["nodeInfo"]["kubeletVersion"], "v1.34.2",
            "{node:#}"
        );
        names.push(
            node["metadata"]["name"]
                .as_str()
                .expect("a name")
                .to_owned(),
        );
    }
    assert_eq!(names, ["na", "nb"]);
}

fn pods_reach_pods_on_both_nodes(cluster: &mut Cluster) {
    pods(cluster);
    let [to, from] = PODS.map(|(name, _)| cluster.pod_ips(NAMESPACE, name));
    let families = cluster.options.family.pick(4, 6).len();
    assert_eq!((to.len(), from.len()), (families, families));
    for (to, from) in to.into_iter().zip(from) {
        let answer = cluster.call(NAMESPACE, "client", to, APP);
        assert_eq!(answer, Ok(format!("web saw {from}")));
    }
}

fn services_by_kube_proxy(cluster: &mut Cluster) {
    pods(cluster);
    cluster.apply(&pod::service(NAMESPACE, "web"));
    let addresses = cluster.service_ips(NAMESPACE, "web");
    assert_eq!(addresses.len(), cluster.options.family.pick(4, 6).len());
    for address in addresses {
        // kube-proxy programs it some time after the Service is there.
        wait::value("the Service to answer", SETTLE, || {
            cluster.call(NAMESPACE, "client", address, 80)
        });
    }
    for name in ["web.bare.svc", "web", "web.bare.svc.cluster.local"] {
        let answer = cluster.exec(
            NAMESPACE,
            "client",
            &["workload", "call", &format!("{name}:80")],
        );
        assert!(
            answer
                .as_ref()
                .is_ok_and(|text| text.starts_with("web saw ")),
            "{name}: {answer:?}"
        );
    }
    let chains = cluster.node("na").run("nft", &["list", "tables"]);
    let mode = cluster.options.proxy_mode.name();
    assert_eq!(
        chains.contains("kube-proxy"),
        mode == "nftables",
        "{chains}"
    );
}

fn probes_by_the_kubelet(cluster: &mut Cluster) {
    pods(cluster);
    let ready = |cluster: &Cluster| {
        let pod = cluster.get(&["-n", NAMESPACE, "pod", "web"]);
        pod["status"]["containerStatuses"][0]["ready"] == true
    };
    assert!(ready(cluster));
    let run = |program: &[&str]| cluster.exec(NAMESPACE, "web", program).expect("exec");
    run(&["touch", "/tmp/unready"]);
    assert!(
        wait::until(SETTLE, || !ready(cluster)),
        "the probe fails, but the pod stays ready"
    );
    run(&["rm", "/tmp/unready"]);
    cluster.wait_pods_ready(NAMESPACE, &["web"]);
}

fn tokens_for_an_audience(cluster: &mut Cluster) {
    pods(cluster);
    let mut pod = pod::workload(NAMESPACE, "token", "na");
    pod["spec"]["volumes"] = json!([{
        "name": "token",
        "projected": {"sources": [{"serviceAccountToken": {
            "audience": "sluice-controller",
            "expirationSeconds": 600,
            "path": "token",
        }}]},
    }]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "token", "mountPath": "/var/run/secrets/sluice"}]);
    cluster.apply(&pod);
    cluster.wait_pods_ready(NAMESPACE, &["token"]);
    let token = cluster
        .exec(
            NAMESPACE,
            "token",
            &["cat", "/var/run/secrets/sluice/token"],
        )
        .expect("the token");
    let review = |audience: &str| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let answer = cluster.create(&review);
        answer["status"].clone()
    };
    let status = review("sluice-controller");
    assert_eq!(status["authenticated"], true, "{status:#}");
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["token"])
    );
    assert_eq!(
        extra["authentication.kubernetes.io/node-name"],
        json!(["na"])
    );
    assert_ne!(review("somebody-else")["authenticated"], true);
    cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, "token"]);
}

/// A privileged pod of the node, as a node agent is: a mount of the namespaces'
/// directory that later mounts reach, and the node's own processes.
fn daemons_see_the_namespaces_of_later_pods(cluster: &mut Cluster) {
    pods(cluster);
    let mut daemon = pod::workload(NAMESPACE, "daemon", "na");
    daemon["spec"]["hostNetwork"] = json!(true);
    daemon["spec"]["volumes"] = json!([
        {"name": "netns", "hostPath": {"path": "/var/run/netns"}},
        {"name": "proc", "hostPath": {"path": "/proc"}},
    ]);
    let container = &mut daemon["spec"]["containers"][0];
    container["args"] = json!(["serve", "--port", "8099"]);
    container["ports"] = json!([]);
    container["readinessProbe"]["httpGet"]["port"] = json!(8099);
    container["securityContext"] = json!({"privileged": true});
    container["volumeMounts"] = json!([
        {"name": "netns", "mountPath": "/var/run/netns", "mountPropagation": "HostToContainer"},
        {"name": "proc", "mountPath": "/host/proc", "readOnly": true},
    ]);
    cluster.apply(&daemon);
    cluster.wait_pods_ready(NAMESPACE, &["daemon"]);
    cluster.apply(&pod::workload(NAMESPACE, "later", "na"));
    cluster.wait_pods_ready(NAMESPACE, &["later"]);
    let look = "for ns in /var/run/netns/*; do nsenter --net=$ns ip addr; done";
    let sh = |script: &str| cluster.exec(NAMESPACE, "daemon", &["sh", "-c", script]);
    let seen = sh(look).expect("the namespaces are entered");
    let later = cluster.pod_ips(NAMESPACE, "later")[0].to_string();
    assert!(seen.contains(&later), "no {later} in\n{seen}");
    let others = cluster.pod_ips(NAMESPACE, "client")[0].to_string();
    assert!(
        !seen.contains(&others),
        "a pod of the other node in\n{seen}"
    );
    let names = sh("cat /host/proc/[0-9]*/comm 2>/dev/null || true").expect("the node's processes");
    assert_eq!(names.matches("kubelet\n").count(), 1, "{names}");
    cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, "daemon", "later"]);
}

/// Scheduler, controller manager and portmap.
fn deployments_and_host_ports(cluster: &mut Cluster) {
    pods(cluster);
    let mut template = pod::workload(NAMESPACE, "spread", "na");
    let spec = template["spec"].as_object_mut().expect("a spec");
    spec.remove("nodeName");
    spec["containers"][0]["ports"] = json!([{"containerPort": APP, "hostPort": 18080}]);
    cluster.apply(&json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": NAMESPACE, "name": "spread"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "spread"}},
            "template": {"metadata": {"labels": {"app": "spread"}}, "spec": template["spec"]},
        },
    }));
    // Two cannot have the host port on the same node.
    cluster.kubectl(&[
        "rollout",
        "status",
        "-n",
        NAMESPACE,
        "deployment/spread",
        "--timeout=60s",
    ]);
    for node in &cluster.nodes {
        let answer = Call::to(node.addresses[0], 18080).hello(&cluster.control.netns, "host-port");
        assert!(
            answer
                .as_ref()
                .is_ok_and(|text| text.starts_with("spread-")),
            "{}: {answer:?}",
            node.name
        );
    }
    cluster.kubectl(&["delete", "deployment", "-n", NAMESPACE, "spread"]);
}

fn kubelets_write_their_own_node_only(cluster: &mut Cluster) {
    let node = cluster.node("na");
    let kubeconfig = node.path("/etc/kubernetes/kubelet.conf");
    assert!(kubeconfig.is_file(), "{}", kubeconfig.display());
    let can = |target: &str| {
        let status = node.output(
            &sluice_tests::cluster::tools::kubernetes("kubectl")
                .display()
                .to_string(),
            &[
                "--kubeconfig=/etc/kubernetes/kubelet.conf",
                "annotate",
                "--overwrite",
                "node",
                target,
                "sluice.dev/test=1",
            ],
        );
        status.status.success()
    };
    assert!(can("na"));
    assert!(!can("nb"), "NodeRestriction is not on");
    cluster.kubectl(&["annotate", "node", "na", "sluice.dev/test-"]);
}

fn pods_survive_kubelet_and_containerd(cluster: &mut Cluster) {
    pods(cluster);
    let before = cluster.pod_ips(NAMESPACE, "web");
    let node = cluster.node_mut("na");
    node.stop_kubelet();
    node.stop_containerd();
    let to: IpAddr = before[0];
    assert!(cluster.call(NAMESPACE, "client", to, APP).is_ok());
    let node = cluster.node_mut("na");
    node.start_containerd();
    node.start_kubelet();
    // exec goes through both.
    let seen = wait::value("kubelet to be back", SETTLE, || {
        cluster.exec(NAMESPACE, "web", &["hostname"])
    });
    assert_eq!(seen.trim(), "web");
    assert_eq!(cluster.pod_ips(NAMESPACE, "web"), before);
    let restarts = cluster.get(&["-n", NAMESPACE, "pod", "web"]);
    assert_eq!(
        restarts["status"]["containerStatuses"][0]["restartCount"],
        0
    );
}

fn a_client_of_the_api(cluster: &mut Cluster) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let names = runtime.block_on(async {
        let client = cluster.client().await;
        let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(client);
        let everything = kube::api::ListParams::default();
        let list = nodes.list(&everything);
        let list = tokio::time::timeout(Duration::from_secs(30), list);
        let list = list.await.expect("an answer in time").expect("a list");
        list.items
            .into_iter()
            .filter_map(|node| node.metadata.name)
            .collect::<Vec<_>>()
    });
    assert_eq!(names, ["na", "nb"]);
}
