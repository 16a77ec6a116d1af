//! A node: a machine of its own with containerd, kubelet and kube-proxy, all at
//! their default paths.

mod containerd;
mod kube_proxy;
mod kubelet;
mod network;
mod power;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

pub(crate) use self::containerd::CONFIG as CONTAINERD;

use crate::lab::{self, command, netns::Netns};

use super::{
    address, cgroup,
    control::{self, Control},
    exec::Wrapped,
    files,
    holder::Holder,
    options::Options,
    pki::Pki,
    tools,
};

const STOP: Duration = Duration::from_secs(10);

/// A node of the cluster.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    /// 1 for `na`, 2 for `nb`.
    pub index: u8,
    pub netns: Netns,
    /// The node's own addresses, the primary first.
    pub addresses: Vec<IpAddr>,
    kube_proxy: Option<Wrapped>,
    kubelet: Option<Wrapped>,
    containerd: Option<Wrapped>,
    holder: Holder,
    cgroup: String,
    taints: Vec<String>,
    dir: PathBuf,
    logs: PathBuf,
}

impl Node {
    /// Makes the machine, with its configuration in place and nothing running.
    pub fn create(
        index: u8,
        id: &str,
        control: &Control,
        pki: &Pki,
        options: &Options,
        cluster: &Path,
    ) -> Self {
        let name = lab::node::name(index);
        let netns = Netns::create(&format!("{id}-{name}"));
        network::wire(&netns, control, index, options);
        let addresses = address::node(index, options.family);
        pki.kubelet(&name, &addresses);
        let dir = cluster.join(&name);
        let cgroup = format!("{id}-{name}");
        let logs = cluster.join("log");
        let server = format!(
            "https://{}",
            std::net::SocketAddr::new(address::control(options.family), control::PORT)
        );
        configure(&dir, &name, &server, &cgroup, pki, options);
        network::install(&dir, index, options.family);
        let log = logs.join(format!("{name}.log"));
        let holder = Holder::start(&netns, &name, &dir, &log);
        cgroup::weigh_containers();
        Self {
            name,
            index,
            netns,
            addresses,
            kube_proxy: None,
            kubelet: None,
            containerd: None,
            holder,
            cgroup,
            taints: options.register_taints.clone(),
            dir,
            logs,
        }
    }

    /// Routes to the pods of a node that has come later.
    pub(super) fn learn_of(&self, other: u8, options: &Options) {
        network::routes(&self.netns, other, options.family);
    }

    /// A path of the node, such as `/etc/cni/net.d`, as seen from the machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.holder.path(path)
    }

    /// The node's first process, as the machine sees it: whose namespaces a
    /// program enters that wants to be on the node.
    pub fn init_pid(&self) -> u32 {
        self.holder.pid()
    }

    /// What the node has changed below `/etc`, `/opt` or `/var`: the upper
    /// directory of that tree's overlay. To be looked at, not written.
    pub fn changes(&self, tree: &str) -> PathBuf {
        self.dir.join(format!("{tree}.upper"))
    }

    /// Runs a program on the node; its output, whatever its exit status.
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        self.holder.output(&self.netns, program, args)
    }

    /// Runs a program on the node; its standard output. Panics if it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        command::stdout(&format!("{}: {program} {args:?}", self.name), &output)
    }

    /// Starts a program that stays on the node; its log is `NODE-NAME.log`.
    pub fn spawn(&self, name: &str, program: &Path, args: &[String]) -> Wrapped {
        let mut command = tools::program("nsenter");
        self.holder.inside(&mut command);
        command.arg(program).args(args);
        let log = self.log_file(name);
        Wrapped::start(
            &self.netns,
            &format!("{name} of {}", self.name),
            command,
            &log,
        )
    }

    /// Ends kubelet; the pods stay.
    pub fn stop_kubelet(&mut self) {
        stop(&mut self.kubelet);
    }

    /// Ends containerd; the pods stay, by their shims.
    pub fn stop_containerd(&mut self) {
        stop(&mut self.containerd);
    }

    /// Ends kube-proxy; its rules stay.
    pub fn stop_kube_proxy(&mut self) {
        stop(&mut self.kube_proxy);
    }

    /// Process ids of what runs, by name.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let parts = [
            ("containerd", &self.containerd),
            ("kubelet", &self.kubelet),
            ("kube-proxy", &self.kube_proxy),
        ];
        parts
            .into_iter()
            .filter_map(|(name, process)| Some((name, process.as_ref()?.pid())))
            .collect()
    }

    /// What a part of the node has written: `containerd`, `kubelet`, `kube-proxy`.
    pub fn log(&self, part: &str) -> String {
        let bytes = std::fs::read(self.log_file(part)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Of containers that have ended without their runtime.
    fn remove_cgroups(&self) {
        cgroup::remove_containers(&self.dir.join("containerd"));
        cgroup::remove(|name| name == self.cgroup);
    }

    fn log_file(&self, part: &str) -> PathBuf {
        self.logs.join(format!("{}-{part}.log", self.name))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // kubelet first, so that nothing starts anything again.
        for process in [
            &mut self.kubelet,
            &mut self.kube_proxy,
            &mut self.containerd,
        ] {
            drop(process.take());
        }
        self.holder.kill();
        self.remove_cgroups();
    }
}

fn stop(process: &mut Option<Wrapped>) {
    if let Some(mut process) = process.take() {
        process.stop(STOP);
    }
}

/// Writes the node's files below `/etc` before anything is mounted.
fn configure(dir: &Path, name: &str, server: &str, cgroup: &str, pki: &Pki, options: &Options) {
    let etc = dir.join("etc.upper");
    files::write(&etc.join("containerd/config.toml"), containerd::CONFIG);
    let kubernetes = etc.join("kubernetes");
    files::directory(&kubernetes.join("manifests"));
    let own = [
        ("ca.crt".to_owned(), "ca.crt"),
        (format!("kubelet-{name}.crt"), "kubelet.crt"),
        (format!("kubelet-{name}.key"), "kubelet.key"),
        (format!("kubelet-{name}-server.crt"), "kubelet-server.crt"),
        (format!("kubelet-{name}-server.key"), "kubelet-server.key"),
        ("kube-proxy.crt".to_owned(), "kube-proxy.crt"),
        ("kube-proxy.key".to_owned(), "kube-proxy.key"),
    ];
    for (from, to) in own {
        files::copy(&pki.file(&from), &kubernetes.join("pki").join(to));
    }
    for client in ["kubelet", "kube-proxy"] {
        let config = super::pki::kubeconfig(server, Path::new("/etc/kubernetes/pki"), client);
        files::write_json(&kubernetes.join(format!("{client}.conf")), &config);
    }
    let kubelet = kubelet::config(cgroup, address::control(options.family));
    files::write_json(&kubernetes.join("kubelet.yaml"), &kubelet);
    files::write_json(
        &kubernetes.join("kube-proxy.yaml"),
        &kube_proxy::config(name, options),
    );
}
