//! What the node cannot carry is found before anything is changed.

use std::time::Duration;

use sluice_tests::lab::{Lab, folder::PodDocument, observe::Snapshot, pod::PodSpec, wait};

/// Something that forbids capture: what sets it up, what takes it away, in the
/// node's or the proxy's namespace, and a word the refusal must say.
struct Obstacle {
    at: &'static str,
    up: &'static str,
    down: &'static str,
    word: &'static str,
}

const OBSTACLES: [Obstacle; 13] = [
    Obstacle {
        at: "na",
        up: "ip link add kube-ipvs0 type bridge; ip addr add 10.96.0.10/32 dev kube-ipvs0",
        down: "ip link del kube-ipvs0",
        word: "kube-ipvs0",
    },
    Obstacle {
        at: "na",
        up: "iptables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
        down: "iptables-nft -t raw -F; nft delete table ip raw",
        word: "rpfilter",
    },
    Obstacle {
        at: "na",
        up: "ip6tables-nft -t raw -A PREROUTING -m rpfilter --invert -j DROP",
        down: "ip6tables-nft -t raw -F; nft delete table ip6 raw",
        word: "rpfilter",
    },
    Obstacle {
        at: "na",
        up: "iptables-legacy -t raw -A PREROUTING -m rpfilter --invert -j DROP",
        down: "iptables-legacy -t raw -F",
        word: "rpfilter",
    },
    Obstacle {
        at: "na",
        up: "nft 'table inet fw { chain pre { type filter hook prerouting priority raw; meta nfproto ipv6 fib saddr . iif oif missing drop; }; }'",
        down: "nft delete table inet fw",
        word: "fw",
    },
    Obstacle {
        at: "na",
        up: "ip route add 10.200.0.0/16 via 192.168.77.2 table 8301",
        down: "ip route flush table 8301",
        word: "8301",
    },
    Obstacle {
        at: "na",
        up: "ip rule add pref 105 from 10.200.0.0/16 lookup main",
        down: "ip rule del pref 105",
        word: "105",
    },
    Obstacle {
        at: "na",
        up: "ip -6 rule add pref 104 from fd00:200::/64 lookup main",
        down: "ip -6 rule del pref 104",
        word: "104",
    },
    Obstacle {
        at: "na",
        up: "nft 'table netdev sluice { set theirs { type ipv4_addr; }; }'",
        down: "nft delete table netdev sluice",
        word: "sluice",
    },
    Obstacle {
        at: "na",
        up: "ip link add sl-in type bridge",
        down: "ip link del sl-in",
        word: "sl-in",
    },
    Obstacle {
        at: "za",
        up: "ip rule add pref 50 fwmark 0x100/0xf00 lookup 77",
        down: "ip rule del pref 50",
        word: "mark",
    },
    Obstacle {
        at: "za",
        up: "ip route add 10.200.0.0/16 dev eth0 table 8302",
        down: "ip route flush table 8302",
        word: "8302",
    },
    Obstacle {
        at: "za",
        up: "ip -6 rule add pref 111 from fd00:200::/64 lookup main",
        down: "ip -6 rule del pref 111",
        word: "111",
    },
];

#[test]
fn obstacles_are_refused_with_a_remedy_and_nothing_is_changed() {
    let mut lab = Lab::new(1);
    for pod in lab.table_pods().into_iter().filter(|pod| pod.node == "na") {
        lab.pod_before(pod);
    }
    lab.pod_before(PodSpec::proxy("za", "na"));
    lab.start_proxy("na");
    lab.enrol();
    lab.start_controller();
    let flags = lab.proxy_flags("na");
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut problems = Vec::new();
    for obstacle in &OBSTACLES {
        lab.ns(obstacle.at).sh(obstacle.up);
        let look = |lab: &Lab| ["na", "za"].map(|name| Snapshot::configuration(lab.ns(name)));
        let before = look(&lab);
        lab.start_agent("na", &flags);
        let found = wait::value("a finding", wait::LONG, || {
            let status = lab.agent("na").status()?;
            if status.findings.is_empty() {
                return Err(format!("{status:?}"));
            }
            Ok(status.findings)
        });
        let said = found.iter().any(|finding| {
            let all = format!("{} {}", finding.check, finding.evidence);
            all.contains(obstacle.word) && !finding.remedy.is_empty()
        });
        if !said {
            problems.push(format!("{}: {found:?}", obstacle.up));
        }
        std::thread::sleep(Duration::from_millis(700));
        for (was, is) in before.iter().zip(look(&lab)) {
            for difference in was.differences(&is) {
                problems.push(format!("{}: changed: {difference}", obstacle.up));
            }
        }
        // Out of the way, it goes on: by itself with the next full look, which
        // an operator can ask for.
        lab.ns(obstacle.at).sh(obstacle.down);
        lab.agent("na").resync().expect("a full look");
        lab.wait_captured(&["a1", "a2"]);
        lab.agent_mut("na").stop();
        lab.cleanup_with_proxy("na");
        lab.forget_agent("na");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_pod_on_a_bridge_is_refused_and_the_others_are_captured() {
    let lab = Lab::one_node();
    // Such as the reference bridge plugin makes it.
    let pod = lab.netns("bridged");
    lab.ns("na").sh(&format!(
        "ip link add cni0 type bridge
         ip link set cni0 up
         ip addr add 10.92.0.1/24 dev cni0
         ip link add vbr0 type veth peer name eth0 netns {}
         ip link set vbr0 master cni0 up",
        pod.name()
    ));
    pod.ip("addr add 10.92.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.92.0.1");
    // The agent takes note of the node's new address.
    std::thread::sleep(Duration::from_secs(1));
    let spec = PodSpec::new("bridged", "na", 77, "shop");
    let before = Snapshot::configuration(lab.ns("na"));
    lab.folder.pod(&PodDocument {
        addresses: vec!["10.92.0.2".parse().unwrap()],
        ..spec.document(&[])
    });
    let status = wait::value("the refusal", wait::LONG, || {
        let status = lab.agent("na").pod("bridged")?.status.ok_or("no status")?;
        if status.message.contains("bridge") {
            return Ok(status);
        }
        Err(format!("{status:?}"))
    });
    assert!(!status.steered, "{status:?}");
    assert!(
        status.message.contains("cni0") || status.message.contains("vbr0"),
        "{status:?}"
    );
    before.assert_same(&Snapshot::configuration(lab.ns("na")), "after the refusal");
    lab.wait_captured(&["a1", "a2"]);
    assert!(lab.hello("a1", lab.pod("u1").ip4, 8080, "x").is_ok());
    lab.folder.remove_pod(&spec.document(&[]));
}
