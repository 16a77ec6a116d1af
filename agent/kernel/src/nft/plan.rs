//! The fewest changes that lead from one ruleset to another.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    change::{Change, SetName, Step},
    model::{Chain, Elements, Rule, Ruleset, Set, Table},
};

/// The changes that turn `observed` into `wanted`, in an order in which one
/// transaction can make them: what refers to an object goes before it and comes
/// after it.
pub(crate) fn plan(wanted: &Ruleset, observed: &Ruleset) -> Vec<Change> {
    let mut changes = Vec::new();
    for id in observed.tables.keys() {
        if !wanted.tables.contains_key(id) {
            changes.push(Change {
                table: id.clone(),
                step: Step::DeleteTable,
            });
        }
    }
    for (id, table) in &wanted.tables {
        let steps = match observed.tables.get(id) {
            Some(observed) => table_steps(table, observed),
            None => {
                let comment = table.comment.clone();
                let mut steps = vec![Step::AddTable { comment }];
                steps.extend(table_steps(table, &Table::default()));
                steps
            }
        };
        changes.extend(steps.into_iter().map(|step| Change {
            table: id.clone(),
            step,
        }));
    }
    changes
}

fn table_steps(wanted: &Table, observed: &Table) -> Vec<Step> {
    let dirty = Dirty::between(wanted, observed);
    let mut steps = Vec::new();
    if wanted.flags != observed.flags {
        steps.push(Step::WakeTable);
    }
    steps.extend(take_away(wanted, observed, &dirty));
    for (name, set) in &wanted.sets {
        if dirty.sets.contains(name) {
            let set = Set {
                elements: Elements::new(),
                ..set.clone()
            };
            let name = name.clone();
            steps.push(Step::AddSet { name, set });
        }
    }
    for (name, set) in &wanted.sets {
        let there = observed
            .sets
            .get(name)
            .filter(|_| !dirty.sets.contains(name));
        steps.extend(add_elements(name, set, there));
    }
    for (name, chain) in &wanted.chains {
        if dirty.chains.contains(name) {
            steps.push(Step::AddChain {
                name: name.clone(),
                hook: chain.hook.clone(),
            });
        }
    }
    for (name, chain) in &wanted.chains {
        if dirty.rules.contains(name) {
            steps.extend(chain.rules.iter().map(|rule| Step::AddRule {
                chain: name.clone(),
                rule: rule.clone(),
            }));
        }
    }
    steps
}

/// First the rules, which refer to chains and sets; then the sets, which (other
/// people's) may refer to chains.
fn take_away(wanted: &Table, observed: &Table, dirty: &Dirty<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let gone = |name: &String| !wanted.chains.contains_key(name) || dirty.chains.contains(name);
    for (name, chain) in &observed.chains {
        let stale = gone(name) || dirty.rules.contains(name);
        if stale && !chain.rules.is_empty() {
            steps.push(Step::FlushChain { name: name.clone() });
        }
    }
    for (name, set) in &observed.sets {
        match wanted.sets.get(name) {
            Some(wanted) if !dirty.sets.contains(name) => {
                steps.extend(delete_elements(name, wanted, set));
            }
            _ => steps.push(Step::DeleteSet { name: name.clone() }),
        }
    }
    for name in observed.chains.keys().filter(|name| gone(name)) {
        steps.push(Step::DeleteChain { name: name.clone() });
    }
    steps
}

/// What has to be made anew as a whole.
#[derive(Debug)]
struct Dirty<'a> {
    sets: BTreeSet<&'a String>,
    chains: BTreeSet<&'a String>,
    /// Chains whose rules have to be written.
    rules: BTreeSet<&'a String>,
}

impl<'a> Dirty<'a> {
    fn between(wanted: &'a Table, observed: &Table) -> Self {
        let same_set = |name: &String, set: &Set| {
            let there = observed.sets.get(name);
            there.is_some_and(|there| there.same_kind(set))
        };
        let same_chain = |name: &String, chain: &Chain| {
            let there = observed.chains.get(name);
            there.is_some_and(|there| there.hook == chain.hook)
        };
        let same_rules = |name: &String, chain: &Chain| {
            let there = observed.chains.get(name);
            there.is_some_and(|there| there.rules == chain.rules)
        };
        let mut dirty = Self {
            sets: different(&wanted.sets, same_set),
            chains: different(&wanted.chains, same_chain),
            rules: different(&wanted.chains, same_rules),
        };
        // An object can only be replaced while no rule refers to it.
        let referring = wanted.chains.iter().filter(|(name, chain)| {
            let mut names = chain.rules.iter().flat_map(Rule::refers_to);
            dirty.chains.contains(name)
                || names.any(|name| {
                    let name = name.to_owned();
                    dirty.sets.contains(&name) || dirty.chains.contains(&name)
                })
        });
        let referring = Vec::from_iter(referring.map(|(name, _)| name));
        dirty.rules.extend(referring);
        dirty
    }
}

fn different<T>(
    wanted: &BTreeMap<String, T>,
    same: impl Fn(&String, &T) -> bool,
) -> BTreeSet<&String> {
    let different = wanted.iter().filter(|(name, value)| !same(name, value));
    different.map(|(name, _)| name).collect()
}

fn add_elements(name: &str, wanted: &Set, observed: Option<&Set>) -> impl Iterator<Item = Step> {
    let there = move |key: &Vec<u8>| observed.and_then(|set| set.elements.get(key));
    let missing = wanted
        .elements
        .iter()
        .filter(move |(key, element)| there(key) != Some(element));
    missing.map(move |(key, element)| Step::AddElement {
        of: SetName::of(name, wanted),
        key: key.clone(),
        element: element.clone(),
    })
}

fn delete_elements(name: &str, wanted: &Set, observed: &Set) -> impl Iterator<Item = Step> {
    let extra = observed
        .elements
        .iter()
        .filter(|(key, element)| wanted.elements.get(*key) != Some(element));
    extra.map(move |(key, element)| Step::DeleteElement {
        of: SetName::of(name, wanted),
        key: key.clone(),
        element: element.clone(),
    })
}
