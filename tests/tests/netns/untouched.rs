//! What is not ours stays as it is: other protocols, other people's rules, the
//! pods' own namespaces; and what is ours goes without a trace.

use sluice_tests::lab::{
    Lab,
    client::Call,
    knobs::{Forward, Knobs},
    kube_proxy::Form,
    observe::{Snapshot, ping},
    pod::PodSpec,
    wait,
};

#[test]
fn only_tcp_is_taken() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    for (a1, b1) in [(lab.v4().a1, lab.v4().b1), (lab.v6().a1, lab.v6().b1)] {
        let there = Call::to(b1, 8080).datagram(lab.ns("a1"));
        assert_eq!(there, Ok(format!("b1 saw {a1}")));
        let back = Call::to(a1, 8080).datagram(lab.ns("b1"));
        assert_eq!(back, Ok(format!("a1 saw {b1}")));
        assert!(ping(lab.ns("a1"), b1), "ping from a1 to {b1}");
        assert!(ping(lab.ns("na"), a1), "ping from the node to {a1}");
    }
    // With the proxy gone nothing changes for them.
    lab.proxy_mut("na").kill();
    assert!(Call::to(lab.v4().b1, 8080).datagram(lab.ns("a1")).is_ok());
    assert!(ping(lab.ns("a1"), lab.v6().b1));
}

#[test]
fn link_local_destinations_are_not_taken() {
    let lab = Lab::meshed(Form::Iptables, Knobs::default());
    // Such as a cloud's metadata service, which tells callers by their address.
    let metadata: std::net::IpAddr = [169, 254, 169, 254].into();
    lab.ns("ext").ip("addr add 169.254.169.254/32 dev lo");
    lab.ns("na")
        .ip("route add 169.254.169.254/32 via 192.168.77.2");
    let mark = lab.proxy("na").mark();
    let (a1, uplink) = (lab.v4().a1, lab.v4().uplink);
    let answer = Call::to(metadata, 8080).hello(lab.ns("a1"), "metadata");
    assert_eq!(answer, Ok(format!("ext saw {uplink}")));
    let seen = lab
        .proxy("na")
        .saw_outbound(mark, a1, (metadata, 8080).into(), false);
    assert!(!seen, "it went through the proxy");
}

/// A node as other people have set it up, with the proxy's pod there already.
fn crowded_node() -> Lab {
    let mut lab = Lab::new(2);
    for pod in lab.table_pods() {
        lab.pod_before(pod);
    }
    for node in ["na", "nb"] {
        let proxy = Lab::proxy_name(node);
        lab.pod_before(PodSpec::proxy(&proxy, node));
        Knobs {
            rp_filter: 1,
            forward: Forward::Kube,
            host_firewall: true,
        }
        .apply(lab.ns(node));
    }
    lab.table_surroundings(Form::Iptables);
    // Marks, rules, routes, sets and queues of somebody else.
    lab.ns("na").nft(
        "table inet elsewhere {
 set seen { type ipv4_addr; elements = { 10.1.2.3 } }
 chain marks { type filter hook prerouting priority mangle; ip saddr @seen meta mark set 0xf00
 }
}",
    );
    lab.ns("na")
        .sh("ip rule add pref 1000 fwmark 0x200/0xf00 lookup 2005
         ip route add 10.200.0.0/16 via 172.31.9.2 table 2005
         tc qdisc add dev wire clsact
         ip -6 rule add pref 2000 from fd00:77::/64 lookup main");
    lab.enrol();
    lab
}

#[test]
fn others_are_left_alone_and_clean_up_is_byte_for_byte() {
    let mut lab = crowded_node();
    let look = |lab: &Lab| -> Vec<(&'static str, Snapshot)> {
        ["na", "nb", "za", "zb"]
            .into_iter()
            .map(|name| (name, Snapshot::configuration(lab.ns(name))))
            .collect()
    };
    let pods = |lab: &Lab| -> Vec<(&'static str, Snapshot)> {
        ["a1", "a2", "u1", "b1"]
            .into_iter()
            .map(|name| (name, Snapshot::take(lab.ns(name))))
            .collect()
    };
    let (before, pods_before) = (look(&lab), pods(&lab));

    lab.start_controller();
    for node in ["na", "nb"] {
        lab.start_proxy(node);
        let flags = lab.proxy_flags(node);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        lab.start_agent(node, &flags);
    }
    lab.wait_captured(&["a1", "a2", "b1"]);
    let row = &lab.v4().rows()[0];
    assert_eq!(row.problem(&lab), None);

    // Everything that was there is there, in its order; what is new is ours.
    for ((name, was), (_, is)) in before.iter().zip(look(&lab)) {
        for difference in was.differences(&is) {
            assert!(difference.contains(": +"), "{name}: {difference}");
            let sysctl = difference.starts_with("sysctls");
            assert!(
                !sysctl || difference.contains("/sl-"),
                "{name}: {difference}"
            );
        }
        let ours = is.section("nft");
        let node = name.starts_with('n');
        assert!(!(node && ours.contains("sluice") && table_sets_mark(ours)));
    }
    for ((name, was), (_, is)) in pods_before.iter().zip(pods(&lab)) {
        was.assert_same(&is, &format!("{name} while captured"));
    }

    for node in ["na", "nb"] {
        lab.agent_mut(node).stop();
        lab.cleanup_with_proxy(node);
    }
    for ((name, was), (_, is)) in before.iter().zip(look(&lab)) {
        was.assert_same(&is, &format!("{name} after clean-up"));
    }
    for ((name, was), (_, is)) in pods_before.iter().zip(pods(&lab)) {
        was.assert_same(&is, &format!("{name} after clean-up"));
    }
}

/// True when a table of ours sets a mark: in the node's namespace none may.
fn table_sets_mark(ruleset: &str) -> bool {
    ruleset
        .split("\ntable ")
        .filter(|table| table.contains(" sluice {"))
        .any(|table| table.contains("mark set"))
}

#[test]
fn releasing_every_pod_leaves_nothing_of_a_pod() {
    let lab = Lab::one_node();
    let of_pods = |lab: &Lab| {
        let all = Snapshot::configuration(lab.ns("na"));
        ["routes4", "routes6", "nft"].map(|section| {
            all.section(section)
                .lines()
                .filter(|line| line.contains("8301") || line.contains("10.91.1.2"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    assert!(of_pods(&lab).iter().any(|lines| !lines.is_empty()));
    lab.folder.namespace("shop", false);
    wait::value("the pods' routes to be gone", wait::LONG, || {
        let [routes4, routes6, nft] = of_pods(&lab);
        let left = [routes4, routes6, nft].concat();
        let left: Vec<_> = left
            .iter()
            .filter(|line| !line.contains(lab.pod("a1").link.as_str()) || line.contains("8301"))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}
