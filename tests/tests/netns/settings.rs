//! Every name and number can be another one, beside a neighbour who uses ours.

use sluice_tests::lab::{Lab, observe::Snapshot};

const OTHERS: [&str; 28] = [
    "--instance",
    "second",
    "--link-in",
    "wet-in",
    "--link-out",
    "wet-out",
    "--nft-table",
    "wet",
    "--route-protocol",
    "84",
    "--pod-table",
    "9301",
    "--local-table",
    "9302",
    "--return-table",
    "9303",
    "--node-priorities",
    "204,205,206",
    "--proxy-priorities",
    "200,210,211,212",
    "--mark",
    "0x2000",
    "--mark-mask",
    "0xf000",
    "--next-hop",
    "169.254.7.7",
    "--hairpin-v4",
    "192.0.0.10",
];

#[test]
fn every_name_and_number_can_be_another() {
    let mut lab = Lab::one_node_with(&OTHERS, Vec::new());
    assert!(lab.through_proxy("a1", "u1"));
    assert!(lab.hello("u1", lab.pod("a1").ip6, 8080, "in").is_ok());
    for name in ["na", "za"] {
        let snapshot = Snapshot::configuration(lab.ns(name));
        for section in ["links", "nft", "rules4", "rules6", "routes4", "routes6"] {
            let text = snapshot.section(section);
            for usual in [
                "sl-in",
                "sl-out",
                "table inet sluice",
                "830",
                "proto 83",
                "0x111",
            ] {
                assert!(
                    !text.contains(usual),
                    "{name} {section}: {usual} in\n{text}"
                );
            }
        }
    }
    // Somebody else with our usual names is not in the way, and stays.
    lab.ns("na").sh("ip link add sl-in type bridge
         ip rule add pref 105 from 10.200.0.0/16 lookup main
         ip route add 10.200.0.0/16 via 192.168.77.2 table 8301
         nft 'table netdev sluice { set theirs { type ipv4_addr; }; }'");
    let before = Snapshot::configuration(lab.ns("na"));
    lab.agent_mut("na").stop();
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a2"]);
    assert!(lab.through_proxy("a1", "u1"));
    before.assert_same(&Snapshot::configuration(lab.ns("na")), "beside a neighbour");
}
