//! Who may call a workload. Decides; does nothing.

use super::identity::WorkloadIdentity;
use crate::workloads::{Action, Match, Policy, Scope, StringMatch, Workload};

/// A connection as policies see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    /// None: it came in plain text.
    pub identity: Option<&'a WorkloadIdentity>,
    pub destination_port: u16,
}

/// `Err` names the policy that denies, or says that no one allows.
///
/// As in ztunnel: a policy that denies wins; once a workload has a policy that
/// allows, one of those must match.
pub(super) fn decide(
    policies: &[Policy],
    workload: &Workload,
    caller: Caller<'_>,
) -> Result<(), String> {
    let mine = |action| {
        policies
            .iter()
            .filter(move |policy| policy.action == action && applies(policy, workload))
    };
    if let Some(policy) = mine(Action::Deny).find(|policy| matches(policy, caller)) {
        return Err(format!("denied by policy {}", policy.key()));
    }
    if mine(Action::Allow).next().is_none() || mine(Action::Allow).any(|p| matches(p, caller)) {
        return Ok(());
    }
    Err("not allowed by any policy".to_owned())
}

fn applies(policy: &Policy, workload: &Workload) -> bool {
    match policy.scope {
        Scope::Global => true,
        Scope::Namespace => policy.namespace == workload.namespace,
        Scope::WorkloadSelector => workload.authorization_policies.contains(&policy.key()),
    }
}

fn matches(policy: &Policy, caller: Caller<'_>) -> bool {
    let clause = |clause: &Vec<Match>| {
        clause.is_empty() || clause.iter().any(|one| one_matches(one, caller))
    };
    policy.rules.iter().any(|rule| rule.iter().all(clause))
}

fn one_matches(one: &Match, caller: Caller<'_>) -> bool {
    // An empty match says nothing, so it matches nothing; ztunnel agrees.
    if *one == Match::default() {
        return false;
    }
    let principal = caller
        .identity
        .map(WorkloadIdentity::principal)
        .unwrap_or_default();
    let namespace = caller.identity.map_or("", |identity| &identity.namespace);
    let port = |wanted: &u16| *wanted == caller.destination_port;
    holds(&one.principals, &one.not_principals, |wanted| {
        text_matches(wanted, &principal)
    }) && holds(&one.namespaces, &one.not_namespaces, |wanted| {
        text_matches(wanted, namespace)
    }) && holds(&one.destination_ports, &one.not_destination_ports, port)
}

fn holds<T>(positive: &[T], negative: &[T], matches: impl Fn(&T) -> bool) -> bool {
    (positive.is_empty() || positive.iter().any(&matches)) && !negative.iter().any(&matches)
}

/// Someone without an identity (`""`) matches nothing at all.
fn text_matches(wanted: &StringMatch, text: &str) -> bool {
    !text.is_empty()
        && match wanted {
            StringMatch::Exact(exact) => exact == text,
            StringMatch::Prefix(prefix) => text.starts_with(prefix.as_str()),
            StringMatch::Suffix(suffix) => text.ends_with(suffix.as_str()),
            StringMatch::Presence() => true,
        }
}

#[cfg(test)]
mod tests;
