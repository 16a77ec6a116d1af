//! Somebody changes or removes an object of ours: it is noticed and undone.

use serde_json::Value;
use sluice_tests::lab::{Lab, netns::Netns, observe::Snapshot, wait};

/// Does something to a namespace and expects it to be undone. How soon that is,
/// `make bench` measures.
#[track_caller]
fn undone(lab: &Lab, name: &str, script: &str) {
    let netns = lab.ns(name);
    let look = || Snapshot::configuration(netns).without_indexes();
    let before = look();
    netns.sh(script);
    // A repair may pass through states of its own; what counts is the end.
    wait::value(
        &format!("{name}: {script}: to be undone"),
        wait::LONG,
        || {
            let left = before.differences(&look());
            left.is_empty().then_some(()).ok_or_else(|| left.join("\n"))
        },
    );
}

/// Traffic in both directions goes where it did.
#[track_caller]
fn works(lab: &Lab) {
    let (v4, v6) = (lab.pod("u1").ip4, lab.pod("a1").ip6);
    let out = lab.hello("a1", v4, 8080, "after");
    let back = lab.hello("u1", v6, 8080, "after");
    assert!(out.is_ok() && back.is_ok(), "{out:?} {back:?}");
}

/// Objects of one kind in our tables of a namespace, as (family, table, object).
fn nft_objects(netns: &Netns, kind: &str) -> Vec<(String, String, Value)> {
    let text = netns.run("nft", &["-j", "list", "ruleset"]);
    let ruleset: Value = serde_json::from_str(&text).expect("nft prints JSON");
    ruleset["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.get(kind))
        .filter(|object| object["table"] == "sluice")
        .map(|object| {
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            (text("family"), text("table"), object.clone())
        })
        .collect()
}

#[test]
fn nft_tables_chains_rules_and_elements() {
    let lab = Lab::one_node();
    for name in ["na", "za"] {
        let netns = lab.ns(name);
        for kind in ["set", "map"] {
            for (family, table, set) in nft_objects(netns, kind) {
                let set = set["name"].as_str().unwrap().to_owned();
                undone(
                    &lab,
                    name,
                    &format!("nft flush {kind} {family} {table} {set}"),
                );
            }
        }
        for (family, table, chain) in nft_objects(netns, "chain") {
            let chain = chain["name"].as_str().unwrap().to_owned();
            undone(
                &lab,
                name,
                &format!("nft flush chain {family} {table} {chain}"),
            );
        }
        // The last rule of each chain, and one too many at its head.
        for (family, table, rule) in nft_objects(netns, "rule").into_iter().step_by(3) {
            let (chain, handle) = (rule["chain"].as_str().unwrap(), &rule["handle"]);
            // An earlier repair may have made the rule anew, under another handle.
            let gone = format!(
                "nft delete rule {family} {table} {chain} handle {handle} || nft flush chain {family} {table} {chain}"
            );
            undone(&lab, name, &gone);
            undone(
                &lab,
                name,
                &format!("nft insert rule {family} {table} {chain} counter accept"),
            );
        }
        for family in ["netdev", "inet"] {
            if nft_objects(netns, "chain")
                .iter()
                .any(|(f, _, _)| f == family)
            {
                undone(&lab, name, &format!("nft delete table {family} sluice"));
            }
        }
    }
    works(&lab);
}

#[test]
fn elements_are_taken_out_and_put_in() {
    let lab = Lab::one_node();
    let (a1, link) = (lab.pod("a1"), &lab.pod("a1").link);
    let text = lab
        .ns("na")
        .run("nft", &["list", "table", "netdev", "sluice"]);
    assert!(
        text.contains(link) && text.contains(&a1.ip4.to_string()),
        "{text}"
    );
    for kind in ["set", "map"] {
        for (family, table, set) in nft_objects(lab.ns("na"), kind) {
            let name = set["name"].as_str().unwrap();
            let element = match (set["type"].as_str().unwrap_or_default(), kind) {
                ("ipv4_addr", "set") => "203.0.113.9".to_owned(),
                ("ipv6_addr", "set") => "2001:db8::9".to_owned(),
                ("inet_service", _) => "4711".to_owned(),
                ("ipv4_addr", _) => format!("203.0.113.9 : \"{link}\""),
                ("ipv6_addr", _) => format!("2001:db8::9 : \"{link}\""),
                _ => continue,
            };
            let add = format!("nft add element {family} {table} {name} '{{ {element} }}'");
            undone(&lab, "na", &add);
        }
    }
    works(&lab);
}

#[test]
fn routes_and_rules() {
    let lab = Lab::one_node();
    for (name, tables) in [("na", ["8301"].as_slice()), ("za", &["8302", "8303"])] {
        for family in ["-4", "-6"] {
            for table in tables {
                let routes = lab
                    .ns(name)
                    .run("ip", &[family, "route", "show", "table", table]);
                assert!(
                    !routes.is_empty(),
                    "{name} has no {family} routes in {table}"
                );
                for route in routes.lines() {
                    // Flags are printed and not taken; the rest names the route.
                    let route = route
                        .replace(" linkdown", "")
                        .replace(" dead", "")
                        .replace(" pref medium", "")
                        .replace(" error 4294967183", "");
                    undone(
                        &lab,
                        name,
                        &format!("ip {family} route del {route} table {table}"),
                    );
                }
                undone(
                    &lab,
                    name,
                    &format!("ip {family} route flush table {table}"),
                );
            }
            let rules = lab.ns(name).run("ip", &[family, "rule"]);
            for rule in rules.lines() {
                let priority = rule.split(':').next().unwrap();
                if ["0", "32766", "32767"].contains(&priority) {
                    continue;
                }
                undone(&lab, name, &format!("ip {family} rule del pref {priority}"));
            }
        }
    }
    // Changed, not removed.
    let a1 = lab.pod("a1").ip4;
    undone(
        &lab,
        "na",
        &format!(
            "ip route replace {a1}/32 dev {} table 8301 proto 83",
            lab.pod("u1").link
        ),
    );
    works(&lab);
}

#[test]
fn links_addresses_neighbours_and_sysctls() {
    let lab = Lab::one_node();
    for name in ["na", "za"] {
        for link in ["sl-in", "sl-out"] {
            undone(&lab, name, &format!("ip link set {link} down"));
            undone(&lab, name, &format!("ip addr flush dev {link}"));
            undone(
                &lab,
                name,
                &format!("ip neigh flush dev {link} nud permanent"),
            );
            undone(&lab, name, &format!("ip link set {link} mtu 1280"));
            undone(&lab, name, &format!("ip link set {link} arp off"));
            undone(
                &lab,
                name,
                &format!("ip addr add 203.0.113.7/32 dev {link}"),
            );
            for (key, value) in [
                ("ipv4", "rp_filter=1"),
                ("ipv6", "accept_ra=1"),
                ("ipv6", "disable_ipv6=1"),
            ] {
                undone(
                    &lab,
                    name,
                    &format!("sysctl -qw net.{key}.conf.{link}.{value}"),
                );
            }
            undone(&lab, name, &format!("ip link del {link}"));
        }
    }
    undone(
        &lab,
        "na",
        "ip link set sl-in down; ip link set sl-in name other; ip link set other up",
    );
    works(&lab);
}

#[test]
fn tampering_is_counted_and_reported() {
    let lab = Lab::one_node();
    let before = lab.agent("na").status().unwrap().repairs;
    undone(&lab, "na", "nft delete table netdev sluice");
    let after = wait::value("a repair to be counted", wait::LONG, || {
        let repairs = lab.agent("na").status()?.repairs;
        (repairs > before)
            .then_some(repairs)
            .ok_or_else(|| "not yet".into())
    });
    assert!(after > before);
    let metrics = lab.metrics("na");
    assert!(
        metrics
            .lines()
            .any(|line| line.contains("repairs") && line.contains("nft") && !line.ends_with(" 0")),
        "{metrics}"
    );
}
