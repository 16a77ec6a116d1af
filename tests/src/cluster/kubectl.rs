//! kubectl and helm, as administrator.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::lab::{
    command::{self, Bounded as _},
    process::tail,
};

use super::{Cluster, START, address, api, tools};

/// The longest that one call may take; it waits itself where it waits.
const LIMIT: u32 = 300;

/// Runs kubectl; its output, or what it complained about.
pub fn run(kubeconfig: &Path, args: &[&str], input: Option<&str>) -> Result<String, String> {
    let mut command = command::bounded_by(tools::kubernetes("kubectl"), LIMIT);
    command
        .env("KUBECONFIG", kubeconfig)
        .env("KUBECACHEDIR", kubeconfig.with_extension("cache"))
        .args(args);
    finish(command, input)
}

fn finish(mut command: std::process::Command, input: Option<&str>) -> Result<String, String> {
    let output = match input {
        Some(input) => command::feed(command, input),
        None => command.stdin(Stdio::null()).run(),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}{}", text(&output.stdout), text(&output.stderr)))
    }
}

impl Cluster {
    /// kubectl; its standard output. Panics with its words if it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args)
            .unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
    }

    /// kubectl, where a refusal is an answer too.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        run(&self.kubeconfig(), args, None)
    }

    /// What `kubectl get … -o json` says. Panics if it fails.
    pub fn get(&self, args: &[&str]) -> Value {
        self.try_get(args).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_get(&self, args: &[&str]) -> Result<Value, String> {
        api::get(&self.kubeconfig(), args)
    }

    /// What a pod has said in this life.
    pub fn log(&self, namespace: &str, pod: &str) -> String {
        api::log(&self.kubeconfig(), namespace, pod).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates or changes what a manifest says.
    pub fn apply(&self, manifest: &Value) {
        self.try_apply(manifest)
            .unwrap_or_else(|error| panic!("kubectl apply: {error}\n{manifest:#}"));
    }

    pub fn try_apply(&self, manifest: &Value) -> Result<String, String> {
        run(
            &self.kubeconfig(),
            &["apply", "-f", "-"],
            Some(&manifest.to_string()),
        )
    }

    /// Creates an object; what the API server answers.
    pub fn create(&self, manifest: &Value) -> Value {
        let args = ["create", "-o", "json", "-f", "-"];
        let answer = run(&self.kubeconfig(), &args, Some(&manifest.to_string()))
            .unwrap_or_else(|error| panic!("kubectl create: {error}\n{manifest:#}"));
        serde_json::from_str(&answer).expect("JSON of kubectl")
    }

    /// A namespace in which pods can be created at once, with labels.
    pub fn create_namespace(&self, name: &str, labels: &Value) {
        self.apply(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }));
        for what in ["serviceaccount/default", "configmap/kube-root-ca.crt"] {
            self.kubectl(&["wait", "-n", name, "--for=create", "--timeout=60s", what]);
        }
    }

    /// Runs a program in a pod: its output, or what went wrong.
    pub fn exec(&self, namespace: &str, pod: &str, program: &[&str]) -> Result<String, String> {
        self.try_kubectl(&[&["exec", "-n", namespace, pod, "--"], program].concat())
    }

    /// helm; its standard output. Panics with its words if it fails.
    pub fn helm(&self, args: &[&str]) -> String {
        self.try_helm(args)
            .unwrap_or_else(|error| panic!("helm {}: {error}", args.join(" ")))
    }

    pub fn try_helm(&self, args: &[&str]) -> Result<String, String> {
        let home = self.dir().join("helm");
        let mut command = command::bounded_by(tools::kubernetes("helm"), LIMIT);
        command
            .current_dir(tools::project())
            .env("KUBECONFIG", self.kubeconfig())
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .args(args);
        finish(command, None)
    }

    /// Waits until a node is registered and ready; gives it its pod ranges.
    pub(super) fn wait_joined(&self, index: usize) {
        let node = &self.nodes[index];
        let name = format!("node/{}", node.name);
        let timeout = format!("--timeout={}s", START.as_secs());
        let ranges = address::pods(node.index, self.options.family);
        let patch = json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}}).to_string();
        let steps: [&[&str]; 3] = [
            &["wait", "--for=create", &timeout, &name],
            &["patch", &name, "--patch", &patch],
            &["wait", "--for=condition=Ready", &timeout, &name],
        ];
        for step in steps {
            if let Err(error) = self.try_kubectl(step) {
                panic!(
                    "{name} did not become ready: {error}\n--- kubelet\n{}\n--- containerd\n{}",
                    tail(&node.log("kubelet"), 30),
                    tail(&node.log("containerd"), 10)
                );
            }
        }
    }
}
