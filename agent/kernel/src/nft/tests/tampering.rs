use super::{
    Facts, at_proxy,
    kernel::node,
    lab::{Lab, in_own_netns},
};
use crate::nft::{self, NftError, apply, plan, proxy_ruleset};

/// What somebody might do to the node's rules; each a shell command.
const ON_THE_NODE: [&str; 30] = [
    "nft flush ruleset",
    "nft delete table netdev sluice",
    "nft delete table inet sluice",
    "nft 'add table netdev sluice { flags dormant; }'",
    "nft flush chain netdev sluice from_pod",
    "nft flush chain inet sluice postrouting",
    "nft add rule netdev sluice from_pod accept",
    "nft insert rule netdev sluice from_pod accept",
    "nft insert rule netdev sluice from_pod counter",
    "nft insert rule netdev sluice in-va1 'meta l4proto tcp accept comment \"hello\"'",
    "nft insert rule netdev sluice from_pod 'ip daddr { 1.1.1.1, 2.2.2.2 } accept'",
    "nft insert rule netdev sluice from_pod 'ip protocol tcp jump { accept; }'",
    "nft delete rule netdev sluice from_pod handle $(nft -a list chain netdev sluice from_pod | \
     sed -n 's/.*drop # handle //p')",
    // The last rule becomes the first.
    "nft delete rule netdev sluice from_pod handle $(nft -a list chain netdev sluice from_pod | \
     sed -n 's/.*drop # handle //p'); nft insert rule netdev sluice from_pod drop",
    // The same match with another verdict.
    "nft replace rule netdev sluice from_pod handle $(nft -a list chain netdev sluice from_pod | \
     sed -n 's/.*ip fwd.* # handle //p') 'meta protocol ip drop'",
    "nft delete element netdev sluice cap4 '{ 10.91.1.2 }'",
    "nft add element netdev sluice cap4 '{ 10.91.1.77 }'",
    "nft add element netdev sluice hostports '{ 80 }'",
    "nft flush set netdev sluice local4",
    "nft 'delete element netdev sluice dev4 { 10.91.1.2 }; \
     add element netdev sluice dev4 { 10.91.1.2 : \"lo\" }'",
    "nft 'delete element netdev sluice cap4 { 10.91.1.2 }; \
     add element netdev sluice cap4 { 10.91.1.2 comment \"mine\" }'",
    "nft delete chain netdev sluice in-va1",
    "nft 'chain netdev sluice in-va1 { policy drop; }'",
    "nft 'delete chain netdev sluice in-va1; add chain netdev sluice in-va1 \
     { type filter hook ingress device va1 priority 5; }; \
     add rule netdev sluice in-va1 meta l4proto tcp jump from_pod'",
    "nft 'delete chain netdev sluice from_proxy; add chain netdev sluice from_proxy \
     { type filter hook ingress device sl-out priority 0; }; \
     add rule netdev sluice from_proxy meta l4proto tcp jump from_proxy_tcp'",
    "nft 'add chain netdev sluice extra; add rule netdev sluice extra jump from_pod'",
    "nft 'add chain netdev sluice early { type filter hook ingress device va1 priority -5; }; \
     add rule netdev sluice early accept'",
    "nft 'add chain netdev sluice extra; add map netdev sluice ways \
     { type ipv4_addr : verdict; elements = { 1.2.3.4 : jump extra } }; \
     insert rule netdev sluice from_pod ip daddr vmap @ways'",
    // A set of another kind under the name of ours.
    "nft 'flush chain netdev sluice from_pod; delete set netdev sluice hostports; \
     add set netdev sluice hostports { type inet_service; flags interval; }'",
    "nft 'add set netdev sluice other { type ipv4_addr; elements = { 1.1.1.1 } }'",
];

const AT_THE_PROXY: [&str; 14] = [
    "nft delete table inet sluice",
    "nft flush chain inet sluice steered",
    "nft insert rule inet sluice steered accept",
    "nft 'chain inet sluice prerouting { policy drop; }'",
    "nft delete table ip sluice",
    "nft 'add table ip6 sluice { flags dormant; }'",
    "nft flush chain ip6 sluice output",
    "nft flush chain ip sluice tell",
    "nft insert rule ip sluice lost return",
    "nft 'flush chain ip sluice tell; add rule ip sluice tell dup to 169.254.0.1'",
    "nft 'flush chain ip sluice tell; add rule ip sluice tell dup to 169.254.0.1 device lo'",
    "nft 'flush chain ip6 sluice output; add rule ip6 sluice output tcp flags set rst'",
    "nft 'flush chain ip sluice output; add rule ip sluice output ip dscp set 1'",
    "nft 'delete chain ip sluice output; add chain ip sluice output \
     { type filter hook postrouting priority -150; }'",
];

fn seen_and_mended(lab: &mut Lab, wanted: &nft::Ruleset, command: &str) {
    lab.reach(wanted);
    lab.run(command);
    let observed = lab.observe();
    assert_ne!(observed, *wanted, "{command}");
    let changes = plan(wanted, &observed);
    assert!(!changes.is_empty(), "{command}");
    if let Err(error) = apply(&mut lab.client, &changes) {
        panic!("{command}: {error}\n{changes:#?}");
    }
    assert_eq!(lab.observe(), *wanted, "{command}");
}

#[test]
fn tampering_on_the_node_is_seen_and_mended() {
    in_own_netns(|lab| {
        let wanted = node(lab).ruleset();
        for command in ON_THE_NODE {
            seen_and_mended(lab, &wanted, command);
        }
    });
}

#[test]
fn tampering_at_the_proxy_is_seen_and_mended() {
    in_own_netns(|lab| {
        let wanted = proxy_ruleset(&lab.settings, at_proxy(lab.link("sl-out")));
        for command in AT_THE_PROXY {
            seen_and_mended(lab, &wanted, command);
        }
    });
}

#[test]
fn repairs_are_told_in_words() {
    in_own_netns(|lab| {
        let facts: Facts = node(lab);
        let wanted = facts.ruleset();
        lab.reach(&wanted);
        lab.run("nft flush chain netdev sluice in-va1");
        lab.run("nft delete element netdev sluice cap6 '{ fd00:91:1::3 }'");
        lab.run("nft add element netdev sluice hostports '{ 80 }'");
        let changes = plan(&wanted, &lab.observe());
        let words = changes.iter().map(|change| {
            let pod = change.pod(&facts.pods).map(ToString::to_string);
            format!("{change} ({})\n", pod.unwrap_or_default())
        });
        insta::assert_snapshot!(words.collect::<String>(), @r"
        delete element netdev sluice hostports 80 ()
        add element netdev sluice cap6 fd00:91:1::3 (va2)
        add rule netdev sluice in-va1 meta l4proto tcp jump from_pod (va1)
        ");
    });
}

#[test]
fn a_table_of_somebody_else_is_never_touched() {
    in_own_netns(|lab| {
        lab.run("nft 'table inet sluice { comment \"mine\"; chain a { accept; }; }'");
        let before = lab.nft("list ruleset");
        assert!(lab.observe().tables.is_empty());
        let wanted = node(lab).ruleset();
        let changes = plan(&wanted, &lab.observe());
        let Err(NftError::Denied(denied)) = apply(&mut lab.client, &changes) else {
            panic!("our rules were put into somebody else's table");
        };
        let denied = denied.first().unwrap();
        assert_eq!(denied.change.describe(), "add table inet sluice");
        assert_eq!(lab.nft("list ruleset"), before);
        let nothing = plan(&nft::Ruleset::default(), &lab.observe());
        assert_eq!(nothing, []);

        let claimed = nft::claimed_tables(&mut lab.client, &lab.settings).unwrap();
        let [claimed] = claimed.as_slice() else {
            panic!("{claimed:?}");
        };
        assert_eq!(claimed.comment.as_deref(), Some("mine"));
        assert_eq!(
            (claimed.family, claimed.table.as_str()),
            (nft::model::Family::Inet, "sluice")
        );
    });
}
