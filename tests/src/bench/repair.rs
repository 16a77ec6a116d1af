//! Somebody changes an object of ours: how soon it is back.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{median, pods::FULL, quantile, table::Table};
use crate::lab::{Lab, wait};

const ROUNDS: usize = 5;

/// What is changed on the node, how, and how one sees whether it is back.
const CHANGES: [(&str, &str, &str); 6] = [
    (
        "the packet rules, deleted",
        "nft delete table netdev sluice",
        "nft -s list table netdev sluice",
    ),
    (
        "the routes of all pods, flushed",
        "ip route flush table 8301",
        "ip route show table 8301",
    ),
    (
        "a routing rule, deleted",
        "ip rule del table 8301",
        "ip rule",
    ),
    (
        "a link, set down",
        "ip link set sl-in down",
        "ip link show sl-in; ip neigh show dev sl-in nud permanent; ip route show table 8301",
    ),
    (
        "a link, deleted",
        "ip link del sl-in",
        "ip addr show sl-in | grep -o 'inet.*'",
    ),
    (
        "a sysctl, set",
        "sysctl -qw net.ipv6.conf.sl-in.accept_ra=1",
        "sysctl net.ipv6.conf.sl-in.accept_ra",
    ),
];

/// Measures on a node that is full of pods.
pub fn run(lab: &Lab, table: &mut Table) {
    let node = lab.ns("na");
    for (what, change, look) in CHANGES {
        // While it is gone there may be nothing to list. What is made anew comes in
        // another order.
        let look = || {
            let listed = node.output("sh", &["-c", look]).stdout;
            let text = String::from_utf8_lossy(&listed).into_owned();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let took: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let before = look();
                node.sh(change);
                let start = Instant::now();
                while look() != before {
                    assert!(start.elapsed() < wait::LONG, "{what}: not back");
                    thread::sleep(Duration::from_millis(2));
                }
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        table.row(
            &format!("repair, {FULL} pods: {what}"),
            format!(
                "median {:.0} ms, worst {:.0} ms",
                median(&took),
                quantile(&took, 1.0)
            ),
            "seen from outside, polled".into(),
            "≤ 1 s",
        );
    }
}
