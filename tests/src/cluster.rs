//! A whole Kubernetes on one machine: real etcd, API server, controllers,
//! kubelets, containerd and kube-proxy, nothing of the machine's own touched.
//!
//! ```text
//!      control (etcd, API server, controller manager, scheduler)
//!         |  bridge "lan"  172.30.0.1, fd30::1
//!    +----+----+
//!    na        nb        each with its own network, mount and PID namespace;
//!    |         |         containerd, kubelet, kube-proxy at their default paths
//!   pods      pods       reference plugins ptp, host-local, portmap
//! ```
//!
//! A node's `/etc`, `/opt` and `/var` are overlays and its `/run` a tmpfs, so that
//! what is written there is the node's own and leaves no trace on the machine.
//! From outside they are seen by [`Node::path`].
//!
//! Everything is taken down on drop; what a killed run leaves is removed by the
//! next one ([`crate::lab::sweep`]).

pub mod address;
mod api;
pub mod audit;
pub mod caller;
pub mod cgroup;
pub mod control;
pub mod dns;
pub mod exec;
pub mod fault;
pub mod files;
pub mod forward;
pub mod holder;
pub mod image;
pub mod kubectl;
pub mod monitor;
pub mod node;
pub mod options;
pub mod pki;
pub mod pod;
pub mod running;
pub mod shim;
pub mod sluice;
pub mod snapshot;
pub mod stand_in;
pub mod tools;
pub mod wiretap;

pub use node::Node;
pub use options::{Family, Options, ProxyMode};

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::lab::{self, netns::Netns, sweep};

use self::{control::Control, dns::Dns, forward::Forward, pki::Pki};

/// How long a part of the cluster may take to come up on a busy machine.
pub const START: Duration = Duration::from_secs(120);
/// Whatever the cluster's own parts do by themselves: start a pod, move a node.
pub const SETTLE: Duration = Duration::from_secs(120);

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // In the order in which they are taken down.
    pub nodes: Vec<Node>,
    pub control: Control,
    _dns: Dns,
    _forward: Forward,
    pub pki: Pki,
    pub options: Options,
    id: String,
    dir: TempDir,
}

impl Cluster {
    /// Brings up a cluster and waits until every node is ready. Panics with the
    /// last words of whatever did not start.
    pub fn up(options: Options) -> Self {
        sweep::once();
        tools::check();
        let images = image::of_tests();
        let id = lab::unique_id();
        let dir = tempfile::Builder::new()
            .prefix(&sweep::directory_prefix(&id))
            .tempdir()
            .expect("make a directory for the cluster");
        let pki = Pki::create(&dir.path().join("pki"), options.family);
        let control_netns = Netns::create(&format!("{id}-ctl"));
        let control = Control::start(control_netns, &pki, &options, dir.path());
        let mut nodes: Vec<Node> = (1..=options.nodes)
            .map(|index| Node::create(index, &id, &control, &pki, &options, dir.path()))
            .collect();
        for node in &mut nodes {
            node.start_containerd();
        }
        for node in &nodes {
            for archive in &images {
                node.import_image(archive);
            }
        }
        let forward = Forward::start(&control.netns, control::PORT);
        pki.kubeconfig(&forward.server(), "admin", "admin");
        let inside = pki.kubeconfig(&control::local(), "inside", "admin");
        let dns = Dns::start(&control.netns, address::control(options.family), inside);
        let mut cluster = Self {
            nodes,
            control,
            _dns: dns,
            _forward: forward,
            pki,
            options,
            id,
            dir,
        };
        cluster.join_nodes();
        cluster
    }

    fn join_nodes(&mut self) {
        self.control.wait_ready(&self.kubeconfig());
        for node in &mut self.nodes {
            node.start_kubelet();
            node.start_kube_proxy();
        }
        for index in 0..self.nodes.len() {
            self.wait_joined(index);
        }
    }

    /// Another node joins. Its name.
    pub fn add_node(&mut self) -> String {
        self.options.nodes += 1;
        let index = self.options.nodes;
        for node in &self.nodes {
            node.learn_of(index, &self.options);
        }
        let dir = self.dir.path();
        let mut node = Node::create(
            index,
            &self.id,
            &self.control,
            &self.pki,
            &self.options,
            dir,
        );
        node.start_containerd();
        for archive in image::all() {
            node.import_image(&archive);
        }
        node.start_kubelet();
        node.start_kube_proxy();
        let name = node.name.clone();
        self.nodes.push(node);
        self.wait_joined(self.nodes.len() - 1);
        name
    }

    /// What names this cluster's namespaces and cgroups.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Directory of the cluster, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The administrator's kubeconfig; good from the machine's own namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.pki.dir.join("admin.kubeconfig")
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name} in the cluster"))
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name} in the cluster"))
    }

    /// Gives every node the image in an archive (docker-archive or OCI).
    pub fn import_image(&self, archive: &Path) {
        for node in &self.nodes {
            node.import_image(archive);
        }
    }

    /// A client of the API server as administrator.
    pub async fn client(&self) -> kube::Client {
        client_of(&self.kubeconfig()).await
    }
}

async fn client_of(kubeconfig: &Path) -> kube::Client {
    // Somebody else in the process may have chosen the same before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = kube::config::Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options)
        .await
        .expect("the kubeconfig of the cluster");
    kube::Client::try_from(config).expect("a client of the cluster")
}
