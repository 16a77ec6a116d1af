//! A node, its proxy and its pods, as network namespaces that go with the value.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use socket2::{Domain, Socket, Type};

use sluice_kernel::{
    Kernel,
    model::{Link, Node, Pod, PodUid, Proxy, Settings},
};

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A node with nothing on it but its loopback and a link to the outside.
pub(crate) struct Lab {
    pub(crate) name: String,
    namespaces: Vec<String>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("slk{}-{next}", std::process::id());
        let mut lab = Self {
            name,
            namespaces: Vec::new(),
        };
        lab.namespace("node");
        lab.inside("node", "sysctl -qw net.ipv4.ip_forward=1");
        lab.inside("node", "sysctl -qw net.ipv6.conf.all.forwarding=1");
        lab.inside("node", "ip link add out0 type veth peer name out1");
        lab.inside("node", "ip addr add 192.168.77.1/24 dev out0");
        lab.inside("node", "ip addr add fd00:77::1/64 dev out0 nodad");
        lab.inside("node", "ip link set out0 up");
        lab.inside("node", "ip link set out1 up");
        lab
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            node_netns: self.path("node"),
            ..Settings::default()
        }
    }

    pub(crate) fn kernel(&self) -> Kernel {
        Kernel::open(self.settings()).unwrap()
    }

    pub(crate) fn path(&self, namespace: &str) -> PathBuf {
        format!("/run/netns/{}-{namespace}", self.name).into()
    }

    pub(crate) fn namespace(&mut self, name: &str) {
        run(&format!("ip netns add {}-{name}", self.name));
        self.namespaces.push(name.into());
        // An address that is still being tried looks like a change.
        self.inside(name, "sysctl -qw net.ipv6.conf.default.accept_dad=0");
        self.inside(name, "ip link set lo up");
    }

    /// Unmounts a namespace; it goes when nobody is in it any more.
    pub(crate) fn remove(&mut self, name: &str) {
        self.namespaces.retain(|other| other != name);
        run(&format!("ip netns del {}-{name}", self.name));
    }

    /// Attaches a namespace as the `ptp` CNI plugin does.
    pub(crate) fn attach(&mut self, name: &str, addresses: &[&str]) -> Link {
        self.namespace(name);
        let node = format!("{}-node", self.name);
        let own = format!("{}-{name}", self.name);
        let host = format!("v{name}");
        run(&format!(
            "ip link add {host} netns {node} type veth peer name eth0 netns {own}"
        ));
        self.inside("node", &format!("ip link set {host} up"));
        self.inside(name, "ip link set eth0 up");
        for address in addresses {
            let (gateway, prefix, nodad) = if address.contains(':') {
                ("fd00:91::1", 128, "nodad")
            } else {
                ("10.91.0.1", 32, "")
            };
            self.inside(
                "node",
                &format!("ip addr add {gateway}/{prefix} dev {host} {nodad}"),
            );
            self.inside(
                "node",
                &format!("ip route add {address}/{prefix} dev {host}"),
            );
            self.inside(
                name,
                &format!("ip addr add {address}/{prefix} dev eth0 {nodad}"),
            );
            self.inside(name, &format!("ip route add {gateway} dev eth0"));
            self.inside(
                name,
                &format!("ip route add default via {gateway} dev eth0"),
            );
        }
        let index = self.inside("node", &format!("cat /sys/class/net/{host}/ifindex"));
        Link {
            index: index.trim().parse().unwrap(),
            name: host,
        }
    }

    pub(crate) fn pod(&mut self, name: &str, addresses: &[&str]) -> (PodUid, Pod) {
        let link = self.attach(name, addresses);
        let addresses = parse(addresses);
        (uid(name), Pod { link, addresses })
    }

    pub(crate) fn proxy(&mut self, name: &str, addresses: &[&str]) -> Proxy {
        let link = self.attach(name, addresses);
        Proxy {
            netns: Kernel::netns_id(&self.path(name)).unwrap(),
            link,
            addresses: parse(addresses),
        }
    }

    /// Two dual-stack pods and a proxy.
    pub(crate) fn usual(&mut self) -> Node {
        let proxy = self.proxy("proxy", &["10.91.0.9", "fd00:91::9"]);
        let one = self.pod("one", &["10.91.0.2", "fd00:91::2"]);
        let two = self.pod("two", &["10.91.0.3", "fd00:91::3"]);
        Node {
            proxy: Some(proxy),
            pods: BTreeMap::from([one, two]),
            host_ports: BTreeSet::from([8081]),
        }
    }

    pub(crate) fn inside(&self, namespace: &str, command: &str) -> String {
        run(&format!(
            "ip netns exec {}-{namespace} {command}",
            self.name
        ))
    }

    /// The same, if it works.
    pub(crate) fn try_inside(&self, namespace: &str, command: &str) {
        execute(&format!(
            "ip netns exec {}-{namespace} {command}",
            self.name
        ));
    }

    /// Does something on a thread inside a namespace.
    #[expect(clippy::disallowed_methods, reason = "on a thread that ends there")]
    pub(crate) fn enter<T: Send>(&self, namespace: &str, inside: impl FnOnce() -> T + Send) -> T {
        let path = self.path(namespace);
        let thread = || {
            let netns = std::fs::File::open(path).unwrap();
            nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            inside()
        };
        std::thread::scope(|scope| scope.spawn(thread).join().unwrap())
    }

    /// A listening socket; with `::` for both families.
    pub(crate) fn listener(
        &self,
        namespace: &str,
        address: &str,
        port: u16,
        transparent: bool,
    ) -> TcpListener {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        self.enter(namespace, || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            if transparent {
                socket.set_ip_transparent_v4(true).unwrap();
            }
            socket.bind(&address.into()).unwrap();
            socket.listen(8).unwrap();
            socket.into()
        })
    }

    /// Everything that capture could change in a namespace, but for what
    /// differs between two readings anyway.
    pub(crate) fn dump(&self, namespace: &str) -> String {
        [
            "ip -d link show",
            "ip addr show",
            "ip rule show",
            "ip -6 rule show",
            "ip -d route show table all",
            "ip -d -6 route show table all",
            "nft -s list ruleset",
            "sysctl -ae --pattern ^net.ipv[46].conf",
        ]
        .map(|command| format!("# {command}\n{}", self.inside(namespace, command)))
        .join("\n")
    }

    /// What of ours there is in a namespace.
    pub(crate) fn ours(&self, namespace: &str) -> String {
        let marked = [
            "ip -d rule show",
            "ip -d -6 rule show",
            "ip -d route show table all",
            "ip -d -6 route show table all",
        ]
        .map(|command| self.inside(namespace, command))
        .concat();
        let mut ours: Vec<_> = marked
            .lines()
            .filter(|line| line.contains("proto 83") || line.contains("proto ax25"))
            .map(ToOwned::to_owned)
            .collect();
        ours.push(self.inside(namespace, "nft list tables"));
        ours.concat()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            execute(&format!("ip netns del {}-{namespace}", self.name));
        }
    }
}

pub(crate) fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

fn parse(addresses: &[&str]) -> BTreeSet<IpAddr> {
    let parsed = addresses.iter().map(|address| address.parse().unwrap());
    parsed.collect()
}

/// Runs a command; a `~` is a space inside a word. Panics if it fails.
pub(crate) fn run(command: &str) -> String {
    let (ok, out, err) = execute(command);
    assert!(ok, "`{command}` failed (tests need root): {err}");
    out
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests look with the native tools"
)]
fn execute(command: &str) -> (bool, String, String) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words.map(|word| word.replace('~', " ")))
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
