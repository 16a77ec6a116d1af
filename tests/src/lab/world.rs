//! The lab as most tests want it: everything runs and pods are captured.

use sluice_proto::capture::v1::PodState;

use crate::workloads::Policy;

use super::{
    Lab,
    knobs::Knobs,
    kube_proxy::Form,
    pod::{Pod, PodSpec},
    wait,
};

impl Lab {
    /// Two nodes with service addresses, everything running, and the pods of
    /// the table captured. The pods were there before the agents; the proxies
    /// came through the shim.
    pub fn meshed(form: Form, knobs: Knobs) -> Self {
        let mut lab = Self::new(2);
        for node in &lab.nodes {
            knobs.apply(&node.netns);
        }
        for pod in lab.table_pods() {
            lab.pod_before(pod);
        }
        lab.table_surroundings(form);
        // From here on new links get duplicate address detection, as elsewhere.
        for node in &lab.nodes {
            for which in ["all", "default"] {
                node.netns
                    .sysctl(&format!("net.ipv6.conf.{which}.accept_dad"), "1");
            }
        }
        lab.enrol();
        lab.start_all();
        lab.wait_captured(&["a1", "a2", "b1"]);
        lab.wait_settled();
        lab
    }

    /// Waits until no address of a node is tentative any more.
    fn wait_settled(&self) {
        for node in &self.nodes {
            wait::value("duplicate address detection", wait::LONG, || {
                let tentative = node.netns.run("ip", &["-o", "addr", "show", "tentative"]);
                if tentative.is_empty() {
                    Ok(())
                } else {
                    Err(tentative)
                }
            });
        }
    }

    /// One node with the captured pods `a1` and `a2`, and `u1` that is not.
    pub fn one_node() -> Self {
        Self::one_node_with(&[], Vec::new())
    }

    /// The same, with further flags of the agent and policies of the mesh.
    pub fn one_node_with(flags: &[&str], policies: Vec<Policy>) -> Self {
        let mut lab = Self::new(1);
        lab.policies = policies;
        for pod in lab.table_pods().into_iter().filter(|pod| pod.node == "na") {
            lab.pod_before(pod);
        }
        lab.enrol();
        lab.start_controller();
        lab.start_agent("na", flags);
        lab.add_proxy("na");
        lab.wait_captured(&["a1", "a2"]);
        lab
    }

    /// Enrols the namespace `shop`; `plain` is not.
    pub fn enrol(&self) {
        self.folder.namespace("shop", true);
        self.folder.namespace("plain", false);
    }

    /// Controller, agents, and on each node a proxy, in this order.
    pub fn start_all(&mut self) {
        self.start_controller();
        for node in self.node_names() {
            self.start_agent(&node, &[]);
        }
        for node in self.node_names() {
            self.add_proxy(&node);
        }
    }

    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// Name of the proxy's pod of a node: `za` for `na`.
    pub fn proxy_name(node: &str) -> String {
        node.replacen('n', "z", 1)
    }

    /// A proxy's pod through the shim, and the proxy in it.
    pub fn add_proxy(&mut self, node: &str) {
        self.add_pod(PodSpec::proxy(&Self::proxy_name(node), node));
        self.start_proxy(node);
    }

    /// Waits until the agents say that these pods are captured.
    pub fn wait_captured(&self, names: &[&str]) {
        for name in names {
            self.wait_state(name, PodState::Captured);
        }
    }

    /// Waits until a pod's agent says that it is in a state.
    pub fn wait_state(&self, name: &str, state: PodState) {
        let pod = self.pod(name);
        wait::value(&format!("{name} to be {state:?}"), wait::LONG, || {
            let seen = self.agent(&pod.spec.node).pod(name)?;
            match &seen.status {
                Some(status) if status.state() == state => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// Pods of the lab that are in the mesh.
    pub fn mesh_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods
            .values()
            .filter(|pod| pod.spec.namespace == "shop")
    }
}
