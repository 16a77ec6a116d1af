//! A node: its namespace, its addresses, and the programs that run on it.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use super::{agent::Agent, cni, netns::Netns, programs, proxy::Proxy};

/// IPv4 and IPv6 networks of all pods.
pub const PODS4: &str = "10.91.0.0/16";
pub const PODS6: &str = "fd00:91::/32";

/// A node of the lab.
#[derive(Debug)]
pub struct Node {
    pub agent: Option<Agent>,
    pub proxy: Option<Proxy>,
    pub name: String,
    /// 1 for `na`, 2 for `nb`.
    pub index: u8,
    pub netns: Netns,
    pub dir: PathBuf,
    /// Settings of our shim in the network configuration, besides its type
    /// and its files.
    pub shim: serde_json::Map<String, serde_json::Value>,
    /// cniVersion of the network configuration.
    pub cni_version: String,
    /// Where its runtime reads configurations and looks for plugins, if it has
    /// directories of its own: then what is in them counts.
    pub runtime: Option<Runtime>,
}

/// The directories of a runtime.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub conf: PathBuf,
    pub bin: PathBuf,
}

/// The name of the node with an index.
pub fn name(index: u8) -> String {
    format!("n{}", char::from(b'a' + index - 1))
}

impl Node {
    pub fn create(index: u8, netns: Netns, dir: &Path) -> Self {
        fs::create_dir_all(dir).expect("make a directory for the node");
        netns.sysctl("net.ipv4.ip_forward", "1");
        netns.sysctl("net.ipv6.conf.all.forwarding", "1");
        Self {
            agent: None,
            proxy: None,
            name: name(index),
            index,
            netns,
            dir: dir.into(),
            shim: serde_json::Map::new(),
            cni_version: "1.0.0".into(),
            runtime: None,
        }
    }

    /// Gives its runtime directories, with Debian's `ptp` in one and a
    /// configuration of it in the other.
    pub fn make_runtime(&mut self) -> Runtime {
        let runtime = Runtime {
            conf: self.dir.join("net.d"),
            bin: self.dir.join("cni-bin"),
        };
        for dir in [&runtime.conf, &runtime.bin] {
            fs::create_dir_all(dir).expect("make a directory of the runtime");
        }
        for plugin in ["ptp", "host-local"] {
            let from = Path::new("/usr/lib/cni").join(plugin);
            std::os::unix::fs::symlink(from, runtime.bin.join(plugin)).expect("link a plugin");
        }
        let chain = self.chain(false);
        let list = serde_json::json!({
            "cniVersion": chain.version, "name": chain.name, "plugins": chain.plugins,
        });
        fs::write(runtime.conf.join("10-ptp.conflist"), list.to_string())
            .expect("write the network configuration");
        self.runtime = Some(runtime.clone());
        runtime
    }

    /// What the runtime uses now, from its directories if it has some.
    pub fn current_chain(&self, with_shim: bool) -> cni::Chain {
        let Some(runtime) = &self.runtime else {
            return self.chain(with_shim);
        };
        let cache = self.dir.join("cni-cache");
        cni::Chain::first_in(&runtime.conf, vec![runtime.bin.clone()], cache)
            .unwrap_or_else(|why| panic!("the runtime of {}: {why}", self.name))
    }

    /// The address of the pod numbered `host`.
    pub fn pod4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, self.index, host)
    }

    pub fn pod6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x91, self.index.into(), 0, 0, 0, 0, host.into())
    }

    /// Its address on the wire between the nodes.
    pub fn wire4(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, 9, self.index)
    }

    pub fn wire6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, self.index.into())
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("agent.sock")
    }

    /// The runtime's network configuration, with our shim last or without it.
    pub fn chain(&self, with_shim: bool) -> cni::Chain {
        let ranges = [
            format!("10.91.{}.0/24", self.index),
            format!("fd00:91:{}::/64", self.index),
        ];
        let mut plugins = vec![cni::ptp(&ranges, &self.dir.join("ipam"))];
        let mut path = vec![PathBuf::from("/usr/lib/cni")];
        if with_shim {
            plugins.push(self.shim_config());
            path.push(programs::directory_of("sluice-cni"));
        }
        cni::Chain {
            version: self.cni_version.clone(),
            name: "lab".into(),
            plugins,
            path,
            cache: self.dir.join("cni-cache"),
        }
    }

    fn shim_config(&self) -> serde_json::Value {
        let mut config = serde_json::json!({
            "type": "sluice-cni",
            "socket": self.socket(),
            "namespacesFile": self.run_dir().join("namespaces.json"),
            "notesFile": self.state_dir().join("cni-notes.jsonl"),
        });
        for (key, value) in &self.shim {
            config[key] = value.clone();
        }
        config
    }
}
