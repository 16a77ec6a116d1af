//! What goes wrong with one pod of the cluster at a time: it is cut off, stopped
//! or killed. What is done is undone when the fault is dropped.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::lab::unique_id;

use super::{Cluster, Node, running::Running};

/// Ports of the API server: of its Service, and its own.
const API: &str = "{ 443, 6443 }";

/// A fault of a pod, until it is dropped.
#[derive(Debug)]
pub struct Fault<'a> {
    node: &'a Node,
    pid: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A table in the pod's own network namespace.
    Cut {
        table: String,
    },
    Frozen,
}

impl Cluster {
    /// Nothing passes between a pod and the API server, either way, nor an answer.
    pub fn cut_from_api_server(&self, namespace: &str, pod: &str) -> Fault<'_> {
        self.cut(namespace, pod, API)
    }

    /// Nothing passes between a pod and those who call its `port`.
    pub fn cut_from_callers(&self, namespace: &str, pod: &str, port: u16) -> Fault<'_> {
        self.cut(namespace, pod, &port.to_string())
    }

    /// Drops what leaves a pod, and what comes to it, where either end has one of
    /// these ports.
    fn cut(&self, namespace: &str, pod: &str, ports: &str) -> Fault<'_> {
        let Running { node, pid, .. } = self.running(namespace, pod);
        let table = format!("cut-{}", unique_id());
        let chains = ["output", "input"].map(|hook| {
            format!(
                "chain {hook} {{ type filter hook {hook} priority -300; \
                 tcp dport {ports} drop; tcp sport {ports} drop; }};"
            )
        });
        let script = format!("table inet {table} {{ {} }}", chains.concat());
        let fault = Fault {
            node,
            pid,
            kind: Kind::Cut { table },
        };
        fault.nft(&[&script]);
        fault
    }

    /// A pod's first process does nothing, and its connections stay open.
    pub fn freeze(&self, namespace: &str, pod: &str) -> Fault<'_> {
        let Running { node, pid, .. } = self.running(namespace, pod);
        node.run("kill", &["-STOP", &pid.to_string()]);
        Fault {
            node,
            pid,
            kind: Kind::Frozen,
        }
    }

    /// SIGKILL for a pod's first process. kubelet starts another.
    pub fn kill(&self, namespace: &str, pod: &str) {
        let Running { node, pid, .. } = self.running(namespace, pod);
        node.run("kill", &["-KILL", &pid.to_string()]);
    }

    /// Resident memory of a pod's first process, in KiB.
    pub fn resident_kib(&self, namespace: &str, pod: &str) -> u64 {
        let Running { node, pid, .. } = self.running(namespace, pod);
        let status = node.run("cat", &[&format!("/proc/{pid}/status")]);
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no VmRSS of {pod} in\n{status}"))
    }
}

/// A process of the machine that does nothing until this is dropped.
#[derive(Debug)]
pub struct Frozen(Pid);

/// SIGSTOP for a process as the machine numbers it.
pub fn freeze_process(pid: u32) -> Frozen {
    let pid = Pid::from_raw(pid.cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap_or_else(|error| panic!("cannot stop {pid}: {error}"));
    Frozen(pid)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Fault<'_> {
    fn nft(&self, args: &[&str]) {
        let pid = self.pid.to_string();
        let enter = ["--target", &pid, "--net", "--", "nft"];
        self.node.run("nsenter", &[&enter, args].concat());
    }
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        // A pod that is gone has taken its fault along.
        let pid = self.pid.to_string();
        match &self.kind {
            Kind::Cut { table } => {
                let args = [
                    "--target",
                    &pid,
                    "--net",
                    "--",
                    "nft",
                    "delete table inet",
                    table,
                ];
                self.node.output("nsenter", &args);
            }
            Kind::Frozen => drop(self.node.output("kill", &["-CONT", &pid])),
        }
    }
}
