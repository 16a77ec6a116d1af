//! `cnitool`: libcni by hand, for what the runtime does not ask for.

use std::process::Output;

use crate::{
    cluster::tools,
    lab::{netns::Netns, pod::PodSpec},
};

use super::Machine;

/// Where its configurations are on the node.
pub const CONF: &str = "/run/cnitool";

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

    /// One verb of `cnitool` for the network `pods`.
    pub fn cnitool(&self, verb: &str, attached: &Attached) -> Output {
        let spec = &attached.spec;
        let args = format!(
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_UID={}",
            spec.namespace, spec.name, spec.uid
        );
        let tool = tools::kubernetes("cnitool").display().to_string();
        let conf = format!("NETCONFPATH={CONF}");
        let path = format!("CNI_PATH={}", super::BIN_DIR);
        let args = [&conf, &path, &args, &tool, verb, "pods", &attached.path];
        self.output("env", &args)
    }
}
