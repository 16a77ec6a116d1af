//! An API server that is gone, and one that does not answer.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use sluice_tests::{
    cluster::{
        Cluster, Node, SETTLE, fault,
        pod::{self, APP},
        running::Running,
        sluice::NAMESPACE,
    },
    lab::{http, wait},
};

use super::{
    quiet::{self, Quiet},
    shop::{self, SHOP},
    upgrade::{assert_arrived, newcomer, while_held},
};

/// Where replicas show what they measure.
const METRICS: u16 = 15014;
/// 0 while a replica has lost touch.
const IN_TOUCH: &str = "sluice_controller_source_in_touch";
/// A pod whose sandbox dies while nobody can be asked.
const REBORN: &str = "reborn";

/// Captured pods talk on, and one whose sandbox is made anew meanwhile is captured
/// in the new one. Nobody is released, then or when the API server is back.
pub(super) fn gone(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    cluster.apply(&pod::workload(SHOP, REBORN, "nb"));
    cluster.wait_captured(SHOP, &[REBORN]);
    while_held(cluster, |cluster| {
        let mark = cluster.audit_mark();
        let watched = Watched::of(cluster);
        let talk = Talk::of(cluster);
        // On the other node somebody is captured anew.
        let rules = Quiet::begin(&cluster.nodes[..1]);
        cluster.control.stop_api_server();
        watched.wait_lost(&cluster.nodes);
        talk.assert_answered(&cluster.nodes);
        watched.rebirth(&cluster.nodes);
        talk.assert_answered(&cluster.nodes);
        cluster.control.start_api_server();
        let kubeconfig = cluster.kubeconfig();
        cluster.control.wait_ready(&kubeconfig);
        settle(cluster);
        rules.assert_kept();
        drop(rules);
        quiet::assert_written_once(cluster, mark);
    });
    cluster.wait_captured(SHOP, &[REBORN]);
    cluster.wait_pods_ready(SHOP, &[REBORN]);
    cluster.kubectl(&["delete", "pod", "-n", SHOP, REBORN]);
}

/// The API server takes connections and answers nobody, while a pod starts.
pub(super) fn slow(cluster: &mut Cluster) {
    while_held(cluster, |cluster| {
        let mark = cluster.audit_mark();
        let watched = Watched::of(cluster);
        let talk = Talk::of(cluster);
        let rules = Quiet::begin(&cluster.nodes[1..]);
        let pids = cluster.control.pids();
        let (_, pid) = pids
            .iter()
            .find(|(name, _)| *name == "kube-apiserver")
            .expect("it runs");
        newcomer(cluster);
        let asleep = fault::freeze_process(*pid);
        watched.wait_lost(&cluster.nodes);
        talk.assert_answered(&cluster.nodes);
        drop(asleep);
        settle(cluster);
        rules.assert_kept();
        quiet::assert_written_once(cluster, mark);
        drop(rules);
        assert_arrived(cluster);
    });
}

fn settle(cluster: &Cluster) {
    for replica in cluster.controllers() {
        quiet::wait_ready(cluster, &replica, true);
    }
    cluster.wait_sluice();
    cluster.wait_capture_ready();
    for node in &cluster.nodes {
        quiet::holder(cluster, &node.name);
    }
}

/// Calls between captured pods, without asking the API server where they are.
struct Talk {
    /// The caller's process, on the first node, and the server's address.
    from: u32,
    to: IpAddr,
}

impl Talk {
    fn of(cluster: &Cluster) -> Self {
        Self {
            from: cluster.running(SHOP, "a1").pid,
            to: cluster.pod_ips(SHOP, "b1")[0],
        }
    }

    #[track_caller]
    fn assert_answered(&self, nodes: &[Node]) {
        let to = SocketAddr::new(self.to, APP).to_string();
        let program = ["/usr/local/bin/workload", "call", &to];
        let answer = inside(&nodes[0], self.from, &program);
        assert!(answer.starts_with("b1 saw "), "{answer}");
    }
}

/// Runs a program in the mounts and the network of a process of a node; what it
/// said.
fn inside(node: &Node, pid: u32, program: &[&str]) -> String {
    let pid = pid.to_string();
    let enter = ["--target", &pid, "--mount", "--net", "--"];
    let output = node.output("nsenter", &[&enter, program].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What is to be found out while the API server cannot be asked.
struct Watched {
    /// Each replica's metrics, and the index of its node.
    replicas: Vec<(SocketAddr, usize)>,
    /// Process of nb's agent.
    agent: u32,
}

impl Watched {
    fn of(cluster: &Cluster) -> Self {
        let replicas = cluster.controllers().into_iter().map(|pod| {
            let Running { node, ips, .. } = cluster.running(NAMESPACE, &pod);
            (
                SocketAddr::new(ips[0], METRICS),
                usize::from(node.index) - 1,
            )
        });
        Self {
            replicas: replicas.collect(),
            agent: cluster.running(NAMESPACE, &cluster.agent_of("nb")).pid,
        }
    }

    /// Waits until every replica has noticed.
    fn wait_lost(&self, nodes: &[Node]) {
        for (at, node) in &self.replicas {
            wait::value(&format!("{at} to lose touch"), SETTLE, || {
                let text = http::body(&nodes[*node].netns, *at, "/metrics");
                let text = text.map_err(|error| error.to_string())?;
                let line = text.lines().find(|line| line.starts_with(IN_TOUCH));
                let line = line.ok_or_else(|| format!("no {IN_TOUCH}"))?;
                line.ends_with(" 0").then_some(()).ok_or(line.to_owned())
            });
        }
    }

    /// What nb's agent says of the pod that is to die.
    fn reborn(&self, nodes: &[Node]) -> Result<Value, String> {
        let pod = format!("{SHOP}/{REBORN}");
        let program = ["/usr/local/bin/sluice-agent", "explain", &pod, "--json"];
        let text = inside(&nodes[1], self.agent, &program);
        let value: Value = serde_json::from_str(&text).map_err(|_| text)?;
        Ok(value["pod"].clone())
    }

    /// Ends the pod's sandbox; kubelet makes another, and the pod is captured in it.
    fn rebirth(&self, nodes: &[Node]) {
        let old = self.reborn(nodes).expect("the agent knows the pod");
        let path = old["netns"].as_str().expect("a namespace");
        let script = format!(
            "for p in /proc/[0-9]*; do \
               if [ $p/ns/net -ef {path} ]; then kill -KILL ${{p#/proc/}}; fi; done"
        );
        nodes[1].run("bash", &["-c", &script]);
        wait::value("the new sandbox to be captured", SETTLE, || {
            let new = self.reborn(nodes)?;
            let captured =
                new["status"]["state"] == old["status"]["state"] && new["netns"] != old["netns"];
            captured.then_some(()).ok_or_else(|| new.to_string())
        });
    }
}
