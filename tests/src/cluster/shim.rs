//! The CNI plugin called by hand, as a container runtime calls it.

use serde_json::{Value, json};

use super::Node;

const PROGRAM: &str = "/opt/cni/bin/sluice-cni";
const CONFLIST: &str = "/etc/cni/net.d/02-sluice.conflist";

/// What came of a call.
#[derive(Debug)]
pub struct Called {
    pub succeeded: bool,
    /// The document on its standard output; null when there is none.
    pub answer: Value,
}

impl Node {
    /// Calls the plugin with the configuration that is in place on the node, with
    /// these keys changed, and these variables.
    pub fn call_shim(&self, changes: &Value, variables: &[(&str, &str)]) -> Called {
        let mut conf = self.shim_conf();
        for (key, value) in changes.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        let set: Vec<String> = [("CNI_PATH", "/opt/cni/bin")]
            .iter()
            .chain(variables)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let script = format!("printf %s \"$0\" | {PROGRAM}");
        let conf = conf.to_string();
        let mut args: Vec<&str> = set.iter().map(String::as_str).collect();
        args.extend(["sh", "-c", &script, &conf]);
        let output = self.output("env", &args);
        Called {
            succeeded: output.status.success(),
            answer: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        }
    }

    /// ADD for a pod that no runtime has made.
    pub fn add_by_hand(&self, namespace: &str, changes: &Value) -> Called {
        let arguments =
            format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=by-hand;K8S_POD_UID=by-hand");
        let mut changes = changes.clone();
        changes["prevResult"] = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "sandbox": "/run/netns/by-hand"}],
            "ips": [{"address": "10.244.250.1/32", "interface": 0}],
        });
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "by-hand"),
            ("CNI_NETNS", "/run/netns/by-hand"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_ARGS", &arguments),
        ];
        self.call_shim(&changes, &variables)
    }

    /// The plugin's own part of the list, as the runtime would hand it over.
    fn shim_conf(&self) -> Value {
        let text = self.run("cat", &[CONFLIST]);
        let list: Value = serde_json::from_str(&text).expect("JSON of a conflist");
        let plugins = list["plugins"].as_array().into_iter().flatten();
        let ours = plugins.into_iter().find(|one| one["type"] == "sluice-cni");
        let mut conf = ours.cloned().unwrap_or_else(|| panic!("no shim in {text}"));
        for key in ["name", "cniVersion"] {
            conf[key] = list[key].clone();
        }
        conf
    }
}

impl Called {
    /// The error's code; 0 when it succeeded.
    pub fn code(&self) -> u64 {
        self.answer["code"].as_u64().unwrap_or_default()
    }
}
