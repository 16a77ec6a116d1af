//! The table of traffic: who calls whom, and whom the other side must see.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};

use super::{
    APP, HOST_APP, Lab,
    client::{Call, CallError},
    kube_proxy::{self, Form, Service},
    lan,
    pod::PodSpec,
};

/// NodePorts of the services `b1` and `a1`, and the host port of `a1`.
const NODE_PORT_B1: u16 = 30080;
const NODE_PORT_A1: u16 = 30081;
/// Host port of `a1` on its node.
pub const HOST_PORT_A1: u16 = 8081;

/// One family's addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub family: &'static str,
    pub a1: IpAddr,
    pub a2: IpAddr,
    pub u1: IpAddr,
    pub b1: IpAddr,
    pub za: IpAddr,
    pub vip_a1: IpAddr,
    pub vip_b1: IpAddr,
    pub wire_a: IpAddr,
    pub wire_b: IpAddr,
    pub uplink: IpAddr,
    pub ext: IpAddr,
    /// The node's end of the pods' links.
    pub gateway: IpAddr,
    /// The node's other addresses.
    pub locals: Vec<IpAddr>,
}

/// A row: a call, and how the answer begins.
#[derive(Clone, Debug)]
pub struct Row {
    pub tag: String,
    pub from: &'static str,
    pub to: SocketAddr,
    pub bind: Option<IpAddr>,
    pub expect: String,
    /// True when it goes from captured pod to captured pod: never in the clear
    /// between the nodes, and in the proxy's log.
    pub mesh: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, from, to, .. } = self;
        write!(f, "{tag}: {from} -> {to}")
    }
}

impl Row {
    pub fn call(&self, lab: &Lab) -> Result<String, CallError> {
        let mut call = Call::to(self.to.ip(), self.to.port()).from(self.bind);
        call.to = self.to;
        call.hello(lab.ns(self.from), &self.tag)
    }

    /// Makes the call; what was wrong, if anything was.
    pub fn problem(&self, lab: &Lab) -> Option<String> {
        let got = self.call(lab);
        let matches = |text: &String| {
            // "a1 saw 10.0.0.1" must not match "a1 saw 10.0.0.11".
            text == &self.expect || text.starts_with(&format!("{} ", self.expect))
        };
        if got.as_ref().is_ok_and(matches) {
            return None;
        }
        Some(format!("{self}: {got:?}, wanted {:?}", self.expect))
    }
}

impl Lab {
    /// The world of the table: `a1`, `a2`, `b1` in the namespace `shop`, `u1`
    /// in `plain`, proxies `za` and `zb`; service addresses on both nodes.
    pub fn table_pods(&self) -> Vec<PodSpec> {
        vec![
            PodSpec::new("a1", "na", 2, "shop").host_port(HOST_PORT_A1),
            PodSpec::new("a2", "na", 3, "shop"),
            PodSpec::new("u1", "na", 4, "plain"),
            PodSpec::new("b1", "nb", 2, "shop"),
        ]
    }

    /// Service addresses and more addresses of the node's own.
    pub fn table_surroundings(&self, form: Form) {
        lan::more_local_addresses(self.ns("na"));
        for addresses in [self.v4(), self.v6()] {
            for node in ["na", "nb"] {
                kube_proxy::program(self.ns(node), form, &addresses.services());
            }
        }
    }

    pub fn v4(&self) -> Addresses {
        let (na, nb) = (self.node("na"), self.node("nb"));
        let ip = |text: &str| text.parse().expect("an address");
        Addresses {
            family: "v4",
            a1: na.pod4(2).into(),
            a2: na.pod4(3).into(),
            u1: na.pod4(4).into(),
            b1: nb.pod4(2).into(),
            za: na.pod4(9).into(),
            vip_b1: ip("10.96.0.10"),
            vip_a1: ip("10.96.0.11"),
            wire_a: na.wire4().into(),
            wire_b: nb.wire4().into(),
            uplink: ip("192.168.77.1"),
            ext: ip("192.168.77.2"),
            gateway: na.pod4(1).into(),
            locals: vec![ip("10.77.0.1"), ip("10.99.99.1"), ip("169.254.20.10")],
        }
    }

    pub fn v6(&self) -> Addresses {
        let (na, nb) = (self.node("na"), self.node("nb"));
        let ip = |text: &str| text.parse().expect("an address");
        Addresses {
            family: "v6",
            a1: na.pod6(2).into(),
            a2: na.pod6(3).into(),
            u1: na.pod6(4).into(),
            b1: nb.pod6(2).into(),
            za: na.pod6(9).into(),
            vip_b1: ip("fd00:96::10"),
            vip_a1: ip("fd00:96::11"),
            wire_a: na.wire6().into(),
            wire_b: nb.wire6().into(),
            uplink: ip("fd00:77::1"),
            ext: ip("fd00:77::2"),
            gateway: na.pod6(1).into(),
            locals: vec![ip("fd00:aa::1"), ip("fd00:99::1")],
        }
    }

    /// The link-local address of the node's end of `a1`'s link, as `a1` dials
    /// it: never taken.
    pub fn link_local_row(&self) -> Row {
        let link = &self.pod("a1").link;
        let text = self.ns("na").run(
            "ip",
            &["-6", "-o", "addr", "show", "dev", link, "scope", "link"],
        );
        let address = text
            .split_whitespace()
            .find_map(|word| word.split_once('/')?.0.parse().ok())
            .unwrap_or_else(|| panic!("no link-local address: {text}"));
        let index = self
            .ns("a1")
            .enter(|| nix::net::if_::if_nametoindex("eth0").expect("the index of eth0"));
        Row {
            tag: "v6-pod-to-host-link-local".into(),
            from: "a1",
            to: SocketAddrV6::new(address, HOST_APP, 0, index).into(),
            bind: None,
            expect: "host-na saw".into(),
            mesh: false,
        }
    }
}

impl Addresses {
    /// The address of a pod of the table.
    pub fn of(&self, pod: &str) -> IpAddr {
        match pod {
            "a1" => self.a1,
            "a2" => self.a2,
            "u1" => self.u1,
            "b1" => self.b1,
            other => panic!("no pod {other} in the table"),
        }
    }

    /// The pod that a service address leads to; a pod's own is itself.
    pub fn behind(&self, address: IpAddr) -> IpAddr {
        let services = self.services();
        let service = services.iter().find(|service| service.vip == address);
        service.map_or(address, |service| service.endpoint)
    }

    pub fn services(&self) -> Vec<Service> {
        vec![
            Service {
                name: "b1",
                vip: self.vip_b1,
                node_port: NODE_PORT_B1,
                host_port: None,
                endpoint: self.b1,
            },
            Service {
                name: "a1",
                vip: self.vip_a1,
                node_port: NODE_PORT_A1,
                host_port: Some(HOST_PORT_A1),
                endpoint: self.a1,
            },
        ]
    }

    fn row(&self, tag: &str, from: &'static str, to: IpAddr, port: u16, expect: String) -> Row {
        Row {
            tag: format!("{}-{tag}", self.family),
            from,
            to: SocketAddr::new(to, port),
            bind: None,
            expect,
            mesh: false,
        }
    }

    /// Every row of the family.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = self.between_captured();
        rows.extend(self.with_others());
        rows.extend(self.by_the_node());
        rows.extend(self.own_node());
        rows
    }

    fn between_captured(&self) -> Vec<Row> {
        let saw = |who: &str, whom: IpAddr| format!("{who} saw {whom}");
        let Self { a1, a2, b1, za, .. } = *self;
        let (vip_a1, vip_b1) = (self.vip_a1, self.vip_b1);
        let mut rows = vec![
            self.row("pod-remote", "a1", b1, APP, saw("b1", a1)),
            self.row("pod-vip", "a1", vip_b1, 80, saw("b1", a1)),
            self.row("pod-same-node", "a1", a2, APP, saw("a2", a1)),
            self.row("other-way", "b1", a1, APP, saw("a1", b1)),
            self.row("vip-other-node", "b1", vip_a1, 80, saw("a1", b1)),
        ];
        for row in &mut rows {
            row.mesh = true;
        }
        rows.push(self.row("self", "a1", a1, APP, saw("a1", a1)));
        // Through its own service: the proxy cannot dial a pod from the pod's
        // own address, and uses its own.
        rows.push(self.row("hairpin-vip", "a1", vip_a1, 80, saw("a1", za)));
        rows
    }

    fn with_others(&self) -> Vec<Row> {
        let saw = |who: &str, whom: IpAddr| format!("{who} saw {whom}");
        let Self {
            a1,
            u1,
            b1,
            ext,
            uplink,
            ..
        } = *self;
        vec![
            self.row("uncaptured-in", "u1", a1, APP, saw("a1", u1)),
            self.row("uncaptured-vip-in", "u1", self.vip_a1, 80, saw("a1", u1)),
            self.row("to-uncaptured", "a1", u1, APP, saw("u1", a1)),
            self.row("uncaptured-remote", "u1", b1, APP, saw("b1", u1)),
            self.row("egress-masqueraded", "a1", ext, APP, saw("ext", uplink)),
            self.row("outside-in", "ext", a1, APP, saw("a1", ext)),
            self.row("host-port", "ext", uplink, HOST_PORT_A1, saw("a1", ext)),
            self.row(
                "node-port-local",
                "ext",
                uplink,
                NODE_PORT_A1,
                saw("a1", ext),
            ),
            self.row(
                "node-port-remote",
                "ext",
                uplink,
                NODE_PORT_B1,
                saw("b1", self.wire_a),
            ),
        ]
    }

    fn by_the_node(&self) -> Vec<Row> {
        let saw = |who: &str, whom: IpAddr| format!("{who} saw {whom}");
        let Self { a1, b1, uplink, .. } = *self;
        let mut rows = vec![
            self.row("probe", "na", a1, APP, saw("a1", self.gateway)),
            self.row("host-remote", "na", b1, APP, saw("b1", self.wire_a)),
            self.row("host-vip-local", "na", self.vip_a1, 80, saw("a1", uplink)),
            self.row("host-vip-remote", "na", self.vip_b1, 80, saw("b1", uplink)),
        ];
        let own = [self.gateway, self.wire_a, uplink];
        for &local in own.iter().chain(&self.locals) {
            let mut probe = self.row("probe-from", "na", a1, APP, saw("a1", local));
            probe.bind = Some(local);
            rows.push(probe);
            rows.push(self.row("pod-to-host", "a1", local, HOST_APP, saw("host-na", a1)));
        }
        rows
    }

    fn own_node(&self) -> Vec<Row> {
        let wire = self.wire_a;
        vec![
            self.row(
                "own-node-port-remote",
                "a1",
                wire,
                NODE_PORT_B1,
                "b1 saw".into(),
            ),
            self.row(
                "own-node-port-local",
                "a2",
                wire,
                NODE_PORT_A1,
                "a1 saw".into(),
            ),
            self.row("own-host-port", "a2", wire, HOST_PORT_A1, "a1 saw".into()),
            self.row(
                "pod-to-other-host",
                "a1",
                self.wire_b,
                HOST_APP,
                format!("host-nb saw {}", self.a1),
            ),
        ]
    }
}
