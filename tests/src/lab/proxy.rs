//! The proxy of a node: the stand-in, or a real ztunnel.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
    time::Duration,
};

use crate::{
    stand_in::{CaFiles, ConnectionLog, Direction, Kind, Launch, Process},
    workloads::{Service, Workload, Workloads},
};

use super::{
    APP, Lab,
    client::{Call, CallError},
    process::tail,
    wait,
};

/// A connection is logged this soon after its end.
const LOGGED: Duration = Duration::from_secs(3);
/// Pods that tests add later have these numbers. A real ztunnel reads its file
/// once, so they are in it from the start.
const LATER: [u8; 7] = [5, 6, 7, 8, 10, 11, 12];

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
}

impl Proxy {
    pub(crate) fn of(process: Process) -> Self {
        Self { process }
    }

    /// True when it is a real ztunnel.
    pub fn is_real(&self) -> bool {
        matches!(self.process.kind(), Kind::Ztunnel(_))
    }

    /// Which one runs, for people.
    pub fn kind(&self) -> String {
        self.process.kind().to_string()
    }

    /// What it has logged so far.
    pub fn connections(&self) -> Vec<ConnectionLog> {
        self.process.connections()
    }

    /// How much it has logged so far, for looking at what comes after.
    pub fn mark(&self) -> usize {
        self.connections().len()
    }

    /// Whether it logs, soon and after `mark`, a connection of a pod
    /// of its node to what the pod dialled. A real ztunnel does not log service
    /// addresses, but the service.
    pub fn saw_outbound(
        &self,
        mark: usize,
        source: IpAddr,
        dialled: SocketAddr,
        encrypted: bool,
    ) -> bool {
        self.saw(mark, |connection| {
            let same = connection.dst == dialled;
            let service = self.is_real() && connection.service.is_some();
            connection.direction == Direction::Outbound
                && connection.src.ip() == source
                && (same || service)
                && connection.encrypted == encrypted
        })
    }

    /// Whether it logs, soon and after `mark`, a connection from
    /// `source` to a pod of its node.
    pub fn saw_inbound(&self, mark: usize, source: IpAddr, pod: IpAddr, encrypted: bool) -> bool {
        self.saw(mark, |connection| {
            let to = connection.target.unwrap_or(connection.dst).ip();
            connection.direction != Direction::Outbound
                && connection.src.ip() == source
                && to == pod
                && connection.encrypted == encrypted
        })
    }

    fn saw(&self, mark: usize, wanted: impl Fn(&ConnectionLog) -> bool) -> bool {
        wait::until(LOGGED, || self.connections().iter().skip(mark).any(&wanted))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let output = tail(&self.process.output(), 20);
            eprintln!("--- last words of a proxy\n{output}");
        }
    }
}

impl Lab {
    pub fn proxy(&self, node: &str) -> &Proxy {
        self.node(node)
            .proxy
            .as_ref()
            .unwrap_or_else(|| panic!("no proxy runs on {node}"))
    }

    pub fn proxy_mut(&mut self, node: &str) -> &mut Proxy {
        self.node_mut(node)
            .proxy
            .as_mut()
            .unwrap_or_else(|| panic!("no proxy runs on {node}"))
    }

    /// Whether a pod's call to another goes through its node's proxy. Panics if
    /// the call is not answered.
    #[track_caller]
    pub fn through_proxy(&self, from: &str, to: &str) -> bool {
        let seen = self.try_through_proxy(from, to);
        seen.unwrap_or_else(|error| panic!("{from} -> {to}: {error:?}"))
    }

    /// The same, while a call may also fail.
    pub fn try_through_proxy(&self, from: &str, to: &str) -> Result<bool, CallError> {
        let (from, to) = (self.pod(from), self.pod(to));
        let proxy = self.proxy(&from.spec.node);
        let mark = proxy.mark();
        Call::to(to.ip4, APP).hello(&from.netns, "through-the-proxy")?;
        let source = IpAddr::from(from.ip4);
        Ok(proxy.saw(mark, |connection| {
            connection.direction == Direction::Outbound && connection.src.ip() == source
        }))
    }

    /// Starts the proxy of a node in its pod, and waits until it listens.
    pub fn start_proxy(&mut self, node: &str) {
        self.write_workloads();
        let pod = self.pod(&Self::proxy_name(node));
        let launch = Launch {
            kind: Kind::wanted(),
            netns: pod.netns.name().into(),
            node_name: node.into(),
            workloads: self.workloads_file(),
            ca: self.mesh_authority(),
            instance_ips: pod.addresses(),
            directory: self.dir().into(),
        };
        let process = launch
            .start()
            .unwrap_or_else(|error| panic!("the proxy of {node}: {error}"));
        self.node_mut(node).proxy = Some(Proxy { process });
    }

    /// Ends the proxy of a node; its pod stays.
    pub fn stop_proxy(&mut self, node: &str) {
        if let Some(mut proxy) = self.node_mut(node).proxy.take() {
            proxy.process.stop(Duration::from_secs(3));
        }
    }

    fn workloads_file(&self) -> PathBuf {
        self.dir().join("workloads.yaml")
    }

    fn mesh_authority(&self) -> CaFiles {
        let made = self.mesh_authority.get_or_init(|| {
            let dir = self.dir().join("mesh-ca");
            fs::create_dir(&dir).expect("make a directory");
            CaFiles::create(&dir).expect("make the mesh's authority")
        });
        made.clone()
    }

    /// Writes what proxies know of the mesh.
    pub fn write_workloads(&self) {
        let mut all = Workloads {
            policies: self.policies.clone(),
            ..Workloads::default()
        };
        let two = self.nodes.len() == 2;
        if two {
            let (v4, v6) = (self.v4(), self.v6());
            let service = |name, vips: [IpAddr; 2]| Service::new("shop", name, &vips, 80, 8080);
            all.services = vec![
                service("a1", [v4.vip_a1, v6.vip_a1]),
                service("b1", [v4.vip_b1, v6.vip_b1]),
            ];
        }
        for node in &self.nodes {
            let named = self.pods.values().filter(|pod| pod.spec.node == node.name);
            for pod in named.clone().filter(|pod| pod.spec.namespace == "shop") {
                let spec = &pod.spec;
                let mut workload =
                    Workload::hbone("shop", &spec.name, &node.name, &pod.addresses());
                for service in all
                    .services
                    .iter()
                    .filter(|service| service.name == spec.name)
                {
                    workload = workload.serving(service);
                }
                all.workloads.push(workload);
            }
            let taken: Vec<u8> = named.map(|pod| pod.spec.host).collect();
            for host in LATER.iter().filter(|host| !taken.contains(host)) {
                let addresses = [node.pod4(*host).into(), node.pod6(*host).into()];
                let name = format!("later-{}-{host}", node.name);
                all.workloads
                    .push(Workload::hbone("shop", &name, &node.name, &addresses));
            }
        }
        all.write(&self.workloads_file()).expect("write workloads");
    }
}
