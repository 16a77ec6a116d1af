//! A pod that runs, as its node sees it: what tells it from every other, and
//! calls that are made from inside.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::Value;

use super::{Cluster, Node};

/// The workload's program in its image.
const WORKLOAD: &str = "/usr/local/bin/workload";

/// A running pod of the tests' workload. What is done in it is done in its network
/// and mount namespaces, without asking kubelet.
#[derive(Debug)]
pub struct Running<'a> {
    pub node: &'a Node,
    pub name: String,
    pub ips: Vec<IpAddr>,
    /// Of its first container, as its node numbers it.
    pub pid: u32,
    pub identity: Identity,
}

/// What changes when a pod or anything in it starts anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    pub uid: String,
    /// Id and restarts, by container.
    pub containers: BTreeMap<String, (String, u64)>,
    /// Of its network namespace, `net:[4026532xxx]`.
    pub netns: String,
}

impl Cluster {
    /// A pod that runs. Panics if it does not.
    pub fn running(&self, namespace: &str, name: &str) -> Running<'_> {
        self.try_running(namespace, name)
            .unwrap_or_else(|error| panic!("pod {namespace}/{name}: {error}"))
    }

    pub fn try_running(&self, namespace: &str, name: &str) -> Result<Running<'_>, String> {
        let pod = self.try_get(&["-n", namespace, "pod", name])?;
        let node = pod["spec"]["nodeName"].as_str().ok_or("not on a node")?;
        let node = self.node(node);
        let containers = containers(&pod);
        let (id, _) = containers.values().next().ok_or("no container yet")?;
        let pid = pid_of(node, id)?;
        let netns = node
            .try_run("readlink", &[&format!("/proc/{pid}/ns/net")])
            .map_err(|error| format!("no process {pid} on {}: {error}", node.name))?;
        Ok(Running {
            node,
            name: name.into(),
            ips: ips(&pod),
            pid,
            identity: Identity {
                uid: pod["metadata"]["uid"].as_str().unwrap_or_default().into(),
                containers,
                netns,
            },
        })
    }
}

impl Running<'_> {
    /// `workload call TO …` inside the pod: the answer, or how it failed.
    pub fn call(&self, to: IpAddr, port: u16, options: &[&str]) -> Result<String, String> {
        let to = std::net::SocketAddr::new(to, port).to_string();
        self.workload(&[&["call", &to], options].concat())
    }

    /// The same, saying `line`.
    pub fn say(&self, to: IpAddr, port: u16, line: &str) -> Result<String, String> {
        self.call(to, port, &["--line", line])
    }

    /// Its address of the family of another.
    pub fn ip_like(&self, other: IpAddr) -> IpAddr {
        let like = |ip: &&IpAddr| ip.is_ipv4() == other.is_ipv4();
        *self
            .ips
            .iter()
            .find(like)
            .unwrap_or_else(|| panic!("{} has {:?}, nothing like {other}", self.name, self.ips))
    }

    /// Ends its sandbox, and with it its containers. kubelet makes another.
    pub fn end_sandbox(&self) {
        self.node.end_sandbox(&self.identity.netns);
    }

    fn workload(&self, args: &[&str]) -> Result<String, String> {
        self.node.inside(self.pid, &[&[WORKLOAD], args].concat())
    }
}

impl Node {
    /// Runs a program in the mounts and the network of one of the node's
    /// processes: what it said, or what it complained of.
    pub fn inside(&self, pid: u32, program: &[&str]) -> Result<String, String> {
        let pid = pid.to_string();
        let enter = ["--target", &pid, "--mount", "--net", "--"];
        self.try_run("nsenter", &[&enter, program].concat())
    }

    /// Runs a program on the node: what it said, or what it complained of. What is
    /// looked at may end meanwhile.
    fn try_run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let output = self.output(program, args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(text(&output.stderr))
    }

    /// Kills every process in a network namespace, `net:[4026532xxx]`.
    pub fn end_sandbox(&self, netns: &str) {
        let script = format!(
            "for p in /proc/[0-9]*; do \
               if [ \"$(readlink $p/ns/net)\" = '{netns}' ]; then kill -KILL ${{p#/proc/}}; fi; done"
        );
        self.run("bash", &["-c", &script]);
    }
}

fn containers(pod: &Value) -> BTreeMap<String, (String, u64)> {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let running = statuses.into_iter().flatten().filter_map(|status| {
        let id = status["containerID"].as_str()?;
        let id = id.strip_prefix("containerd://").unwrap_or(id);
        let restarts = status["restartCount"].as_u64()?;
        Some((
            status["name"].as_str()?.to_owned(),
            (id.to_owned(), restarts),
        ))
    });
    running.collect()
}

fn ips(pod: &Value) -> Vec<IpAddr> {
    let list = pod["status"]["podIPs"].as_array();
    let parse = |entry: &Value| entry["ip"].as_str()?.parse().ok();
    list.into_iter().flatten().filter_map(parse).collect()
}

/// Process of a container, in the numbers of its node.
fn pid_of(node: &Node, container: &str) -> Result<u32, String> {
    let tasks = node
        .try_run("ctr", &["--namespace", "k8s.io", "tasks", "ls"])
        .map_err(|error| format!("no tasks of {}: {error}", node.name))?;
    let line = tasks.lines().find(|line| line.starts_with(container));
    let pid = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    pid.ok_or_else(|| format!("no task {container} on {}:\n{tasks}", node.name))
}
