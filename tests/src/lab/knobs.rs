//! What else lives on a node: reverse-path checks, forwarding policies, host
//! firewalls.

use std::fmt::Write as _;

use super::{
    netns::Netns,
    node::{PODS4, PODS6},
};

/// Policy of the FORWARD chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forward {
    /// Accept.
    Open,
    /// As kube-proxy: policy DROP, INVALID dropped, pods accepted.
    Kube,
    /// As Calico besides: untracked TCP dropped.
    Calico,
    /// Only established connections and new ones from and to pods.
    Stateful,
}

/// A node's surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    /// `rp_filter` of `all` and `default`.
    pub rp_filter: u8,
    pub forward: Forward,
    /// INPUT allows by connection state, and new connections to the host's
    /// own ports only.
    pub host_firewall: bool,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            rp_filter: 0,
            forward: Forward::Open,
            host_firewall: false,
        }
    }
}

impl Knobs {
    /// Makes a node's namespace so; what was set before is replaced.
    pub fn apply(self, node: &Netns) {
        for which in ["all", "default"] {
            let key = format!("net.ipv4.conf.{which}.rp_filter");
            node.sysctl(&key, &self.rp_filter.to_string());
        }
        for (tool, pods) in [("iptables-restore", PODS4), ("ip6tables-restore", PODS6)] {
            node.feed(tool, &["-w"], &self.filter_table(pods));
        }
    }

    fn filter_table(self, pods: &str) -> String {
        let mut table = String::from("*filter\n");
        let policy = |drop: bool| if drop { "DROP" } else { "ACCEPT" };
        let _ = writeln!(table, ":INPUT {}", policy(self.host_firewall));
        let _ = writeln!(table, ":FORWARD {}", policy(self.forward != Forward::Open));
        table.push_str(":OUTPUT ACCEPT\n");
        if self.host_firewall {
            table.push_str(&input(pods));
        }
        if self.forward != Forward::Open {
            table.push_str(&self.forward_rules(pods));
        }
        table.push_str("COMMIT\n");
        table
    }

    fn forward_rules(self, pods: &str) -> String {
        let mut rules = String::new();
        if matches!(self.forward, Forward::Kube | Forward::Calico) {
            rules.push_str("-A FORWARD -m conntrack --ctstate INVALID -j DROP\n");
        }
        if self.forward == Forward::Calico {
            rules.push_str("-A FORWARD -p tcp -m conntrack --ctstate UNTRACKED -j DROP\n");
        }
        rules.push_str("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n");
        let new = if self.forward == Forward::Stateful {
            "-m conntrack --ctstate NEW "
        } else {
            rules.push_str("-A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n");
            ""
        };
        let _ = writeln!(rules, "-A FORWARD {new}-s {pods} -j ACCEPT");
        let _ = writeln!(rules, "-A FORWARD {new}-d {pods} -j ACCEPT");
        rules
    }
}

fn input(pods: &str) -> String {
    let (icmp, any) = if pods.contains(':') {
        ("ipv6-icmp", "::/0")
    } else {
        ("icmp", "0.0.0.0/0")
    };
    format!(
        "-A INPUT -i lo -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s {any} -p tcp -m conntrack --ctstate NEW -m tcp --dport 9000 -j ACCEPT
-A INPUT -s {pods} -p udp -m conntrack --ctstate NEW -j ACCEPT
"
    )
}
