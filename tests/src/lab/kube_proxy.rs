//! Service addresses as kube-proxy programs them, and a hostPort as `portmap`
//! does.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    APP,
    netns::Netns,
    node::{PODS4, PODS6},
};

/// A service with one endpoint.
#[derive(Clone, Debug)]
pub struct Service {
    pub name: &'static str,
    /// Its address, where port 80 leads to the endpoint's port 8080.
    pub vip: IpAddr,
    pub node_port: u16,
    /// A host port that leads to the endpoint without masquerade.
    pub host_port: Option<u16>,
    pub endpoint: IpAddr,
}

/// In which form the rules are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    Iptables,
    Nft,
}

/// Programs one family's services on a node. All of `services` are of one
/// family.
pub fn program(node: &Netns, form: Form, services: &[Service]) {
    let six = services.iter().any(|service| service.vip.is_ipv6());
    match (form, six) {
        (Form::Iptables, false) => {
            node.feed("iptables-restore", &["-w"], &nat_table(services, PODS4));
        }
        (Form::Iptables, true) => {
            node.feed("ip6tables-restore", &["-w"], &nat_table(services, PODS6));
        }
        (Form::Nft, _) => node.nft(&nft_table(services, six)),
    }
}

fn nat_table(services: &[Service], pods: &str) -> String {
    let mut chains = String::new();
    let mut rules = String::new();
    for service in services {
        let Service {
            name,
            vip,
            node_port,
            endpoint,
            ..
        } = service;
        let to = SocketAddr::new(*endpoint, APP);
        let _ = writeln!(chains, ":SVC-{name} -");
        let _ = write!(
            rules,
            "-A KUBE-SERVICES -d {vip} -p tcp -m tcp --dport 80 -j SVC-{name}
-A SVC-{name} -s {endpoint} -j KUBE-MARK-MASQ
-A SVC-{name} -p tcp -j DNAT --to-destination {to}
-A KUBE-NODEPORTS -p tcp -m tcp --dport {node_port} -j KUBE-MARK-MASQ
-A KUBE-NODEPORTS -p tcp -m tcp --dport {node_port} -j SVC-{name}
"
        );
        if let Some(port) = service.host_port {
            let _ = writeln!(
                rules,
                "-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j DNAT --to-destination {to}"
            );
        }
    }
    format!(
        "*nat
:KUBE-SERVICES -
:KUBE-NODEPORTS -
:KUBE-POSTROUTING -
:KUBE-MARK-MASQ -
{chains}-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A POSTROUTING -o uplk -s {pods} -j MASQUERADE
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
{rules}-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
"
    )
}

fn nft_table(services: &[Service], six: bool) -> String {
    let (family, ip, pods) = if six {
        ("ip6", "ip6", PODS6)
    } else {
        ("ip", "ip", PODS4)
    };
    let mut chains = String::new();
    let mut vips = String::new();
    let mut ports = String::new();
    for service in services {
        let Service {
            name,
            vip,
            node_port,
            endpoint,
            ..
        } = service;
        let to = SocketAddr::new(*endpoint, APP);
        let _ = write!(
            chains,
            "chain svc-{name} {{
  {ip} saddr {endpoint} jump mark-for-masquerade
  meta l4proto tcp dnat to {to}
 }}
 chain external-{name} {{
  jump mark-for-masquerade
  goto svc-{name}
 }}
 "
        );
        let _ = writeln!(vips, "  {ip} daddr {vip} tcp dport 80 goto svc-{name}");
        let _ = writeln!(ports, "  tcp dport {node_port} goto external-{name}");
        if let Some(port) = service.host_port {
            let _ = writeln!(ports, "  tcp dport {port} dnat to {to}");
        }
    }
    format!(
        "table {family} kube-proxy {{
 chain mark-for-masquerade {{ meta mark set meta mark or 0x4000
 }}
 {chains}chain nodeports {{
{ports} }}
 chain services {{
{vips}  fib daddr type local goto nodeports
 }}
 chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services
 }}
 chain nat-output {{ type nat hook output priority -100; jump services
 }}
 chain nat-postrouting {{ type nat hook postrouting priority srcnat;
  meta mark and 0x4000 != 0 jump masquerading
  oifname \"uplk\" {ip} saddr {pods} masquerade
 }}
 chain masquerading {{
  meta mark set meta mark xor 0x4000
  masquerade fully-random
 }}
}}
"
    )
}
