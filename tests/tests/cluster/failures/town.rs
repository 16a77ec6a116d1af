//! A cluster with Sluice in it whose parts can be taken away from one node, pods
//! that dial from their first moment, and what is looked at.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_tests::{
    cluster::{
        Cluster, Node, SETTLE,
        pod::{self, APP},
        sluice::{self, CONTROLLER, MODE},
        stand_in,
    },
    lab::{http, wait, wire::Wire},
};

/// Enrolled.
pub(super) const MESH: &str = "mesh";
/// Not enrolled, and known to the agents: it has a pod on each node.
pub(super) const PLAIN: &str = "plain";
/// Excluded.
pub(super) const SYSTEM: &str = "kube-system";
/// Whom dialers of the other node dial: captured, one on each node.
const LISTENERS: [(&str, &str); 2] = [("la", "na"), ("lb", "nb")];
const RESIDENTS: [(&str, &str); 2] = [("ra", "na"), ("rb", "nb")];

/// Errors come soon, and the parts stay away from nodes that say so.
const VALUES: [&str; 5] = [
    "controller.replicas=1",
    "agent.addDeadline=2s",
    "agent.terminationGracePeriodSeconds=5",
    "agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key=no-agent",
    "agent.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator=DoesNotExist",
];
const AGENT_PORT: u16 = 15014;

/// Makes all of it if it is not there, and waits until all is well.
pub(super) fn ready(cluster: &Cluster) {
    if cluster.try_kubectl(&["get", "namespace", MESH]).is_err() {
        make(cluster);
    }
    cluster.wait_proxies();
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    cluster.wait_captured(MESH, &LISTENERS.map(|(name, _)| name));
}

fn make(cluster: &Cluster) {
    cluster.import_sluice();
    cluster.start_proxies(Vec::new());
    let stays_away = json!({"spec": {"template": {"spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": PROXY.label, "operator": "DoesNotExist"}]},
        ]},
    }}}}}});
    let daemon_set = format!("ds/{}", stand_in::DAEMON_SET);
    let patch = stays_away.to_string();
    cluster.kubectl(&[
        "patch",
        "-n",
        stand_in::NAMESPACE,
        &daemon_set,
        "--patch",
        &patch,
    ]);
    cluster.install_sluice(&VALUES);
    cluster.wait_proxies();
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    cluster.create_namespace(PLAIN, &json!({}));
    for (name, node) in RESIDENTS {
        cluster.apply(&pod::workload(PLAIN, name, node));
    }
    // Last: it says that all is there.
    cluster.create_namespace(MESH, &json!({ MODE: "ambient" }));
    for (name, node) in LISTENERS {
        cluster.apply(&pod::workload(MESH, name, node));
    }
    cluster.wait_captured(MESH, &LISTENERS.map(|(name, _)| name));
    cluster.wait_pods_ready(MESH, &LISTENERS.map(|(name, _)| name));
    cluster.wait_pods_ready(PLAIN, &RESIDENTS.map(|(name, _)| name));
}

/// A part of Sluice, or the proxy, that runs on every node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    namespace: &'static str,
    selector: &'static str,
    /// Of nodes on which it does not run.
    label: &'static str,
}

pub(super) const AGENTS: Part = Part {
    namespace: sluice::NAMESPACE,
    selector: "app.kubernetes.io/name=sluice-agent",
    label: "no-agent",
};

pub(super) const PROXY: Part = Part {
    namespace: stand_in::NAMESPACE,
    selector: "app=ztunnel",
    label: "no-proxy",
};

/// A part is not on a node, until this is dropped.
pub(super) struct Away<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    label: &'static str,
}

impl Part {
    /// Takes it away from a node, and waits until it is gone.
    pub(super) fn away<'a>(self, cluster: &'a Cluster, node: &'a str) -> Away<'a> {
        let away = self.going(cluster, node);
        let here = format!("--field-selector=spec.nodeName={node}");
        wait_none(cluster, self.namespace, self.selector, &[&here]);
        away
    }

    /// Waits until it is on no node.
    pub(super) fn wait_gone(self, cluster: &Cluster) {
        wait_none(cluster, self.namespace, self.selector, &[]);
    }

    /// Takes it away from a node, without waiting.
    pub(super) fn going<'a>(self, cluster: &'a Cluster, node: &'a str) -> Away<'a> {
        let label = self.label;
        cluster.kubectl(&["label", "node", node, &format!("{label}=yes")]);
        Away {
            cluster,
            node,
            label,
        }
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let label = format!("{}-", self.label);
        // A panic here would hide the one before it.
        if let Err(error) = self
            .cluster
            .try_kubectl(&["label", "node", self.node, &label])
        {
            eprintln!("label {} of {} stays: {error}", self.label, self.node);
        }
    }
}

/// There is no controller, until this is dropped.
pub(super) struct NoController<'a>(&'a Cluster);

impl<'a> NoController<'a> {
    pub(super) fn begin(cluster: &'a Cluster) -> Self {
        let gone = Self(cluster);
        gone.scale(0).expect("scale the controllers");
        let selector = format!("app.kubernetes.io/name={CONTROLLER}");
        wait_none(cluster, sluice::NAMESPACE, &selector, &[]);
        gone
    }

    fn scale(&self, replicas: u8) -> Result<String, String> {
        let replicas = format!("--replicas={replicas}");
        let what = format!("deployment/{CONTROLLER}");
        self.0
            .try_kubectl(&["scale", "-n", sluice::NAMESPACE, &what, &replicas])
    }
}

impl Drop for NoController<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.scale(1) {
            eprintln!("the controllers stay away: {error}");
        }
    }
}

fn wait_none(cluster: &Cluster, namespace: &str, selector: &str, more: &[&str]) {
    let args = ["get", "pods", "-n", namespace, "-o", "name", "-l", selector];
    wait::value(&format!("{selector} to be gone"), SETTLE, || {
        let list = cluster.kubectl(&[&args, more].concat());
        if list.trim().is_empty() {
            Ok(())
        } else {
            Err(list)
        }
    });
}

/// A pod that calls the listener of another node, over every family, again and
/// again from its first moment, and is ready once it was answered. What it says can
/// be read on the wire if it is not captured.
pub(super) fn dialer(cluster: &Cluster, namespace: &str, name: &str, node: &str) -> Value {
    let to = if node == "na" { "lb" } else { "la" };
    dialing(namespace, name, node, &cluster.pod_ips(MESH, to))
}

fn dialing(namespace: &str, name: &str, node: &str, to: &[IpAddr]) -> Value {
    let mut pod = pod::workload(namespace, name, node);
    let calls: Vec<String> = to
        .iter()
        .map(|ip| std::net::SocketAddr::new(*ip, APP))
        .map(|to| {
            format!(
                "workload call {to} --patience 5000 --line '{}'",
                words(name)
            )
        })
        .collect();
    let script = format!(
        "while :; do {} && touch /tmp/answered; sleep 0.2; done",
        calls.join(" && ")
    );
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", script]);
    container["readinessProbe"] = json!({
        "exec": {"command": ["test", "-e", "/tmp/answered"]},
        "periodSeconds": 1,
    });
    container
        .as_object_mut()
        .expect("a container")
        .remove("args");
    pod
}

fn words(name: &str) -> String {
    format!("said by {name}.")
}

/// Nothing that this dialer said could be read between the nodes. `name` may end in
/// the middle of many names.
#[track_caller]
pub(super) fn assert_unread(tap: &Wire, names: &[&str]) {
    for name in names {
        let seen = tap.count(&format!("said by {name}"));
        assert_eq!(seen, 0, "{name} was not captured from its first moment");
    }
}

/// What this dialer says, who is not captured, is read: what is not found is not
/// there.
#[track_caller]
pub(super) fn assert_read(tap: &Wire, name: &str) {
    assert!(tap.count(&words(name)) > 0, "{name} cannot be read");
}

/// Waits until `kubectl describe` says, of a pod that does not start, why; then it
/// has not started.
#[track_caller]
pub(super) fn wait_told(cluster: &Cluster, namespace: &str, pod: &str, wanted: &[&str]) {
    wait::value(&format!("{namespace}/{pod} to be told of"), SETTLE, || {
        let text = cluster.kubectl(&["describe", "pod", "-n", namespace, pod]);
        let missing: Vec<_> = wanted
            .iter()
            .filter(|word| !text.contains(**word))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(format!("no {missing:?} in\n{text}"))
    });
    assert_waits(cluster, namespace, pod);
}

/// A pod has not started.
#[track_caller]
pub(super) fn assert_waits(cluster: &Cluster, namespace: &str, pod: &str) {
    let pod = cluster.get(&["-n", namespace, "pod", pod]);
    assert_eq!(pod["status"]["phase"], "Pending", "{pod:#}");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["state"]["running"].is_null(), "{status:#}");
}

/// Pods that waited are there by themselves, captured, and were answered.
#[track_caller]
pub(super) fn wait_arrived(cluster: &Cluster, pods: &[&str]) {
    cluster.wait_captured(MESH, pods);
    cluster.wait_pods_ready(MESH, pods);
}

/// Deletes pods, and waits until they are gone.
pub(super) fn delete(cluster: &Cluster, namespace: &str, pods: &[&str]) {
    let mut args = vec!["delete", "pod", "-n", namespace, "--timeout=60s"];
    args.extend(pods);
    cluster.kubectl(&args);
}

/// Routes by which the node steers to captured pods, and the rules on their links.
pub(super) fn rules(node: &Node) -> String {
    let routes =
        ["-4", "-6"].map(|family| node.run("ip", &[family, "route", "show", "table", "8301"]));
    let rules = node.run("nft", &["-s", "list", "table", "netdev", "sluice"]);
    format!("{}{rules}", routes.concat())
}

/// What `/readyz` of a node's agent says, status line and all.
pub(super) fn readyz(node: &Node) -> String {
    http::get(&node.netns, AGENT_PORT, "/readyz").unwrap_or_else(|error| error.to_string())
}

/// Waits until `/readyz` says what it should.
pub(super) fn wait_readyz(node: &Node, wanted: &str) {
    wait::value(&format!("/readyz of {}", node.name), SETTLE, || {
        let text = readyz(node);
        text.contains(wanted).then_some(()).ok_or(text)
    });
}

/// The process of a node's agent, as the node numbers it.
pub(super) fn agent_pid(cluster: &Cluster, node: &str) -> u32 {
    cluster
        .running(sluice::NAMESPACE, &cluster.agent_of(node))
        .pid
}

/// What the agent with this process says of a pod, without the API server.
pub(super) fn explained(node: &Node, agent: u32, pod: &str) -> Result<Value, String> {
    let program = ["/usr/local/bin/sluice-agent", "explain", pod, "--json"];
    let text = node.inside(agent, &program)?;
    let value: Value = serde_json::from_str(&text).map_err(|_| text)?;
    Ok(value["pod"].clone())
}

/// Waits until the agent says that a pod is captured in another sandbox than `old`.
pub(super) fn wait_reborn(node: &Node, agent: u32, pod: &str, old: &Value) {
    wait::value(&format!("{pod} to be captured anew"), SETTLE, || {
        let new = explained(node, agent, pod)?;
        let captured = new["status"]["state"] == "POD_STATE_CAPTURED";
        let anew = new["netns"] != *old;
        (captured && anew)
            .then_some(())
            .ok_or_else(|| new.to_string())
    });
}
