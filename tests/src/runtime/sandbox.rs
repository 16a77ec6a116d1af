//! Pod sandboxes, as a kubelet makes them.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use sluice_proto::capture::v1::PodState;

use crate::{
    lab::{
        APP,
        client::Call,
        netns::Netns,
        pod::PodSpec,
        proxy::Proxy,
        server::{Server, UdpServer},
        wait,
    },
    stand_in::{CaFiles, Kind, Launch},
    workloads::{Workload, Workloads},
};

use super::{
    Machine,
    cri::{LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata, PortMapping},
};

/// What is outside, where [`crate::lab::lan`] puts it.
const OUTSIDE: [&str; 2] = ["192.168.77.2", "fd00:77::2"];
const PROXY: &str = "za";

/// A sandbox with a server in it.
#[derive(Debug)]
pub struct Sandbox {
    servers: (Server, UdpServer),
    pub netns: Netns,
    pub spec: PodSpec,
    pub id: String,
    pub addresses: Vec<IpAddr>,
}

/// A pod of the node.
pub fn pod(name: &str, namespace: &str) -> PodSpec {
    PodSpec::new(name, "na", 0, namespace)
}

impl Machine {
    pub fn sandbox(&self, name: &str) -> &Sandbox {
        let sandbox = self.sandboxes.get(name);
        sandbox.unwrap_or_else(|| panic!("no sandbox {name}"))
    }

    /// Makes a sandbox whose pod the controller knows. Panics if it is refused.
    pub fn add(&mut self, spec: PodSpec) {
        let name = spec.name.clone();
        self.try_add(spec)
            .unwrap_or_else(|error| panic!("sandbox {name}: {error}"));
    }

    /// The same; what the runtime says if it is refused.
    pub fn try_add(&mut self, spec: PodSpec) -> Result<(), String> {
        self.lab.folder.pod(&spec.document(&[]));
        let id = self.runtime().run(self.config(&spec))?;
        self.adopt(spec, id);
        Ok(())
    }

    /// Makes several at once.
    pub fn add_at_once(&mut self, specs: Vec<PodSpec>) {
        for spec in &specs {
            self.lab.folder.pod(&spec.document(&[]));
        }
        let configs: Vec<_> = specs.iter().map(|spec| self.config(spec)).collect();
        let runtime = self.runtime();
        let made: Vec<_> = std::thread::scope(|scope| {
            let run = |config| scope.spawn(|| runtime.run(config));
            let running: Vec<_> = configs.into_iter().map(run).collect();
            let done = running.into_iter().map(|thread| thread.join());
            done.map(|made| made.expect("a call that returns"))
                .collect()
        });
        for (spec, id) in specs.into_iter().zip(made) {
            self.adopt(spec, id.expect("a sandbox"));
        }
    }

    /// What a kubelet would say of it.
    pub fn config(&self, spec: &PodSpec) -> PodSandboxConfig {
        let ports = spec.host_ports.iter().map(|port| PortMapping {
            container_port: APP.into(),
            host_port: (*port).into(),
        });
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: spec.name.clone(),
                uid: spec.uid.clone(),
                namespace: spec.namespace.clone(),
                attempt: 0,
            }),
            hostname: spec.name.clone(),
            log_directory: "/run/pods".into(),
            port_mappings: ports.collect(),
            annotations: spec.annotations.iter().cloned().collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.id),
            }),
        }
    }

    fn adopt(&mut self, spec: PodSpec, id: String) {
        let told = self.runtime().sandbox(&id).expect("a sandbox's status");
        let spaces = told["runtimeSpec"]["linux"]["namespaces"].as_array();
        let path = spaces
            .into_iter()
            .flatten()
            .find(|space| space["type"] == "network")
            .and_then(|space| space["path"].as_str())
            .unwrap_or_else(|| panic!("no network namespace in {told}"));
        let addresses = told["cniResult"]["Interfaces"]["eth0"]["IPConfigs"].as_array();
        let addresses: Vec<IpAddr> = addresses
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["IP"].as_str()?.parse().ok())
            .collect();
        assert!(!addresses.is_empty(), "no address in {told}");
        let name = format!("{}-{}", self.id, spec.name);
        let netns = Netns::adopt(&name, &self.path(path));
        self.lab.folder.pod(&spec.document(&addresses));
        let servers = (
            Server::start(&netns, &spec.name, APP),
            UdpServer::start(&netns, &spec.name, APP),
        );
        let sandbox = Sandbox {
            servers,
            netns,
            id,
            addresses,
            spec,
        };
        self.sandboxes.insert(sandbox.spec.name.clone(), sandbox);
        self.write_workloads();
    }

    /// Takes sandboxes away, all at once, as a kubelet does when pods end.
    pub fn remove(&mut self, names: &[&str]) {
        let runtime = self.runtime();
        let mut gone = Vec::new();
        for name in names {
            let sandbox = self.sandboxes.remove(*name);
            let Sandbox {
                servers,
                netns,
                id,
                spec,
                ..
            } = sandbox.unwrap_or_else(|| panic!("no sandbox {name}"));
            // They would keep its network namespace.
            drop(servers);
            netns.delete();
            gone.push((id, spec));
        }
        std::thread::scope(|scope| {
            for (id, spec) in &gone {
                let runtime = &runtime;
                scope.spawn(move || {
                    let stopped = runtime.stop(id).and_then(|()| runtime.remove(id));
                    stopped.unwrap_or_else(|error| panic!("end {}: {error}", spec.name));
                });
            }
        });
        for (_, spec) in &gone {
            self.lab.folder.remove_pod(&spec.document(&[]));
        }
    }

    /// A sandbox for the proxy, and the proxy in it.
    pub fn start_proxy(&mut self) {
        self.add(PodSpec::proxy(PROXY, "na"));
        let ca = CaFiles::create(self.lab.dir()).expect("the mesh's authority");
        let pod = self.sandbox(PROXY);
        let launch = Launch {
            kind: Kind::StandIn,
            netns: pod.netns.name().into(),
            node_name: "na".into(),
            workloads: self.lab.dir().join("workloads.yaml"),
            ca,
            instance_ips: pod.addresses.clone(),
            directory: self.lab.dir().into(),
        };
        let process = launch.start();
        let process = process.unwrap_or_else(|error| panic!("the proxy: {error}"));
        self.proxy = Some(Proxy::of(process));
    }

    fn write_workloads(&self) {
        self.tell_proxy(&[]);
    }

    /// Tells the proxy of the mesh's pods, `more` besides the sandboxes, and
    /// waits until it has heard: it resets what it does not know.
    pub fn tell_proxy(&self, more: &[(&str, &[IpAddr])]) {
        let pods = self.sandboxes.values();
        let enrolled = pods.filter(|pod| pod.spec.namespace == "shop");
        let named = enrolled.map(|pod| (pod.spec.name.as_str(), pod.addresses.as_slice()));
        let all = Workloads {
            workloads: named
                .chain(more.iter().copied())
                .map(|(name, addresses)| Workload::hbone("shop", name, "na", addresses))
                .collect(),
            ..Workloads::default()
        };
        let file = self.lab.dir().join("workloads.yaml");
        let before = fs::read(&file).ok();
        let heard = || {
            let log = fs::read_to_string(self.lab.dir().join("na-proxy.log"));
            log.unwrap_or_default()
                .matches("workload file re-read")
                .count()
        };
        let times = heard();
        all.write(&file).expect("write workloads");
        if self.proxy.is_none() || before == fs::read(&file).ok() {
            return;
        }
        let so = wait::until(wait::LONG, || heard() > times);
        assert!(so, "the proxy does not read {}", file.display());
    }

    /// Whether what a sandbox sends and what is sent to it goes through the
    /// proxy, in each family that it has. Panics if something is not answered,
    /// if an address is not kept, or if not all of them agree.
    #[track_caller]
    pub fn goes_through_the_proxy(&self, name: &str) -> bool {
        let pod = self.sandbox(name);
        let mut seen = Vec::new();
        for address in &pod.addresses {
            let outside: IpAddr = OUTSIDE[usize::from(address.is_ipv6())]
                .parse()
                .expect("an address");
            let mark = self.proxy().mark();
            let answer = Call::to(outside, APP).hello(&pod.netns, "out");
            assert_eq!(answer, Ok(format!("ext saw {address}")), "{name} out");
            let dialled = SocketAddr::new(outside, APP);
            seen.push(self.proxy().saw_outbound(mark, *address, dialled, false));
            let mark = self.proxy().mark();
            let answer = Call::to(*address, APP).hello(&self.lab.ext, "in");
            assert_eq!(answer, Ok(format!("{name} saw {outside}")), "{name} in");
            seen.push(self.proxy().saw_inbound(mark, outside, *address, false));
        }
        let through = seen[0];
        assert!(seen.iter().all(|one| *one == through), "{name}: {seen:?}");
        through
    }

    /// Waits until the agent says that a pod is in a state; its message.
    pub fn wait_state(&self, name: &str, state: PodState) -> String {
        let pod = self.agent().wait_state(name, state);
        pod.status.map(|status| status.message).unwrap_or_default()
    }
}
