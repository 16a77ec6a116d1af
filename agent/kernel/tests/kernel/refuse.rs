//! What forbids capture is found, named, and left as it is.

use sluice_kernel::{
    Kernel,
    model::{Node, Refusal, Settings},
};

use crate::lab::Lab;

/// The check that speaks, where, and the commands that give it reason to.
const REASONS: &[(&str, &str, &[&str])] = &[
    (
        "ipvs",
        "node",
        &[
            "ip link add kube-ipvs0 type bridge",
            "ip addr add 10.96.0.10/32 dev kube-ipvs0",
        ],
    ),
    ("forwarding", "node", &["sysctl -qw net.ipv4.ip_forward=0"]),
    (
        "forwarding",
        "node",
        &["sysctl -qw net.ipv6.conf.all.forwarding=0"],
    ),
    (
        "ports",
        "node",
        &["sysctl -qw net.ipv4.ip_local_port_range=8000~60000"],
    ),
    ("link", "node", &["ip link add sl-in type bridge"]),
    ("link", "proxy", &["ip link add sl-out type bridge"]),
    (
        "route-table",
        "node",
        &["ip route add 10.1.0.0/16 dev out0 table 8301"],
    ),
    (
        "route-table",
        "node",
        &["ip rule add priority 7 lookup 8301"],
    ),
    (
        "route-table",
        "proxy",
        &["ip route add 10.1.0.0/16 dev eth0 table 8303"],
    ),
    (
        "rule-priority",
        "node",
        &["ip -6 rule add priority 105 lookup 9"],
    ),
    (
        "rule-priority",
        "proxy",
        &["ip rule add priority 110 lookup 9"],
    ),
    (
        "mark",
        "proxy",
        &["ip rule add priority 7 fwmark 0x100/0x100 lookup 9"],
    ),
    (
        "protocol",
        "node",
        &["ip route add 10.1.0.0/16 dev out0 proto 83"],
    ),
    ("nft-table", "node", &["nft add table netdev sluice"]),
    ("nft-table", "proxy", &["nft add table inet sluice"]),
    ("nft-table", "proxy", &["nft add table ip6 sluice"]),
    (
        "rpfilter",
        "node",
        &["iptables -t raw -A PREROUTING -m rpfilter --invert -j DROP"],
    ),
    (
        "rpfilter",
        "node",
        &["iptables-legacy -t raw -A PREROUTING -m rpfilter --invert -j DROP"],
    ),
    (
        "rpfilter",
        "node",
        &[
            "nft add table inet firewalld",
            "nft add chain inet firewalld raw { type filter hook prerouting priority -300 ; }",
            "nft add rule inet firewalld raw fib saddr . iif oif missing drop",
        ],
    ),
];

#[test]
fn each_reason_is_named_with_a_remedy() {
    for (check, namespace, commands) in REASONS {
        let mut lab = Lab::new();
        let node = lab.usual();
        for command in *commands {
            lab.inside(namespace, command);
        }
        let before = [lab.dump("node"), lab.dump("proxy")];
        let refusals = refusals(&lab, &node);
        let checks: Vec<_> = refusals.iter().map(|refusal| refusal.check).collect();
        assert_eq!(checks, [*check], "{commands:?}: {refusals:#?}");
        assert!(refusals.iter().all(|refusal| !refusal.remedy.is_empty()));
        assert_eq!(before, [lab.dump("node"), lab.dump("proxy")]);
    }
}

#[test]
fn reserved_ports_are_no_reason() {
    let mut lab = Lab::new();
    let node = lab.usual();
    lab.inside("node", "sysctl -qw net.ipv4.ip_local_port_range=8000~32767");
    lab.inside(
        "node",
        "sysctl -qw net.ipv4.ip_local_reserved_ports=8081,30000-32767",
    );
    assert!(refusals(&lab, &node).is_empty());
}

#[test]
fn a_name_that_could_be_cut_is_not_taken() {
    let lab = Lab::new();
    for (instance, taken) in [(0, false), (1, true), (64, true), (65, false)] {
        let settings = Settings {
            instance: "i".repeat(instance),
            ..lab.settings()
        };
        let opened = Kernel::open(settings);
        assert_eq!(opened.is_ok(), taken, "{instance} bytes");
        if let Err(error) = opened {
            assert!(error.to_string().contains("--instance"), "{error}");
        }
    }
}

fn refusals(lab: &Lab, node: &Node) -> Vec<Refusal> {
    lab.kernel().preflight(node).unwrap()
}
