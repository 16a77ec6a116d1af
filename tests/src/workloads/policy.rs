//! L4 policies in the form ztunnel gets them from istiod, reduced to what is
//! decided by identity and port.

use serde::Deserialize;

/// One policy. `rules` are alternatives; the clauses of a rule must all match;
/// a clause matches when one of its matches does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    pub name: String,
    pub namespace: String,
    pub scope: Scope,
    pub action: Action,
    pub rules: Vec<Vec<Vec<Match>>>,
}

/// Whom a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Scope {
    Global,
    Namespace,
    /// Only the workloads that name it.
    WorkloadSelector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    Allow,
    Deny,
}

/// Every list that is not empty must match; within a list one entry is enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    #[serde(default)]
    pub namespaces: Vec<StringMatch>,
    #[serde(default)]
    pub not_namespaces: Vec<StringMatch>,
    /// Against the identity without `spiffe://`.
    #[serde(default)]
    pub principals: Vec<StringMatch>,
    #[serde(default)]
    pub not_principals: Vec<StringMatch>,
    #[serde(default)]
    pub destination_ports: Vec<u16>,
    #[serde(default)]
    pub not_destination_ports: Vec<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    Suffix(String),
    /// Anything but nothing. A tuple because ztunnel's is one.
    Presence(),
}

impl Policy {
    /// STRICT for a namespace, in the words istiod has for it: whoever has no
    /// mTLS identity is denied.
    pub fn strict(namespace: &str) -> Self {
        let anonymous = Match {
            not_principals: vec![StringMatch::Presence()],
            ..Match::default()
        };
        Self::of("strict", namespace, Action::Deny, anonymous)
    }

    /// Only these principals (`trust-domain/ns/<namespace>/sa/<account>`) may
    /// call the workloads of `namespace`.
    pub fn allow(name: &str, namespace: &str, principals: &[&str]) -> Self {
        Self::of(
            name,
            namespace,
            Action::Allow,
            Match::principals(principals),
        )
    }

    /// These principals may not call the workloads of `namespace`.
    pub fn deny(name: &str, namespace: &str, principals: &[&str]) -> Self {
        Self::of(name, namespace, Action::Deny, Match::principals(principals))
    }

    /// How workloads name this policy.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn of(name: &str, namespace: &str, action: Action, one: Match) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            scope: Scope::Namespace,
            action,
            rules: vec![vec![vec![one]]],
        }
    }
}

impl Match {
    fn principals(principals: &[&str]) -> Self {
        let exact = |name: &&str| StringMatch::Exact((*name).to_owned());
        Self {
            principals: principals.iter().map(exact).collect(),
            ..Self::default()
        }
    }
}
