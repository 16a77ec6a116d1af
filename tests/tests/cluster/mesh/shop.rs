//! The namespace that is enrolled, one that never is, and the way from a cluster
//! with neither to one in which everything is captured.

use std::{collections::BTreeMap, fs, net::IpAddr};

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        pod::{self, APP},
        running::{Identity, Running},
        sluice::MODE,
        snapshot::Snapshot,
    },
    lab::wait,
    stand_in::ConnectionLog,
    workloads::Policy,
};

pub(super) const SHOP: &str = "shop";
/// Enrolled, and nobody without an identity may call its one pod.
pub(super) const STRICT: &str = "strict";
pub(super) const GUARDED: &str = "guarded";
/// Never enrolled.
pub(super) const PLAIN: &str = "plain";
pub(super) const PODS: [(&str, &str); 4] = [("a1", "na"), ("a2", "na"), ("b1", "nb"), ("b2", "nb")];
pub(super) const NAMES: [&str; 4] = ["a1", "a2", "b1", "b2"];
/// A server and a client of it, whose one connection is to outlive everything.
pub(super) const OUTSIDER: &str = "outsider";
pub(super) const HOLDER: &str = "holder";

/// Pods, Services and proxies, before Sluice. The nodes as they were before that
/// are kept for the end.
pub(super) fn stocked(cluster: &Cluster) {
    if cluster.try_kubectl(&["get", "namespace", SHOP]).is_ok() {
        return;
    }
    wait_quiet(cluster);
    for node in &cluster.nodes {
        let text = serde_json::to_string(&node.snapshot()).expect("JSON of a snapshot");
        fs::write(snapshot_file(cluster, &node.name), text).expect("keep a snapshot");
    }
    cluster.import_sluice();
    for namespace in [SHOP, STRICT, PLAIN] {
        cluster.create_namespace(namespace, &json!({}));
    }
    for (name, node) in PODS {
        cluster.apply(&probed(SHOP, name, node));
    }
    cluster.apply(&probed(STRICT, GUARDED, "nb"));
    cluster.apply(&pod::workload(PLAIN, OUTSIDER, "na"));
    cluster.apply(&service("b1"));
    cluster.apply(&service("a2"));
    cluster.start_proxies(vec![Policy::strict(STRICT)]);
    cluster.wait_pods_ready(SHOP, &NAMES);
    cluster.wait_pods_ready(STRICT, &[GUARDED]);
    cluster.wait_pods_ready(PLAIN, &[OUTSIDER]);
    hold(cluster);
}

/// Waits until nothing of earlier scenarios is on its way out.
fn wait_quiet(cluster: &Cluster) {
    wait::value("pods that are deleted to be gone", SETTLE, || {
        let pods = cluster.get(&["pods", "-A"]);
        let leaving = |pod: &&Value| {
            let meta = &pod["metadata"];
            !meta["deletionTimestamp"].is_null() || !meta["ownerReferences"].is_null()
        };
        match pods["items"].as_array().into_iter().flatten().find(leaving) {
            Some(pod) => Err(pod["metadata"]["name"].to_string()),
            None => Ok(()),
        }
    });
}

/// The same with Sluice.
pub(super) fn installed(cluster: &Cluster) {
    stocked(cluster);
    if !cluster.is_sluice_installed() {
        cluster.install_sluice(&[]);
        cluster.wait_sluice();
        cluster.wait_capture_ready();
    }
}

/// The same with all pods of both namespaces captured, and all proxies told.
pub(super) fn enrolled(cluster: &Cluster) {
    installed(cluster);
    for namespace in [SHOP, STRICT] {
        label(cluster, namespace, "ambient");
    }
    cluster.wait_captured(SHOP, &NAMES);
    cluster.wait_captured(STRICT, &[GUARDED]);
    for (client, server) in [("a1", "a2"), ("a1", "b1"), ("b1", "a2"), ("b1", "b2")] {
        wait_told(cluster, client, server);
    }
}

/// Proxies learn of annotations by themselves: waits until a client's speaks to the
/// server's.
pub(super) fn wait_told(cluster: &Cluster, client: &str, server: &str) {
    let client = cluster.running(SHOP, client);
    for to in cluster.pod_ips(SHOP, server) {
        let mark = cluster.connections(&client.node.name).len();
        wait::value(
            &format!("{} to be tunnelled to {server}", client.name),
            SETTLE,
            || {
                client.call(to, APP, &[])?;
                let lines = cluster.connections(&client.node.name);
                let later = lines.get(mark..).unwrap_or_default();
                let tunnelled = |line: &&ConnectionLog| line.dst.ip() == to && line.encrypted;
                let found = later.iter().find(tunnelled);
                found.map(|_| ()).ok_or_else(|| format!("{later:#?}"))
            },
        );
    }
}

/// Labels a namespace with a mode.
pub(super) fn label(cluster: &Cluster, namespace: &str, mode: &str) {
    let label = format!("{MODE}={mode}");
    cluster.kubectl(&["label", "--overwrite", "namespace", namespace, &label]);
}

pub(super) fn snapshot_before(cluster: &Cluster, node: &str) -> Snapshot {
    let text = fs::read_to_string(snapshot_file(cluster, node)).expect("the snapshot kept");
    serde_json::from_str(&text).expect("a snapshot")
}

fn snapshot_file(cluster: &Cluster, node: &str) -> std::path::PathBuf {
    cluster.dir().join(format!("before-{node}.json"))
}

/// What tells the shop's pods from others that have their names.
pub(super) fn identities(cluster: &Cluster) -> BTreeMap<&'static str, Identity> {
    NAMES
        .into_iter()
        .map(|name| (name, cluster.running(SHOP, name).identity))
        .collect()
}

/// A pod with every kind of probe: readiness by HTTP, liveness by TCP or, for b2,
/// by a program. One failure is enough to be seen.
fn probed(namespace: &str, name: &str, node: &str) -> Value {
    let mut pod = pod::workload(namespace, name, node);
    let container = &mut pod["spec"]["containers"][0];
    container["livenessProbe"] = if name == "b2" {
        json!({"exec": {"command": ["test", "!", "-e", "/tmp/dead"]}})
    } else {
        json!({"tcpSocket": {"port": APP}})
    };
    for probe in ["readinessProbe", "livenessProbe"] {
        container[probe]["periodSeconds"] = json!(1);
        container[probe]["failureThreshold"] = json!(1);
        container[probe]["timeoutSeconds"] = json!(10);
    }
    pod
}

/// A Service for one pod: TCP and UDP on 80, on every node too.
fn service(app: &str) -> Value {
    let mut service = pod::service(SHOP, app);
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"] = json!([
        {"name": "tcp", "port": 80, "targetPort": APP},
        {"name": "udp", "port": 80, "targetPort": APP, "protocol": "UDP"},
    ]);
    service
}

/// Starts the pod that holds a connection outside of the mesh.
fn hold(cluster: &Cluster) {
    let to = cluster.pod_ips(PLAIN, OUTSIDER)[0];
    cluster.apply(&holding(PLAIN, HOLDER, "nb", to));
    wait_holding(cluster, PLAIN, HOLDER);
}

/// The same again, if a scenario that failed has cut it.
pub(super) fn hold_again(cluster: &Cluster) {
    if held(cluster, PLAIN, HOLDER).is_err() {
        cluster.kubectl(&["delete", "pod", "-n", PLAIN, HOLDER]);
        hold(cluster);
    }
}

/// A pod whose one connection is its life. It begins when a first call was
/// answered: its proxy may not know it yet. A lost connection is reset or closed,
/// or silent for longer than a busy machine is.
pub(super) fn holding(namespace: &str, name: &str, node: &str, to: IpAddr) -> Value {
    let to = std::net::SocketAddr::new(to, APP);
    let mut pod = pod::workload(namespace, name, node);
    pod["spec"]["restartPolicy"] = json!("Never");
    let script = format!(
        "until workload call {to} --line 'held by {name}'; do sleep 0.1; done
        exec workload hold {to} --line 'held by {name}' --patience 20000"
    );
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-ec", script]);
    let fields = container.as_object_mut().expect("a container");
    fields.remove("args");
    fields.remove("readinessProbe");
    pod
}

/// Waits until a holding pod holds.
pub(super) fn wait_holding(cluster: &Cluster, namespace: &str, name: &str) -> u64 {
    wait::value(&format!("{name} to hold a connection"), SETTLE, || {
        held(cluster, namespace, name)
    })
}

/// Shows that a holding pod holds its connection still: it says one more line.
#[track_caller]
pub(super) fn assert_holding(cluster: &Cluster, namespace: &str, name: &str) {
    let before = held(cluster, namespace, name).unwrap_or_else(|error| panic!("{error}"));
    let grown = wait::until(SETTLE, || {
        held(cluster, namespace, name).is_ok_and(|now| now > before)
    });
    assert!(
        grown,
        "{name} hangs at {before}: {:?}",
        held(cluster, namespace, name)
    );
}

/// How many lines have been there and back.
fn held(cluster: &Cluster, namespace: &str, name: &str) -> Result<u64, String> {
    let pod = cluster.get(&["-n", namespace, "pod", name]);
    let log = cluster.try_kubectl(&["logs", "-n", namespace, name, "--tail=2"])?;
    if pod["status"]["phase"] != "Running" {
        return Err(format!(
            "{name} is {}, and said {log:?}",
            pod["status"]["phase"]
        ));
    }
    let last = log.lines().last().unwrap_or_default();
    last.parse().map_err(|_| format!("{name} said {log:?}"))
}

/// A call, and the source that its server must see.
#[track_caller]
pub(super) fn assert_saw(
    answer: &Result<String, String>,
    server: &str,
    client: &Running<'_>,
    to: IpAddr,
) {
    let expected = format!("{server} saw {}", client.ip_like(to));
    assert_eq!(
        answer.as_deref(),
        Ok(expected.as_str()),
        "{} -> {to}",
        client.name
    );
}
