use std::collections::BTreeMap;

use proptest::{collection, prelude::*};

use super::{Facts, pod};
use crate::{
    model::PodUid,
    nft::{
        Change, Ruleset,
        change::Step,
        model::{
            Chain, ChainKind, DataType, Element, Expression, Family, Hook, HookPoint, Policy,
            Register, Rule, Set, Table, Verdict,
        },
        plan,
    },
};

/// Carries changes out as the kernel would: in order, refusing what cannot be.
fn carry_out(mut ruleset: Ruleset, changes: &[Change]) -> Result<Ruleset, String> {
    for change in changes {
        let id = &change.table;
        let words = || change.describe();
        match &change.step {
            Step::AddTable { comment } => {
                let table = Table {
                    comment: comment.clone(),
                    ..Table::default()
                };
                let before = ruleset.tables.insert(id.clone(), table);
                before.map_or(Ok(()), |_| Err(words()))?;
            }
            Step::DeleteTable => {
                ruleset.tables.remove(id).ok_or_else(words)?;
            }
            step => {
                let table = ruleset.tables.get_mut(id).ok_or_else(words)?;
                in_table(table, step).ok_or_else(words)?;
            }
        }
    }
    Ok(ruleset)
}

fn in_table(table: &mut Table, step: &Step) -> Option<()> {
    let referred = |table: &Table, name: &String| {
        let mut rules = table.chains.values().flat_map(|chain| &chain.rules);
        rules.any(|rule| rule.refers_to().any(|other| other == name))
    };
    match step {
        Step::AddTable { .. } | Step::DeleteTable => return None,
        Step::WakeTable => table.flags = 0,
        Step::AddSet { name, set } => {
            let fresh = set.elements.is_empty() && !table.sets.contains_key(name);
            fresh.then(|| table.sets.insert(name.clone(), set.clone()))?;
        }
        Step::DeleteSet { name } => {
            (!referred(table, name)).then(|| table.sets.remove(name))??;
        }
        Step::AddElement { of, key, element } => {
            let set = table.sets.get_mut(&of.name)?;
            let before = set.elements.insert(key.clone(), element.clone());
            before.is_none().then_some(())?;
        }
        Step::DeleteElement { of, key, .. } => {
            table.sets.get_mut(&of.name)?.elements.remove(key)?;
        }
        Step::AddChain { name, hook } => {
            let chain = Chain {
                hook: hook.clone(),
                rules: vec![],
            };
            let fresh = !table.chains.contains_key(name);
            fresh.then(|| table.chains.insert(name.clone(), chain))?;
        }
        Step::FlushChain { name } => table.chains.get_mut(name)?.rules.clear(),
        Step::DeleteChain { name } => {
            (!referred(table, name)).then(|| table.chains.remove(name))??;
        }
        Step::AddRule { chain, rule } => {
            let known =
                |name: &str| table.sets.contains_key(name) || table.chains.contains_key(name);
            rule.refers_to().all(known).then_some(())?;
            table.chains.get_mut(chain)?.rules.push(rule.clone());
        }
    }
    Some(())
}

fn sets() -> impl Strategy<Value = BTreeMap<String, Set>> {
    let elements = collection::btree_map(collection::vec(0..4_u8, 1), 0..2_u8, 0..4);
    let set = (any::<bool>(), any::<bool>(), elements).prop_map(|(wide, map, elements)| {
        let key = if wide {
            DataType::Ipv6Address
        } else {
            DataType::Ipv4Address
        };
        let element = |data: u8| Element {
            data: vec![data],
            other: vec![],
        };
        Set {
            elements: elements
                .into_iter()
                .map(|(key, data)| (key, element(data)))
                .collect(),
            ..Set::of(key, map.then_some(DataType::InterfaceIndex))
        }
    });
    collection::btree_map("s[0-3]", set, 0..4)
}

fn hook() -> impl Strategy<Value = Option<Hook>> {
    let hook =
        (0..2_i32, collection::btree_set("d[0-2]", 0..3)).prop_map(|(priority, devices)| Hook {
            kind: ChainKind::Filter,
            point: HookPoint::Ingress,
            priority,
            devices,
            policy: Policy::Accept,
        });
    proptest::option::of(hook)
}

/// Rules that look in sets and jump to other chains, all of which are there.
fn table() -> impl Strategy<Value = Table> {
    let rules = collection::vec((any::<prop::sample::Index>(), 0..3_u8), 0..4);
    let chains = collection::btree_map("c[0-4]", (hook(), rules), 0..5);
    (sets(), chains, 0..2_u32).prop_map(|(sets, chains, flags)| {
        let plain =
            |(name, (hook, _)): (&String, &(Option<Hook>, _))| hook.is_none().then(|| name.clone());
        let targets = Vec::from_iter(chains.iter().filter_map(plain));
        let names = Vec::from_iter(sets.keys().cloned());
        let rule = |index: prop::sample::Index, kind: u8, own: &String| {
            let expression = match kind {
                0 if !names.is_empty() => Expression::Lookup {
                    set: index.get(&names).clone(),
                    from: Register::ONE,
                    to: None,
                    negated: false,
                },
                1 if !targets.is_empty() && index.get(&targets) > own => {
                    Expression::Verdict(Verdict::Jump(index.get(&targets).clone()))
                }
                _ => Expression::Verdict(Verdict::Accept),
            };
            Rule {
                expressions: vec![expression],
                userdata: vec![],
            }
        };
        let chains = chains.iter().map(|(name, (hook, rules))| {
            let rules = rules.iter().map(|(index, kind)| rule(*index, *kind, name));
            let chain = Chain {
                hook: hook.clone(),
                rules: rules.collect(),
            };
            (name.clone(), chain)
        });
        Table {
            comment: Some("ours".into()),
            flags,
            chains: chains.collect(),
            sets,
        }
    })
}

fn ruleset() -> impl Strategy<Value = Ruleset> {
    let family = prop_oneof![Just(Family::Inet), Just(Family::Netdev)];
    let id = (family, Just("t".to_owned()));
    collection::btree_map(id, table(), 0..3).prop_map(|tables| Ruleset { tables })
}

/// Nobody wants a table with flags.
fn wanted() -> impl Strategy<Value = Ruleset> {
    ruleset().prop_map(|mut ruleset| {
        ruleset
            .tables
            .values_mut()
            .for_each(|table| table.flags = 0);
        ruleset
    })
}

proptest! {
    #[test]
    fn carrying_the_plan_out_reaches_what_is_wanted(wanted in wanted(), observed in ruleset()) {
        let reached = carry_out(observed.clone(), &plan(&wanted, &observed));
        prop_assert_eq!(reached.as_ref(), Ok(&wanted));
        prop_assert_eq!(plan(&wanted, &wanted), vec![]);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes in collection::vec(any::<u8>(), 0..200)) {
        crate::nft::observe::tests::read_everything(&bytes);
    }
}

#[test]
fn a_pod_more_is_a_chain_a_rule_and_its_elements() {
    let before = Facts::new([pod(11, "va1", &["10.91.1.2"])]);
    let mut after = before.clone();
    let uid = PodUid::new("new").unwrap();
    let new = pod(12, "va2", &["10.91.1.3", "fd00::3"]);
    after.pods.insert(uid.clone(), new);
    let changes = plan(&after.ruleset(), &before.ruleset());
    assert!(
        changes
            .iter()
            .all(|change| change.pod(&after.pods) == Some(&uid))
    );
    let words = changes.iter().map(|change| format!("{change}\n"));
    insta::assert_snapshot!(words.collect::<String>(), @r"
    add element netdev sluice cap4 10.91.1.3
    add element netdev sluice cap6 fd00::3
    add element netdev sluice dev4 10.91.1.3 : 12
    add element netdev sluice dev6 fd00::3 : 12
    add chain netdev sluice in-va2 { type filter hook ingress devices = { va2 } priority 0; policy accept; }
    add rule netdev sluice in-va2 meta l4proto tcp jump from_pod
    ");
}

#[test]
fn another_link_to_the_proxy_rewrites_what_names_it_only() {
    let before = Facts::new([pod(11, "va1", &["10.91.1.2"])]);
    let mut after = before.clone();
    after.link_out = Some(33);
    let changes = plan(&after.ruleset(), &before.ruleset());
    let (first, rest) = changes.split_first().unwrap();
    assert_eq!(first.describe(), "flush chain netdev sluice from_pod");
    let only_rules = |change: &Change| matches!(&change.step, Step::AddRule { chain, .. } if chain == "from_pod");
    assert!(rest.iter().all(only_rules), "{rest:#?}");
}
