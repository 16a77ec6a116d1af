//! `cnitool`: libcni by hand, for what the runtime does not ask for.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    cluster::{files, tools},
    lab::{
        command::{bounded_by, feed},
        netns::Netns,
        pod::PodSpec,
    },
};

use super::{CONF_DIR, Machine};

/// Where its configurations are on the node.
const CONF: &str = "/run/cnitool";
/// What no verb of a whole network needs, but `cnitool` asks for.
const NOWHERE: &str = "/run/netns/none";

/// A namespace that is attached by hand.
#[derive(Debug)]
pub struct Attached {
    pub spec: PodSpec,
    pub netns: Netns,
    /// As the node knows it.
    pub path: String,
}

impl Machine {
    /// A namespace on the node for `spec`, whose pod the controller knows.
    pub fn namespace(&self, spec: PodSpec) -> Attached {
        self.lab.folder.pod(&spec.document(&[]));
        self.run("ip", &["netns", "add", &spec.name]);
        let path = format!("/run/netns/{}", spec.name);
        let name = format!("{}-{}", self.id, spec.name);
        let netns = Netns::adopt(&name, &self.path(&path));
        Attached { spec, netns, path }
    }

    /// Takes it away.
    pub fn forget(&self, attached: &Attached) {
        attached.netns.delete();
        self.run("ip", &["netns", "del", &attached.spec.name]);
        self.lab.folder.remove_pod(&attached.spec.document(&[]));
    }

    /// The network `pods` as the agent has configured it.
    pub fn configured(&self) -> Value {
        let path = self.path(CONF_DIR).join("02-sluice.conflist");
        let text = std::fs::read(&path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&text).expect("a configuration list")
    }

    /// Gives `cnitool` a network.
    pub fn configure(&self, list: &Value) {
        let name = list["name"].as_str().expect("a network has a name");
        files::write_json(&self.path(&format!("{CONF}/{name}.conflist")), list);
    }

    /// One verb of `cnitool` for a namespace in the network `pods`.
    pub fn cnitool(&self, verb: &str, attached: &Attached) -> Output {
        let spec = &attached.spec;
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            spec.namespace, spec.name, spec.uid
        );
        self.libcni(&args, [verb, "pods", &attached.path])
    }

    /// One verb of `cnitool` for a whole network.
    pub fn cnitool_for_all(&self, verb: &str, network: &str) -> Output {
        self.libcni("", [verb, network, NOWHERE])
    }

    fn libcni(&self, cni_args: &str, args: [&str; 3]) -> Output {
        let tool = tools::kubernetes("cnitool").display().to_string();
        let [verb, network, path] = args;
        let environment = [
            format!("NETCONFPATH={CONF}"),
            format!("CNI_PATH={}", super::BIN_DIR),
            format!("CNI_ARGS={cni_args}"),
        ];
        let [conf, bin, cni_args] = &environment;
        self.output("env", &[conf, bin, cni_args, &tool, verb, network, path])
    }

    /// GC as libcni calls our plugin for a runtime that lists what is valid:
    /// container and interface.
    pub fn gc(&self, network: &str, valid: &[(&str, &str)]) -> Output {
        let valid: Vec<Value> = valid
            .iter()
            .map(|(id, ifname)| json!({"containerID": id, "ifname": ifname}))
            .collect();
        let list = json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid});
        self.plugin("GC", network, list)
    }

    /// Our plugin for no sandbox, with more in its configuration.
    pub fn plugin(&self, verb: &str, network: &str, more: Value) -> Output {
        let mut conf = shim_of(&self.configured());
        conf["cniVersion"] = "1.1.0".into();
        conf["name"] = network.into();
        let Value::Object(more) = more else {
            panic!("{more} is no part of a configuration")
        };
        for (key, value) in more {
            conf[key] = value;
        }
        let mut command = bounded_by("nsenter", 30);
        self.holder.inside(&mut command);
        command.args(["env", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME="]);
        command.arg(format!("CNI_COMMAND={verb}"));
        command.arg(format!("CNI_PATH={}", super::BIN_DIR));
        command.arg(format!("{}/sluice-cni", super::BIN_DIR));
        self.netns.enter(|| feed(command, &conf.to_string()))
    }
}

/// Our plugin's part of a list.
pub fn shim_of(list: &Value) -> Value {
    let plugins = list["plugins"].as_array().into_iter().flatten();
    let mut ours = plugins.filter(|plugin| plugin["type"] == "sluice-cni");
    ours.next()
        .unwrap_or_else(|| panic!("no shim in {list}"))
        .clone()
}
