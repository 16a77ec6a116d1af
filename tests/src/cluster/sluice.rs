//! Sluice in the cluster, by its chart.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use crate::lab::wait;

use super::{Cluster, SETTLE, image, stand_in::REDIRECTION};

pub const NAMESPACE: &str = "sluice-system";
pub const AGENT: &str = "sluice-agent";
pub const CONTROLLER: &str = "sluice-controller";
pub const CONDITION: &str = "CaptureReady";
/// Taint that nodes may be registered with; gone once they can capture.
pub const TAINT: &str = "sluice.dev/not-ready";
/// The label that enrols a namespace or a pod.
pub const MODE: &str = "istio.io/dataplane-mode";
const RELEASE: &str = "sluice";
const CHART: &str = "deploy/chart";
const IMAGES: [&str; 3] = ["sluice-agent", "sluice-controller", "sluice-stand-in"];
/// Pods are captured, or released, by then. It takes seconds; the machine may be busy.
pub const SOON: Duration = Duration::from_secs(120);

impl Cluster {
    /// Gives every node the product's images, as `make images` has made them.
    pub fn import_sluice(&self) {
        let archives = IMAGES.map(|name| image::directory().join(format!("{name}.tar")));
        let missing: Vec<&PathBuf> = archives.iter().filter(|path| !path.is_file()).collect();
        assert!(missing.is_empty(), "no {missing:?}: run `make images`");
        for archive in &archives {
            self.import_image(archive);
        }
    }

    /// Gives the product's images a second tag, as a new version would have.
    pub fn tag_sluice(&self, from: &str, to: &str) {
        for (node, name) in self
            .nodes
            .iter()
            .flat_map(|node| IMAGES.map(|name| (node, name)))
        {
            let [from, to] = [from, to].map(|tag| format!("sluice.dev/{name}:{tag}"));
            let ctr = [
                "--namespace",
                "k8s.io",
                "images",
                "tag",
                "--force",
                &from,
                &to,
            ];
            node.run("ctr", &ctr);
        }
    }

    /// `helm install … --wait` with values.
    pub fn install_sluice(&self, values: &[&str]) {
        self.helm_sluice(&["install", RELEASE, CHART, "--create-namespace"], values);
    }

    pub fn upgrade_sluice(&self, values: &[&str]) {
        self.helm_sluice(&["upgrade", RELEASE, CHART, "--reset-values"], values);
        self.wait_sluice();
    }

    /// Back to what was before the last upgrade.
    pub fn roll_back_sluice(&self) {
        self.helm_sluice(&["rollback", RELEASE], &[]);
        self.wait_sluice();
    }

    pub fn uninstall_sluice(&self) {
        self.helm_sluice(&["uninstall", RELEASE], &[]);
    }

    pub fn is_sluice_installed(&self) -> bool {
        let list = self.helm(&["list", "-q", "-n", NAMESPACE]);
        list.lines().any(|line| line == RELEASE)
    }

    /// helm does not wait for a DaemonSet to be through with its pods.
    pub fn wait_sluice(&self) {
        self.wait_rollout(NAMESPACE, &format!("ds/{AGENT}"));
        self.wait_rollout(NAMESPACE, &format!("deployment/{CONTROLLER}"));
    }

    fn helm_sluice(&self, verb: &[&str], values: &[&str]) {
        let mut args = verb.to_vec();
        args.extend(["-n", NAMESPACE, "--wait", "--timeout", "150s"]);
        args.extend(values.iter().flat_map(|value| ["--set", value]));
        if let Err(error) = self.try_helm(&args) {
            panic!("helm {}: {error}\n{}", args.join(" "), self.sluice_state());
        }
    }

    /// What is known about the product's pods, for messages.
    pub fn sluice_state(&self) -> String {
        let look = |args: &[&str]| self.try_kubectl(args).unwrap_or_else(|error| error);
        let mut text = look(&["get", "pods", "-A", "-o", "wide"]);
        text += &look(&["get", "events", "-n", NAMESPACE, "--sort-by=.lastTimestamp"]);
        for (name, container) in [
            (AGENT, "agent"),
            (CONTROLLER, "controller"),
            ("sluice-uninstall", "uninstall"),
        ] {
            let label = format!("app.kubernetes.io/name={name}");
            text += &format!("--- {name}\n");
            let args = [
                "logs",
                "-n",
                NAMESPACE,
                "-l",
                &label,
                "-c",
                container,
                "--tail=25",
                "--prefix",
            ];
            text += &look(&args);
        }
        text
    }

    /// Name of the agent's pod of a node.
    pub fn agent_of(&self, node: &str) -> String {
        self.pod_of_node(NAMESPACE, &format!("app.kubernetes.io/name={AGENT}"), node)
    }

    /// `sluice-agent …` in the agent's pod of a node.
    pub fn agent(&self, node: &str, args: &[&str]) -> Result<String, String> {
        let agent = self.agent_of(node);
        let program = [&["/usr/local/bin/sluice-agent"], args].concat();
        self.exec(NAMESPACE, &agent, &program)
    }

    /// Names of the controller's pods.
    pub fn controllers(&self) -> Vec<String> {
        self.pods_with(NAMESPACE, &format!("app.kubernetes.io/name={CONTROLLER}"))
            .iter()
            .filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned()))
            .collect()
    }

    /// The node condition as it stands: its status and message.
    pub fn capture_ready(&self, node: &str) -> Option<(String, String)> {
        let node = self.get(&["node", node]);
        let conditions = node["status"]["conditions"].as_array()?;
        let ours = conditions.iter().find(|one| one["type"] == CONDITION)?;
        let text = |field: &str| ours[field].as_str().unwrap_or_default().to_owned();
        Some((
            text("status"),
            format!("{}: {}", text("reason"), text("message")),
        ))
    }

    /// Waits until every node says that it can capture.
    pub fn wait_capture_ready(&self) {
        for node in &self.nodes {
            let what = format!("{} to be {CONDITION}", node.name);
            let look = || match self.capture_ready(&node.name) {
                Some((status, _)) if status == "True" => Ok(()),
                other => Err(format!("{other:?}")),
            };
            wait::value_or(&what, SETTLE, look, || self.sluice_state());
        }
    }

    /// The annotation that says whether a pod is captured.
    pub fn redirection(&self, namespace: &str, pod: &str) -> Option<String> {
        let pod = self.get(&["-n", namespace, "pod", pod]);
        let value = &pod["metadata"]["annotations"][REDIRECTION];
        value.as_str().map(str::to_owned)
    }

    /// Waits until pods are annotated as captured.
    pub fn wait_captured(&self, namespace: &str, pods: &[&str]) {
        for pod in pods {
            self.wait_redirection(namespace, pod, Some("enabled"));
        }
    }

    /// Waits until a pod's annotation is `wanted`. Panics with what is known.
    pub fn wait_redirection(&self, namespace: &str, pod: &str, wanted: Option<&str>) {
        let is = || self.redirection(namespace, pod);
        if wait::until(SOON, || is().as_deref() == wanted) {
            return;
        }
        let node = self.get(&["-n", namespace, "pod", pod])["spec"]["nodeName"].clone();
        let explained = self.agent(
            node.as_str().unwrap_or_default(),
            &["explain", &format!("{namespace}/{pod}")],
        );
        panic!(
            "{namespace}/{pod}: {REDIRECTION} is {:?}, not {wanted:?}\n{}\n{}",
            is(),
            explained.unwrap_or_else(|error| error),
            self.sluice_state()
        );
    }

    /// The one pod of a node with a label.
    pub(super) fn pod_of_node(&self, namespace: &str, label: &str, node: &str) -> String {
        let pods = self.pods_with(namespace, label);
        let here = pods.iter().find(|pod| {
            pod["spec"]["nodeName"] == node && pod["metadata"]["deletionTimestamp"].is_null()
        });
        let name = here.and_then(|pod| pod["metadata"]["name"].as_str());
        name.unwrap_or_else(|| panic!("no pod {label} in {namespace} on {node}"))
            .to_owned()
    }

    fn pods_with(&self, namespace: &str, label: &str) -> Vec<Value> {
        let list = self.get(&["-n", namespace, "pods", "-l", label]);
        list["items"].as_array().cloned().unwrap_or_default()
    }
}
