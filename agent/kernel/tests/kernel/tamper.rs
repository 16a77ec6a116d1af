//! Somebody changes what is ours: it is seen, and mended.

use crate::lab::Lab;

/// Kind of repair, where, and the command that makes it necessary.
const TAMPERING: &[(&str, &str, &str)] = &[
    ("link", "node", "ip link set sl-out down"),
    ("link", "proxy", "ip link set sl-in down"),
    ("link", "node", "ip link del sl-in"),
    ("link", "proxy", "ip link del sl-out"),
    (
        "link",
        "node",
        "ip link set sl-out address 02:00:00:00:00:01",
    ),
    (
        "link",
        "proxy",
        "ip link set sl-out address 02:00:00:00:00:02",
    ),
    ("link", "node", "ip link set sl-in mtu 1400"),
    ("link", "node", "ip link set sl-in name other"),
    ("address", "node", "ip addr del 192.0.0.8/32 dev sl-out"),
    ("address", "node", "ip addr add 192.0.2.1/32 dev sl-out"),
    ("address", "proxy", "ip addr flush dev sl-in"),
    ("neighbour", "node", "ip neigh del 169.254.0.1 dev sl-out"),
    (
        "neighbour",
        "node",
        "ip neigh replace fe80::2 lladdr 02:00:00:00:00:03 dev sl-in nud permanent",
    ),
    (
        "neighbour",
        "node",
        "ip neigh replace 169.254.0.1 lladdr 02:00:00:00:00:03 dev sl-in nud reachable",
    ),
    ("neighbour", "proxy", "ip neigh del fe80::1 dev sl-out"),
    (
        "sysctl",
        "node",
        "sysctl -qw net.ipv4.conf.sl-out.rp_filter=1",
    ),
    (
        "sysctl",
        "node",
        "sysctl -qw net.ipv6.conf.sl-in.disable_ipv6=1",
    ),
    (
        "sysctl",
        "proxy",
        "sysctl -qw net.ipv4.conf.sl-in.accept_local=0",
    ),
    ("rule", "node", "ip rule del priority 105"),
    ("rule", "node", "ip -6 rule del priority 104"),
    ("rule", "node", "ip rule flush protocol 83"),
    (
        "rule",
        "node",
        "ip rule add priority 105 from 10.0.0.0/8 lookup main protocol 83",
    ),
    ("rule", "proxy", "ip rule del priority 100"),
    ("rule", "proxy", "ip rule del priority 110"),
    (
        "route",
        "node",
        "ip route del 10.91.0.2 via 169.254.0.1 table 8301",
    ),
    ("route", "node", "ip route flush table 8301"),
    ("route", "node", "ip -6 route flush table 8301"),
    (
        "route",
        "node",
        "ip route add 10.91.0.77 dev out0 table 8301 proto 83",
    ),
    (
        "route",
        "node",
        "ip route change 10.91.0.2 via 169.254.0.1 dev sl-in onlink table 8301 proto 83 mtu 900",
    ),
    (
        "route",
        "node",
        "ip route replace unreachable 10.91.0.99 table 8301 proto 83",
    ),
    ("route", "proxy", "ip route del local default table 8302"),
    ("route", "proxy", "ip -6 route flush table 8303"),
    ("nft", "node", "nft delete table netdev sluice"),
    ("nft", "node", "nft flush ruleset"),
    ("nft", "node", "nft flush chain netdev sluice in-vone"),
    (
        "nft",
        "node",
        "nft delete element netdev sluice dev4 {10.91.0.2}",
    ),
    (
        "nft",
        "node",
        "nft add element netdev sluice local4 {10.91.0.2}",
    ),
    (
        "nft",
        "node",
        "nft insert rule netdev sluice from_pod accept",
    ),
    ("nft", "proxy", "nft delete table inet sluice"),
    ("nft", "proxy", "nft delete table ip sluice"),
    ("nft", "proxy", "nft flush chain ip6 sluice tell"),
];

#[test]
fn everything_that_is_tampered_with_is_seen_and_mended() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    for (kind, namespace, command) in TAMPERING {
        lab.inside(namespace, command);
        if *kind == "sysctl" {
            assert!(!kernel.sysctls_ok(), "`{command}` was not seen");
        }
        let audit = kernel.audit(&node).unwrap();
        let kinds: Vec<_> = audit.differences.iter().map(|repair| repair.kind).collect();
        assert!(
            kinds.contains(kind),
            "`{command}`: {:#?}",
            audit.differences
        );
        assert!(
            audit.pods.values().any(|captured| !captured) || *kind == "route",
            "`{command}`: pods are still called captured"
        );

        let outcome = kernel.reconcile(&node).unwrap_or_else(|error| {
            panic!(
                "`{command}`: {error}: {:?}",
                std::error::Error::source(&error)
            )
        });
        assert!(outcome.repairs.iter().any(|repair| repair.kind == *kind));
        assert!(
            outcome.pods.values().all(Result::is_ok),
            "`{command}`: {outcome:#?}"
        );
        let again = kernel.reconcile(&node).unwrap();
        assert!(
            again.repairs.is_empty(),
            "`{command}`: {:#?}",
            again.repairs
        );
        assert!(kernel.sysctls_ok(), "`{command}`");
    }
}

/// As after a crash: any part of what was made may be missing.
#[test]
fn whatever_is_missing_is_made_again() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    let whole = [lab.ours("node"), lab.ours("proxy")].map(|text| text.len());
    for round in 1..12usize {
        // A different third each time; a later one may have nothing left to break.
        for (_, namespace, command) in TAMPERING.iter().skip(round % 3).step_by(1 + round % 5) {
            lab.try_inside(namespace, command);
        }
        let mut restarted = lab.kernel();
        restarted.reconcile(&node).unwrap();
        assert!(restarted.reconcile(&node).unwrap().repairs.is_empty());
        let now = [lab.ours("node"), lab.ours("proxy")];
        assert_eq!(whole, now.map(|text| text.len()));
    }
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let mut lab = Lab::new();
    let node = lab.usual();
    for command in [
        "ip rule add priority 90 from 10.0.0.0/8 lookup main",
        "ip route add 10.55.0.0/16 dev out0 table 77 proto 42",
        "nft add table inet kube-proxy",
        "nft add chain inet kube-proxy pre { type filter hook prerouting priority 0 ; }",
        "sysctl -qw net.ipv4.conf.vone.rp_filter=1",
    ] {
        lab.inside("node", command);
    }
    let before = lab.dump("node");
    let mut kernel = lab.kernel();
    assert!(kernel.preflight(&node).unwrap().is_empty());
    kernel.reconcile(&node).unwrap();
    kernel.cleanup(None).unwrap();
    assert_eq!(before, lab.dump("node"));
}
