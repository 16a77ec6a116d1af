//! A node with a bare container runtime: Debian's containerd and runc, the
//! reference plugins, our agent, and no Kubernetes. Sandboxes are made as a
//! kubelet makes them, through CRI; the controller watches the lab's folder.
//!
//! Everything is in namespaces of its own, at its default paths, and goes with
//! the value.

pub mod cnitool;
pub mod cri;
pub mod network;
pub mod sandbox;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use serde_json::Value;

use crate::{
    cluster::{cgroup, exec::Wrapped, files, holder::Holder, image, node::CONTAINERD, tools},
    lab::{
        Lab,
        agent::Agent,
        command,
        controller::{PORT, log_filter},
        lan,
        netns::Netns,
        observe::Snapshot,
        process::tail,
        programs,
        proxy::Proxy,
        wait,
    },
};

use self::{cri::Runtime, sandbox::Sandbox};

const STOP: Duration = Duration::from_secs(10);
const CONF_DIR: &str = "/etc/cni/net.d";
const BIN_DIR: &str = "/opt/cni/bin";
/// Where Debian has the reference plugins.
const DEBIAN: &str = "/usr/lib/cni";

/// The node `na` of a lab, with a runtime on it.
#[derive(Debug)]
pub struct Machine {
    // In the order in which they are taken down.
    proxy: Option<Proxy>,
    agent: Option<Wrapped>,
    sandboxes: BTreeMap<String, Sandbox>,
    containerd: Option<Wrapped>,
    holder: Holder,
    pub lab: Lab,
    pub netns: Netns,
    id: String,
}

impl Machine {
    /// The runtime with a primary network, and the controller. No agent yet.
    pub fn start(network: &Value) -> Self {
        tools::check();
        let mut lab = Lab::new(1);
        let netns = lab.ns("na").clone();
        let dir = lab.dir().join("machine");
        files::write(&dir.join("etc.upper/containerd/config.toml"), CONTAINERD);
        let conf = format!("etc.upper/{}/10-pods.conflist", below(CONF_DIR, "/etc"));
        files::write_json(&dir.join(conf), network);
        for plugin in std::fs::read_dir(DEBIAN)
            .expect("Debian's plugins")
            .flatten()
        {
            let bin = dir.join("opt.upper").join(below(BIN_DIR, "/opt"));
            files::copy(&plugin.path(), &bin.join(plugin.file_name()));
        }
        let holder = Holder::start(&netns, "na", &dir, &lab.log("machine"));
        lab.enrol();
        lab.start_controller();
        let id = netns.name().to_owned();
        let mut machine = Self {
            proxy: None,
            agent: None,
            sandboxes: BTreeMap::new(),
            containerd: None,
            holder,
            lab,
            netns,
            id,
        };
        machine.start_containerd();
        machine.import(&image::directory().join("pause.tar"));
        machine
    }

    /// The same with agent and proxy, ready to capture.
    pub fn meshed(network: &Value) -> Self {
        let mut machine = Self::start(network);
        machine.join();
        machine
    }

    /// Agent and proxy come, and the node is ready to capture.
    pub fn join(&mut self) {
        self.start_agent();
        self.start_proxy();
        self.wait_status("the node to be ready", |status| status.capture_ready);
    }

    /// A path of the node as the machine that runs the test sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        // Links that lead to absolute paths would lead elsewhere.
        self.holder.path(&path.replacen("/var/run/", "/run/", 1))
    }

    /// Runs a program on the node; its output, whatever its exit status.
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        self.holder.output(&self.netns, program, args)
    }

    /// Runs a program on the node; its standard output. Panics if it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        command::stdout(&format!("{program} {args:?}"), &output)
    }

    pub fn runtime(&self) -> Runtime {
        Runtime::new(&self.path("/run/containerd/containerd.sock"))
    }

    /// The agent, as its socket shows it.
    pub fn agent(&self) -> Agent {
        Agent::at(self.path("/run/sluice/agent.sock"), &self.netns)
    }

    /// The agent's process.
    pub fn agent_process(&self) -> &Wrapped {
        self.agent.as_ref().expect("an agent runs")
    }

    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a proxy runs")
    }

    pub fn start_containerd(&mut self) {
        let args = ["--config", "/etc/containerd/config.toml"].map(str::to_owned);
        let program = Path::new("/usr/bin/containerd");
        let mut containerd = self.spawn("containerd", program, &args);
        wait::value("containerd to serve CRI", wait::LONG, || {
            assert!(
                !containerd.has_ended(),
                "containerd ended:\n{}",
                tail(&containerd.log(), 30)
            );
            self.runtime().network()
        });
        self.containerd = Some(containerd);
    }

    /// Ends containerd; the sandboxes stay, by their shims.
    pub fn stop_containerd(&mut self) {
        self.containerd.take().expect("it runs").stop(STOP);
    }

    /// Starts the agent, again, and waits until the runtime uses the shim.
    pub fn start_agent(&mut self) {
        let args = self.agent_args();
        // No more than what the agent's unit lets it have.
        let agent = self.spawn("agent", Path::new("/usr/bin/setpriv"), &args);
        self.agent = Some(agent);
        self.wait_status("the shim to be in place", |status| {
            !status.files.is_empty() && status.files.iter().all(|file| file.current)
        });
        wait::value("the runtime to take the shim up", wait::LONG, || {
            let loaded = self.runtime().network()?.to_string();
            loaded.contains("sluice-cni").then_some(()).ok_or(loaded)
        });
    }

    fn agent_args(&self) -> Vec<String> {
        let tls = self.lab.certificate("node", "na");
        let controller = lan::controller_address(self.lab.node("na"));
        let path = |path: PathBuf| path.display().to_string();
        let flags = [
            ("--node-name", "na".to_owned()),
            ("--controller", format!("https://{controller}:{PORT}")),
            ("--trust-domain", crate::lab::TRUST_DOMAIN.into()),
            ("--tls-cert", path(tls.cert)),
            ("--tls-key", path(tls.key)),
            ("--tls-ca", path(tls.ca)),
            ("--add-deadline", "4s".into()),
            ("--cni-conf-dir", CONF_DIR.into()),
            ("--cni-bin-dir", BIN_DIR.into()),
            ("--cni-shim", path(programs::find("sluice-cni"))),
        ];
        let confined = "--bounding-set=-all,+net_admin,+net_raw,+sys_admin";
        let filter = format!("SLUICE_LOG={}", log_filter());
        let program = path(programs::find("sluice-agent"));
        let before = [confined, "env", &filter, "NO_COLOR=1", &program, "run"];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        before.map(str::to_owned).into_iter().chain(flags).collect()
    }

    /// SIGKILL.
    pub fn kill_agent(&mut self) {
        self.agent.take().expect("it runs").kill();
    }

    /// Waits until the agent's own status is so.
    pub fn wait_status(
        &self,
        what: &str,
        so: impl Fn(&sluice_proto::agent::v1::GetStatusResponse) -> bool,
    ) {
        wait::value(what, wait::LONG, || {
            let status = self.agent().status()?;
            so(&status).then_some(()).ok_or(format!("{status:?}"))
        });
    }

    fn spawn(&self, name: &str, program: &Path, args: &[String]) -> Wrapped {
        let mut command = tools::program("nsenter");
        self.holder.inside(&mut command);
        command.arg(program).args(args);
        Wrapped::start(&self.netns, name, command, &self.lab.log(name))
    }

    fn import(&self, archive: &Path) {
        files::copy(archive, &self.path("/run/image.tar"));
        let args = [
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "/run/image.tar",
        ];
        self.run("ctr", &args);
        self.run("rm", &["/run/image.tar"]);
    }

    /// What sandboxes leave on a node when they are not taken away: what is in
    /// the kernel, and the names of files that are kept for them.
    pub fn traces(&self) -> Traces {
        let kept = [
            "/run/netns",
            "/run/sluice/journal",
            "/var/lib/cni/results",
            "/var/lib/cni/networks/pods",
        ];
        let files = kept.into_iter().flat_map(|dir| {
            let entries = std::fs::read_dir(self.path(dir));
            let entries = entries.into_iter().flatten().flatten();
            entries.map(move |entry| format!("{dir}/{}", entry.file_name().display()))
        });
        Traces {
            files: files.collect(),
            kernel: Snapshot::configuration(&self.netns),
        }
    }

    /// Waits until there are these traces again: what the controller says of
    /// pods that are gone comes a moment later.
    #[track_caller]
    pub fn wait_same(&self, before: &Traces, what: &str) {
        wait::until(wait::LONG, || {
            let now = self.traces();
            now.files == before.files && before.kernel.differences(&now.kernel).is_empty()
        });
        before.assert_same(&self.traces(), what);
    }

    /// Takes everything down, and looks that nothing is left of it.
    pub fn dismantle(self) {
        let (lab, _) = self.id.split_once('-').expect("a lab's name");
        let (lab, group) = (format!("{lab}-"), self.id.clone());
        drop(self);
        let left = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().filter(|line| line.contains(&lab));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(left("/proc/self/mountinfo"), [""; 0]);
        let names = std::fs::read_dir("/run/netns")
            .expect("namespaces")
            .flatten();
        let mut names = names.map(|entry| entry.file_name().display().to_string());
        assert_eq!(names.find(|name| name.starts_with(&lab)), None);
        let mut processes = std::fs::read_dir("/proc").expect("processes").flatten();
        let member = processes.find(|process| {
            let groups = std::fs::read_to_string(process.path().join("cgroup"));
            groups.is_ok_and(|groups| groups.contains(&group))
        });
        assert!(member.is_none(), "{member:?} is still in {group}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.proxy = None;
        self.agent = None;
        self.containerd = None;
        self.sandboxes.clear();
        // Its sandboxes go with the node's first process.
        self.holder.kill();
        cgroup::remove(|name| name == self.id);
    }
}

/// See [`Machine::traces`].
#[derive(Debug)]
pub struct Traces {
    files: BTreeSet<String>,
    kernel: Snapshot,
}

impl Traces {
    /// Panics with what is different later.
    #[track_caller]
    pub fn assert_same(&self, later: &Self, what: &str) {
        assert_eq!(self.files, later.files, "{what}");
        self.kernel.assert_same(&later.kernel, what);
    }

    pub fn kernel(&self) -> &Snapshot {
        &self.kernel
    }
}

fn below<'a>(path: &'a str, tree: &str) -> &'a str {
    let rest = path.strip_prefix(tree).expect("a path of the tree");
    rest.trim_start_matches('/')
}
