use super::*;
use crate::state::{Route, Rule, Target};

fn namespace(side: Side) -> Namespace {
    Namespace {
        side,
        links: Vec::new(),
        routes: Vec::new(),
        rules: Vec::new(),
        claimed: Vec::new(),
    }
}

fn judged<'a>(settings: &'a Settings, wanted: &'a Node) -> Judged<'a> {
    Judged {
        settings,
        wanted,
        node: namespace(Side::Node),
        proxy: Some(namespace(Side::Proxy)),
        addresses: Vec::new(),
        ipvs_services: 0,
        path_checks: Vec::new(),
        forwarding: [true, true],
        ephemeral: (32768, 60999),
        reserved: None,
    }
}

fn checks(judged: &Judged<'_>) -> Vec<&'static str> {
    let refusals = judged.refusals();
    refusals.iter().map(|refusal| refusal.check).collect()
}

fn rule(priority: u32, action: Action, mark: Option<(u32, u32)>, protocol: u8) -> RuleFact {
    RuleFact {
        rule: Rule {
            family: Family::V4,
            priority,
            source: None,
            iif: None,
            mark,
            tcp: false,
            action,
            odd: None,
        },
        protocol,
    }
}

#[test]
fn an_ordinary_node_is_fine() {
    let (settings, wanted) = (Settings::default(), Node::default());
    assert!(checks(&judged(&settings, &wanted)).is_empty());
}

#[test]
fn a_number_of_ours_in_other_hands_is_not_taken_for_ours() {
    let (settings, wanted) = (Settings::default(), Node::default());
    let mut judged = judged(&settings, &wanted);
    judged.node.rules = vec![
        rule(105, Action::Lookup(8301), None, 83),
        rule(105, Action::Lookup(9), None, 0),
        rule(7, Action::Nop, None, 83),
    ];
    judged.node.routes = vec![RouteFact {
        route: Route {
            table: 254,
            destination: ("10.0.0.0".parse().unwrap(), 8),
            metric: 0,
            target: Target::Unreachable,
            odd: None,
        },
        protocol: 83,
        link: None,
        direct: false,
    }];
    assert_eq!(checks(&judged), ["protocol", "rule-priority"]);
}

#[test]
fn marks_collide_by_their_bits() {
    let (settings, wanted) = (Settings::default(), Node::default());
    let mut judged = judged(&settings, &wanted);
    let marked = |mask| rule(7, Action::Lookup(9), Some((mask, mask)), 0);
    judged.node.rules = vec![marked(0x100)];
    assert!(checks(&judged).is_empty(), "no marks of ours on the node");
    judged.proxy.as_mut().unwrap().rules = vec![marked(0x4000)];
    assert!(checks(&judged).is_empty());
    judged.proxy.as_mut().unwrap().rules = vec![marked(0x8001)];
    assert_eq!(checks(&judged), ["mark"]);
}

#[test]
fn ports_collide_unless_they_are_reserved() {
    let settings = Settings::default();
    let wanted = Node {
        host_ports: BTreeSet::from([40000, 80]),
        ..Node::default()
    };
    let mut judged = judged(&settings, &wanted);
    let refusals = judged.refusals();
    assert_eq!(refusals.len(), 1);
    assert!(refusals[0].evidence.ends_with(": 40000"), "{refusals:?}");
    judged.reserved = Some("1,39999-40001".into());
    assert!(checks(&judged).is_empty());
    judged.ephemeral = (31000, 32000);
    assert_eq!(checks(&judged), ["ports"]);
}

#[test]
fn texts_say_what_to_do() {
    let (settings, wanted) = (Settings::default(), Node::default());
    let mut judged = judged(&settings, &wanted);
    judged.ipvs_services = 3;
    judged.path_checks = vec!["nft chain inet firewalld raw".into()];
    let lines = judged.refusals().into_iter().map(|refusal| {
        format!(
            "{}: {}\n  {}",
            refusal.check, refusal.evidence, refusal.remedy
        )
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
}
