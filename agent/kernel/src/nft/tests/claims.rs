//! Other people's rules that forbid capture.

use super::lab::in_own_netns;
use crate::{legacy, nft};

/// Commands, and where the check is to be found: table, base chain, chain.
const CHECKS: [(&str, &[&str]); 14] = [
    // firewalld
    (
        "nft 'table inet firewalld { chain filter_PREROUTING { \
         type filter hook prerouting priority -140; \
         icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept; \
         meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }; }'",
        &["inet firewalld filter_PREROUTING filter_PREROUTING -140"],
    ),
    (
        "nft 'table ip t { chain c { type filter hook prerouting priority raw; \
         fib saddr . iif oif 0 drop; }; }'",
        &["ip t c c -300"],
    ),
    (
        "nft 'table ip t { chain r { fib saddr . iif oif missing log drop; }; \
         chain c { type filter hook prerouting priority raw; iifname != lo jump r; }; }'",
        &["ip t c r -300"],
    ),
    (
        "nft 'table ip t { chain c { type filter hook prerouting priority raw; \
         iifname \"sl-*\" fib saddr . iif oif missing drop; }; }'",
        &["ip t c c -300"],
    ),
    (
        "nft 'table ip t { chain c { type filter hook prerouting priority raw; \
         iifname != { eth0, lo } fib saddr . iif oif missing drop; }; }'",
        &["ip t c c -300"],
    ),
    (
        "iptables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
        &["ip raw PREROUTING PREROUTING -300"],
    ),
    // Not for us: other links, marked packets, loose, not dropped, unreachable.
    (
        "nft 'table ip t { chain c { type filter hook prerouting priority raw; \
         iifname \"cali*\" fib saddr . iif oif missing drop; \
         iifname { eth0, eth1 } fib saddr . iif oif missing drop; \
         iif lo fib saddr . iif oif missing drop; \
         meta l4proto udp fib saddr . iif oif missing drop; }; }'",
        &[],
    ),
    (
        "nft 'table ip t { chain r { fib saddr . iif oif missing drop; }; \
         chain c { type filter hook prerouting priority raw; \
         meta mark & 0x40000 == 0x40000 jump r; iifname \"cali*\" goto r; }; }'",
        &[],
    ),
    (
        "nft 'table ip t { chain c { type filter hook prerouting priority raw; \
         fib saddr oif missing drop; fib daddr . iif type != local accept; \
         fib saddr . iif oif missing counter; fib saddr . iif oif exists accept; }; }'",
        &[],
    ),
    (
        "nft 'table ip t { flags dormant; chain c { type filter hook prerouting priority raw; \
         fib saddr . iif oif missing drop; }; }'",
        &[],
    ),
    (
        "nft 'table ip t { chain c { type filter hook input priority 0; \
         fib saddr . iif oif missing drop; }; }'",
        &[],
    ),
    (
        "iptables-nft -t raw -A PREROUTING -m rpfilter --invert --loose -j DROP",
        &[],
    ),
    (
        "iptables-nft -t raw -A PREROUTING -i cali+ -m rpfilter --invert -j DROP",
        &[],
    ),
    (
        "iptables-nft -t raw -A PREROUTING -m mark --mark 0x40000/0x40000 \
         -m rpfilter --validmark --invert -j DROP",
        &[],
    ),
];

#[test]
fn reverse_path_checks_that_our_traffic_meets_are_found() {
    in_own_netns(|lab| {
        for (command, expected) in CHECKS {
            lab.run("nft flush ruleset");
            lab.run(command);
            let found = nft::reverse_path_checks(&mut lab.client, &lab.settings).unwrap();
            let words = found.iter().map(|check| {
                let nft::foreign::PathCheck {
                    family,
                    table,
                    base,
                    chain,
                    priority,
                } = check;
                format!("{family} {table} {base} {chain} {priority}")
            });
            assert_eq!(Vec::from_iter(words), expected, "{command}");
        }
    });
}

/// Rules of the old iptables, and whether they are a check that we meet.
const LEGACY: [(&str, bool); 12] = [
    ("-t raw -A PREROUTING -m rpfilter --invert -j DROP", true),
    ("-t mangle -A PREROUTING -m rpfilter --invert -j DROP", true),
    (
        "-t raw -A PREROUTING -i sl-+ -m rpfilter --invert -j DROP",
        true,
    ),
    (
        "-t raw -A PREROUTING ! -i lo -m rpfilter --invert -j DROP",
        true,
    ),
    ("-t raw -A PREROUTING -m rpfilter --invert -j UNUSED", true),
    (
        "-t raw -A PREROUTING -i cali+ -m rpfilter --invert -j DROP",
        false,
    ),
    (
        "-t raw -A PREROUTING ! -i sl-out -m rpfilter --invert -j DROP",
        false,
    ),
    (
        "-t raw -A PREROUTING -m rpfilter --invert --loose -j DROP",
        false,
    ),
    ("-t raw -A PREROUTING -m rpfilter -j ACCEPT", false),
    ("-t raw -A PREROUTING -m rpfilter --invert", false),
    (
        "-t raw -A PREROUTING -m mark --mark 1 -m rpfilter --invert -j DROP",
        false,
    ),
    ("-t raw -A UNUSED -m rpfilter --invert -j DROP", false),
];

#[test]
fn checks_of_the_old_iptables_are_found_and_no_table_is_made() {
    in_own_netns(|lab| {
        let tables =
            "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names";
        assert_eq!(lab.run(tables), "");
        assert_eq!(legacy::reverse_path_checks("sl-out").unwrap(), []);
        assert_eq!(lab.run(tables), "", "looking made a table");
        for command in ["iptables-legacy", "ip6tables-legacy"] {
            lab.run(&format!(
                "{command} -t raw -N UNUSED; {command} -t mangle -N UNUSED"
            ));
            for (rule, expected) in LEGACY {
                lab.run(&format!("{command} {rule}"));
                let found = legacy::reverse_path_checks("sl-out").unwrap();
                assert_eq!(!found.is_empty(), expected, "{command} {rule}: {found:?}");
                assert!(found.iter().all(|check| check.command == command));
                lab.run(&format!("{command} {}", rule.replace("-A", "-D")));
            }
            // Through a chain of one's own, behind other rules.
            lab.run(&format!(
                "{command} -t raw -A UNUSED -p udp -j RETURN && \
                 {command} -t raw -A UNUSED -m rpfilter --invert -j DROP && \
                 {command} -t raw -A PREROUTING -i cali+ -j UNUSED"
            ));
            assert_eq!(legacy::reverse_path_checks("sl-out").unwrap(), []);
            lab.run(&format!("{command} -t raw -A PREROUTING -p tcp -j UNUSED"));
            let found = legacy::reverse_path_checks("sl-out").unwrap();
            assert_eq!(found.len(), 1, "{command}");
            lab.run(&format!("{command} -t raw -F"));
        }
    });
}
