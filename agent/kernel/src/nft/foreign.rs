//! Other people's rules that forbid capture.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    codec::{matches_mark, reverse_path},
    model::{
        Chain, ChainKind, Expression, Family, Hook, HookPoint, MetaKey, Operator, Register, Rule,
        TableId, Verdict,
    },
    observe, owner,
};
use crate::{
    client::{Client, ClientError},
    model::Settings,
};

/// Jumps that are followed; the kernel allows 16.
const DEPTH: usize = 16;
/// Families that we use, in one namespace or the other.
const OURS: [Family; 4] = [Family::Inet, Family::Netdev, Family::Ipv4, Family::Ipv6];
/// Flag of a table that does nothing.
const DORMANT: u32 = 1;

/// A table that has our name and is not ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claimed {
    pub(crate) family: Family,
    pub(crate) table: String,
    pub(crate) comment: Option<String>,
}

/// Tables of our name in the families that we use, without our comment.
pub(crate) fn claimed_tables(
    client: &mut Client,
    settings: &Settings,
) -> Result<Vec<Claimed>, ClientError> {
    let tables = observe::tables(client)?;
    let claimed = tables.into_iter().filter(|((family, name), table)| {
        OURS.contains(family)
            && *name == settings.nft_table
            && table.comment != Some(owner(settings))
    });
    let claimed = claimed.map(|((family, name), table)| Claimed {
        family,
        table: name,
        comment: table.comment,
    });
    Ok(claimed.collect())
}

/// A rule that drops what did not come in by the way that leads back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PathCheck {
    pub(crate) family: Family,
    pub(crate) table: String,
    /// The base chain, and the chain the rule is in.
    pub(crate) base: String,
    pub(crate) chain: String,
    pub(crate) priority: i32,
}

/// Reverse-path checks that packets arriving on `link` meet in prerouting.
///
/// A rule that is for other links, or for marked packets only, is none: Calico's
/// checks its own interfaces that way.
pub(crate) fn reverse_path_checks(
    client: &mut Client,
    settings: &Settings,
) -> Result<Vec<PathCheck>, ClientError> {
    let mut checks = Vec::new();
    for family in [Family::Inet, Family::Ipv4, Family::Ipv6] {
        // Only tables that filter there: kube-proxy's have many thousand rules.
        let filtering: BTreeSet<TableId> = observe::hooks(client, family)?
            .into_iter()
            .filter(|chain| chain.value.as_ref().is_some_and(filters_arrivals))
            .map(|chain| chain.table)
            .collect();
        for (id, table) in observe::tables(client)? {
            let ours = table.comment == Some(owner(settings));
            if filtering.contains(&id) && !ours && table.flags & DORMANT == 0 {
                let chains = observe::chains(client, &id)?;
                checks.extend(checks_of(&id, &chains, &settings.link_out));
            }
        }
    }
    Ok(checks)
}

fn filters_arrivals(hook: &Hook) -> bool {
    hook.point == HookPoint::Prerouting && hook.kind == ChainKind::Filter
}

/// The checks among a table's chains: pure.
fn checks_of(
    (family, table): &TableId,
    chains: &BTreeMap<String, Chain>,
    link: &str,
) -> Vec<PathCheck> {
    let mut checks = Vec::new();
    for (base, chain) in chains {
        let Some(hook) = chain.hook.as_ref().filter(|hook| filters_arrivals(hook)) else {
            continue;
        };
        let mut found = BTreeSet::new();
        walk(chains, base, link, DEPTH, &mut found, &mut BTreeSet::new());
        checks.extend(found.into_iter().map(|chain| PathCheck {
            family: *family,
            table: table.clone(),
            base: base.clone(),
            chain,
            priority: hook.priority,
        }));
    }
    checks
}

fn walk(
    chains: &BTreeMap<String, Chain>,
    name: &str,
    link: &str,
    depth: usize,
    found: &mut BTreeSet<String>,
    seen: &mut BTreeSet<String>,
) {
    let Some(chain) = chains.get(name).filter(|_| depth > 0) else {
        return;
    };
    if !seen.insert(name.to_owned()) {
        return;
    }
    for rule in chain.rules.iter().filter(|rule| concerns(rule, link)) {
        let next = match rule.expressions.last() {
            Some(Expression::Verdict(Verdict::Jump(next) | Verdict::Goto(next))) => Some(next),
            _ => None,
        };
        if checks(rule) {
            found.insert(name.to_owned());
        } else if let Some(next) = next {
            walk(chains, next, link, depth - 1, found, seen);
        }
    }
}

/// The rule looks for the way back, and drops (or has another chain drop).
fn checks(rule: &Rule) -> bool {
    let lookup = rule.expressions.iter().any(|expression| match expression {
        Expression::Other { name, attributes } => reverse_path(name, attributes),
        _ => false,
    });
    let drops = match rule.expressions.last() {
        Some(Expression::Verdict(verdict)) => {
            matches!(verdict, Verdict::Drop | Verdict::Jump(_) | Verdict::Goto(_))
        }
        Some(Expression::RejectWithReset) => true,
        Some(Expression::Other { name, .. }) => name == "reject",
        _ => false,
    };
    lookup && drops
}

/// The rule may match an unmarked packet that arrives on `link`.
fn concerns(rule: &Rule, link: &str) -> bool {
    let mut holds: BTreeMap<Register, MetaKey> = BTreeMap::new();
    rule.expressions.iter().all(|expression| match expression {
        Expression::Meta { key, to } => {
            holds.insert(*to, *key);
            true
        }
        Expression::Compare {
            from,
            operator,
            value,
        } => match holds.get(from) {
            Some(MetaKey::InputName) => {
                let same = name_matches(value, link);
                match operator {
                    Operator::Equal => same,
                    Operator::NotEqual => !same,
                    Operator::Other(_) => true,
                }
            }
            Some(MetaKey::L4Protocol) => {
                (*operator == Operator::Equal) == (value.as_slice() == [TCP])
            }
            // Our packets have no mark, and our links no index somebody else
            // could have written down before they were made.
            Some(MetaKey::Mark | MetaKey::Other(INPUT_INDEX)) => {
                let nothing = value.iter().all(|byte| *byte == 0);
                nothing == (*operator == Operator::Equal)
            }
            _ => true,
        },
        Expression::Lookup { from, negated, .. } => match holds.get(from) {
            Some(MetaKey::InputName | MetaKey::Mark | MetaKey::Other(INPUT_INDEX)) => *negated,
            _ => true,
        },
        Expression::Other { name, attributes } => {
            // Whatever it is, it may have written any register.
            holds.clear();
            !matches_mark(name, attributes)
        }
        Expression::Payload { to, .. }
        | Expression::Socket { to, .. }
        | Expression::CtStatus { to }
        | Expression::Load { to, .. } => {
            holds.remove(to);
            true
        }
        _ => true,
    })
}

const TCP: u8 = 6;
/// `NFT_META_IIF`.
const INPUT_INDEX: u32 = 4;

/// A name as nft compares it: whole with its zeros, or a beginning (`eth*`).
fn name_matches(value: &[u8], link: &str) -> bool {
    let mut name = link.as_bytes().to_vec();
    name.resize(16, 0);
    name.starts_with(value)
}
