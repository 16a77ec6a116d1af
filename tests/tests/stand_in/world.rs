//! Two nodes that are nothing but a proxy's namespace each: it routes for its
//! pods and takes their TCP by TPROXY.
//!
//! ```text
//! a1, a2 --- za ===wire=== zb --- b1, u (outside the mesh)
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    process::id,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sluice_tests::{
    lab::{
        client::{Call, CallError},
        command,
        netns::Netns,
        server::Server,
    },
    stand_in::{CaFiles, ConnectionLog, Kind, Launch, Process},
    workloads::{Policy, Service, Workload, Workloads},
};
use tempfile::TempDir;

pub(crate) const APP: u16 = 8080;
const LINE_SOON: Duration = Duration::from_secs(10);

static COUNTER: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

/// (pod, node, number of the node, number of the pod, captured)
const PODS: [(&str, &str, u8, u8, bool); 4] = [
    ("a1", "na", 1, 2, true),
    ("a2", "na", 1, 3, true),
    ("b1", "nb", 2, 2, true),
    ("u", "nb", 2, 4, false),
];

pub(crate) struct World {
    pub(crate) ca: CaFiles,
    // In the order in which they are taken down.
    proxies: BTreeMap<&'static str, RefCell<Process>>,
    _servers: Vec<Server>,
    namespaces: BTreeMap<&'static str, Netns>,
    directory: TempDir,
}

impl World {
    pub(crate) fn new(policies: &[Policy]) -> Self {
        sluice_tests::lab::sweep::once();
        let number = COUNTER.fetch_add(1, Ordering::SeqCst);
        let make = |name| {
            (
                name,
                Netns::create(&format!("sl{:x}x{number:x}-{name}", id())),
            )
        };
        let directory = tempfile::tempdir().unwrap();
        let mut world = Self {
            ca: CaFiles::create(directory.path()).unwrap(),
            proxies: BTreeMap::new(),
            _servers: Vec::new(),
            namespaces: ["za", "zb", "a1", "a2", "b1", "u"].map(make).into(),
            directory,
        };
        world.wire();
        for (pod, node, node_number, pod_number, _) in PODS {
            world.attach(pod, zone(node), node_number, pod_number);
            let server = Server::start(world.netns(pod), pod, APP);
            world._servers.push(server);
        }
        world.set_policies(policies);
        for (node, node_number) in [("na", 1), ("nb", 2)] {
            world.netns(zone(node)).nft(&rules(node));
            let process = world.launch(node, node_number).start().unwrap();
            world.proxies.insert(node, RefCell::new(process));
        }
        world
    }

    fn launch(&self, node: &str, node_number: u8) -> Launch {
        Launch {
            kind: Kind::StandIn,
            netns: self.netns(zone(node)).name().to_owned(),
            node_name: node.to_owned(),
            workloads: self.workloads(),
            ca: self.ca.clone(),
            instance_ips: vec![
                address(node_number, 1, Family::V4),
                address(node_number, 1, Family::V6),
            ],
            directory: self.directory.path().to_owned(),
        }
    }

    fn wire(&self) {
        let (za, zb) = (self.netns("za"), self.netns("zb"));
        command::ip(&[
            "link",
            "add",
            "wire",
            "netns",
            za.name(),
            "type",
            "veth",
            "peer",
            "name",
            "wire",
            "netns",
            zb.name(),
        ]);
        for (zone, own, other) in [(za, 1, 2), (zb, 2, 1)] {
            zone.sysctl("net.ipv4.ip_forward", "1");
            zone.sysctl("net.ipv6.conf.all.forwarding", "1");
            zone.ip(&format!(
                "addr add 172.31.9.{own}/24 dev wire\naddr add fd00:31::{own}/64 dev wire nodad\nlink set wire up\n\
                 addr add 10.91.{own}.1/32 dev lo\naddr add fd00:91:{own}::1/128 dev lo nodad\n\
                 route add 10.91.{other}.0/24 via 172.31.9.{other}\n\
                 route add fd00:91:{other}::/64 via fd00:31::{other}\n"
            ));
            for family in ["", "-6 "] {
                zone.ip(&format!("{family}rule add pref 100 fwmark 1 lookup 100\nroute add local default dev lo table 100\n"));
            }
        }
    }

    fn attach(&self, pod: &str, zone: &str, node_number: u8, pod_number: u8) {
        let (zone, inside) = (self.netns(zone), self.netns(pod));
        let link = format!("v{pod}");
        command::ip(&[
            "link",
            "add",
            &link,
            "netns",
            zone.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            inside.name(),
        ]);
        let (v4, v6) = (
            address(node_number, pod_number, Family::V4),
            address(node_number, pod_number, Family::V6),
        );
        zone.ip(&format!("link set {link} up\nroute add {v4} dev {link}\nroute add {v6} dev {link}\naddr add fe80::1/64 dev {link} nodad\n"));
        inside.ip(&format!(
            "link set eth0 up\naddr add {v4}/32 dev eth0\naddr add {v6}/128 dev eth0 nodad\n\
             route add 10.91.{node_number}.1 dev eth0\nroute add default via 10.91.{node_number}.1 dev eth0\n\
             route add default via fe80::1 dev eth0\n"
        ));
    }

    fn workloads(&self) -> PathBuf {
        self.directory.path().join("workloads.yaml")
    }

    /// Writes the workload file; running proxies read it soon.
    pub(crate) fn set_policies(&self, policies: &[Policy]) {
        let vips = [self.vip(Family::V4), self.vip(Family::V6)];
        let service = Service::new("d", "b1", &vips, 80, APP);
        let captured = PODS.into_iter().filter(|(.., captured)| *captured);
        let workloads = captured.map(|(pod, node, ..)| {
            let addresses = [self.address(pod, Family::V4), self.address(pod, Family::V6)];
            let workload = Workload::hbone("d", pod, node, &addresses);
            if pod == "b1" {
                workload.serving(&service)
            } else {
                workload
            }
        });
        let all = Workloads {
            workloads: workloads.collect(),
            services: vec![service.clone()],
            policies: policies.to_vec(),
        };
        all.write(&self.workloads()).unwrap();
    }

    pub(crate) fn netns(&self, name: &str) -> &Netns {
        &self.namespaces[name]
    }

    pub(crate) fn address(&self, pod: &str, family: Family) -> IpAddr {
        let (_, _, node, number, _) = PODS.into_iter().find(|(name, ..)| *name == pod).unwrap();
        address(node, number, family)
    }

    pub(crate) fn vip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => [10, 96, 0, 10].into(),
            Family::V6 => [0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10].into(),
        }
    }

    /// An address of a node's proxy.
    pub(crate) fn own_address(&self, node: &str) -> IpAddr {
        address(if node == "na" { 1 } else { 2 }, 1, Family::V4)
    }

    pub(crate) fn hello(&self, from: &str, to: IpAddr, port: u16) -> Result<String, CallError> {
        Call::to(to, port).hello(self.netns(from), "stand-in")
    }

    /// A line of a node's connection log.
    pub(crate) fn line(
        &self,
        node: &str,
        wanted: impl Fn(&ConnectionLog) -> bool,
    ) -> ConnectionLog {
        let proxy = self.proxies[node].borrow();
        let line = proxy.wait_connection(LINE_SOON, wanted);
        line.unwrap_or_else(|| panic!("no such line; there are {:#?}", proxy.connections()))
    }

    /// Ends a node's proxy as a node does that shuts down.
    pub(crate) fn stop(&self, node: &str) {
        let status = self.proxies[node].borrow_mut().stop(Duration::from_secs(5));
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }

    /// TCP on the wire that does not belong to a tunnel.
    pub(crate) fn untunnelled_packets(&self) -> u64 {
        let listing = self.netns("za").run(
            "nft",
            &["list", "counter", "inet", "standin", "untunnelled"],
        );
        let packets = listing
            .split_whitespace()
            .skip_while(|word| *word != "packets")
            .nth(1);
        packets.unwrap().parse().unwrap()
    }
}

fn zone(node: &str) -> &'static str {
    if node == "na" { "za" } else { "zb" }
}

fn address(node: u8, number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 91, node, number].into(),
        Family::V6 => [0xfd00, 0x91, node.into(), 0, 0, 0, 0, number.into()].into(),
    }
}

/// What comes from the node's pods goes to 15001, what comes to them to 15008
/// or 15006, and what the proxy sends to 15008 of its own pods comes back to it.
fn rules(node: &str) -> String {
    let captured = PODS.into_iter().filter(|pod| pod.1 == node && pod.4);
    let (mut links, mut v4, mut v6) = (Vec::new(), Vec::new(), Vec::new());
    for (pod, _, node_number, pod_number, _) in captured {
        links.push(format!("\"v{pod}\""));
        v4.push(address(node_number, pod_number, Family::V4).to_string());
        v6.push(address(node_number, pod_number, Family::V6).to_string());
    }
    let (links, v4, v6) = (links.join(", "), v4.join(", "), v6.join(", "));
    format!(
        "table inet standin {{
          counter untunnelled {{ }}
          set links {{ type ifname; elements = {{ {links} }}; }}
          set pods4 {{ type ipv4_addr; elements = {{ {v4} }}; }}
          set pods6 {{ type ipv6_addr; elements = {{ {v6} }}; }}
          chain pre {{
            type filter hook prerouting priority mangle;
            meta l4proto tcp jump steer
          }}
          chain steer {{
            socket transparent 1 socket wildcard 0 meta mark set 1 accept
            iifname @links meta nfproto ipv4 meta l4proto tcp meta mark set 1 tproxy ip to 127.0.0.1:15001 accept
            iifname @links meta nfproto ipv6 meta l4proto tcp meta mark set 1 tproxy ip6 to [::1]:15001 accept
            ip daddr @pods4 tcp dport 15008 meta mark set 1 tproxy ip to 127.0.0.1:15008 accept
            ip6 daddr @pods6 tcp dport 15008 meta mark set 1 tproxy ip6 to [::1]:15008 accept
            ip daddr @pods4 meta l4proto tcp meta mark set 1 tproxy ip to 127.0.0.1:15006 accept
            ip6 daddr @pods6 meta l4proto tcp meta mark set 1 tproxy ip6 to [::1]:15006 accept
          }}
          chain out {{
            type route hook output priority mangle;
            ip daddr @pods4 tcp dport 15008 meta mark set 1
            ip saddr @pods4 ip daddr @pods4 tcp sport 15008 meta mark set 1
            ip6 daddr @pods6 tcp dport 15008 meta mark set 1
            ip6 saddr @pods6 ip6 daddr @pods6 tcp sport 15008 meta mark set 1
          }}
          chain post {{
            type filter hook postrouting priority 0;
            tcp dport 15008 accept
            tcp sport 15008 accept
            oifname \"wire\" meta l4proto tcp counter name untunnelled
          }}
        }}"
    )
}
