//! Nodes made of network namespaces on one machine.
//!
//! ```text
//!            ctl (controller)
//!     mg1 /             \ mg2
//!      na ----- wire ----- nb          za, zb: the proxies' pods
//!     /  \ uplk             |          each node's pods hang on it by Debian's
//!  pods   ext              pods        ptp plugin
//! ```
//!
//! Everything has names of its own, so that labs run side by side, and
//! everything is taken down on drop, also when a test fails. What a killed test
//! run leaves is removed by the next lab.

pub mod agent;
pub mod bulk;
pub mod client;
pub mod cni;
pub mod command;
pub mod controller;
pub mod disk;
pub mod folder;
pub mod footprint;
pub mod http;
pub mod knobs;
pub mod kube_proxy;
pub mod lan;
pub mod netns;
pub mod node;
pub mod observe;
pub mod passing;
pub mod pod;
pub mod process;
pub mod programs;
pub mod proxy;
pub mod rows;
pub mod rpc;
pub mod server;
pub mod sweep;
pub mod wait;
pub mod wire;
pub mod world;

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use sluice_mtls::{TlsFiles, testing::TestCa};
use tempfile::TempDir;

use crate::{stand_in::CaFiles, workloads::Policy};

use self::{
    agent::Agent,
    client::{Call, CallError},
    controller::Controller,
    folder::Folder,
    netns::Netns,
    node::Node,
    pod::Pod,
    server::Server,
    wire::Wire,
};

/// Trust domain of every certificate in a lab.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// Where every workload listens.
pub const APP: u16 = 8080;
/// Where a process of the node itself listens.
pub const HOST_APP: u16 = 9000;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What the names of a lab's namespaces and directories begin with. It tells
/// [`sweep`] which process they belong to.
pub fn unique_id() -> String {
    let number = COUNTER.fetch_add(1, Ordering::SeqCst);
    format!("sl{:x}x{number:x}", std::process::id())
}

/// One or two nodes, what hangs on them, and what is outside.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are taken down.
    pub controller: Option<Controller>,
    pub pods: BTreeMap<String, Pod>,
    pub nodes: Vec<Node>,
    _servers: Vec<Server>,
    pub ext: Netns,
    pub control: Netns,
    pub folder: Folder,
    /// L4 policies of the mesh; set before proxies start.
    pub policies: Vec<Policy>,
    ca: TestCa,
    mesh_authority: OnceCell<CaFiles>,
    id: String,
    dir: TempDir,
}

impl Lab {
    /// A lab with nodes `na` and, when `nodes` is 2, `nb`; no pods yet.
    pub fn new(nodes: u8) -> Self {
        sweep::once();
        let id = unique_id();
        let dir = tempfile::Builder::new()
            .prefix(&sweep::directory_prefix(&id))
            .tempdir()
            .expect("make a directory for the lab");
        let make = |name: &str| Netns::create(&format!("{id}-{name}"));
        let (ext, control) = (make("ext"), make("ctl"));
        let nodes: Vec<Node> = (1..=nodes)
            .map(|index| {
                let name = node::name(index);
                Node::create(index, make(&name), &dir.path().join(&name))
            })
            .collect();
        lan::wire(&nodes, &ext, &control);
        let mut servers = vec![Server::start(&ext, "ext", APP)];
        for node in &nodes {
            let name = format!("host-{}", node.name);
            servers.push(Server::start(&node.netns, &name, HOST_APP));
        }
        let folder = Folder::create(&dir.path().join("yaml"));
        folder.namespace("istio-system", false);
        Self {
            controller: None,
            pods: BTreeMap::new(),
            nodes,
            _servers: servers,
            ext,
            control,
            folder,
            policies: Vec::new(),
            ca: TestCa::new(TRUST_DOMAIN),
            mesh_authority: OnceCell::new(),
            id,
            dir,
        }
    }

    /// Directory of the lab, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A namespace of the lab's own, such as for a pod.
    pub fn netns(&self, name: &str) -> Netns {
        Netns::create(&format!("{}-{name}", self.id))
    }

    /// A namespace by its short name: a pod, a node, or `ext`.
    pub fn ns(&self, name: &str) -> &Netns {
        if name == "ext" {
            return &self.ext;
        }
        let node = self.nodes.iter().find(|node| node.name == name);
        node.map(|node| &node.netns)
            .or_else(|| self.pods.get(name).map(|pod| &pod.netns))
            .unwrap_or_else(|| panic!("no pod or node {name} in the lab"))
    }

    pub fn pod(&self, name: &str) -> &Pod {
        self.pods
            .get(name)
            .unwrap_or_else(|| panic!("no pod {name} in the lab"))
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name} in the lab"))
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.name == name)
            .unwrap_or_else(|| panic!("no node {name} in the lab"))
    }

    pub fn agent(&self, node: &str) -> &Agent {
        self.node(node)
            .agent
            .as_ref()
            .unwrap_or_else(|| panic!("no agent runs on {node}"))
    }

    pub fn agent_mut(&mut self, node: &str) -> &mut Agent {
        self.node_mut(node)
            .agent
            .as_mut()
            .unwrap_or_else(|| panic!("no agent runs on {node}"))
    }

    pub fn controller_mut(&mut self) -> &mut Controller {
        self.controller.as_mut().expect("a controller runs")
    }

    /// A certificate of the lab's authority for
    /// `spiffe://<trust domain>/<role>/<name>`.
    pub fn certificate(&self, role: &str, name: &str) -> TlsFiles {
        let uri = format!("spiffe://{TRUST_DOMAIN}/{role}/{name}");
        let dir = self.dir().join("tls");
        std::fs::create_dir_all(&dir).expect("make a directory for certificates");
        self.ca.write(&dir, &format!("{role}-{name}"), &uri)
    }

    /// `hello` from a namespace to an address; short for the common case.
    pub fn hello(
        &self,
        from: &str,
        to: impl Into<IpAddr>,
        port: u16,
        tag: &str,
    ) -> Result<String, CallError> {
        Call::to(to, port).hello(self.ns(from), tag)
    }

    /// Records a link of a namespace; `tcpdump`'s filter syntax.
    pub fn record(&self, from: &str, link: &str, filter: &str) -> Wire {
        let number = COUNTER.fetch_add(1, Ordering::SeqCst);
        let name = format!("{from}-{link}-{number}");
        Wire::record(self.ns(from), link, filter, self.dir(), &name)
    }

    /// A file for the log of `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.log"))
    }
}
