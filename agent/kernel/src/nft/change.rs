//! Changes of packet rules, one object each, in the kernel's words and in ours.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
    net::IpAddr,
};

use super::{
    model::{DataType, Element, Hook, Rule, Set, TableId},
    node::pod_chain,
};
use crate::model::{Pod, PodUid};

/// One change of one object in a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    pub(crate) table: TableId,
    pub(crate) step: Step,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    AddTable {
        comment: Option<String>,
    },
    /// Takes flags such as `dormant` away.
    WakeTable,
    /// With everything in it.
    DeleteTable,
    /// Without elements.
    AddSet {
        name: String,
        set: Set,
    },
    DeleteSet {
        name: String,
    },
    AddElement {
        of: SetName,
        key: Vec<u8>,
        element: Element,
    },
    DeleteElement {
        of: SetName,
        key: Vec<u8>,
        element: Element,
    },
    /// Without rules.
    AddChain {
        name: String,
        hook: Option<Hook>,
    },
    /// Deletes all rules of a chain.
    FlushChain {
        name: String,
    },
    DeleteChain {
        name: String,
    },
    /// Behind the rules that are there.
    AddRule {
        chain: String,
        rule: Rule,
    },
}

/// A set, and what its elements are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SetName {
    pub(crate) name: String,
    pub(crate) key: DataType,
    pub(crate) data: Option<DataType>,
}

impl SetName {
    pub(super) fn of(name: &str, set: &Set) -> Self {
        Self {
            name: name.into(),
            key: set.key,
            data: set.data,
        }
    }

    fn element(&self, key: &[u8], element: &Element) -> String {
        Set::of(self.key, self.data).element(key, element)
    }
}

impl Change {
    /// What was changed, in words.
    pub(crate) fn describe(&self) -> String {
        self.to_string()
    }

    /// The pod whose chain or element it is.
    pub(crate) fn pod<'a>(&self, pods: &'a BTreeMap<PodUid, Pod>) -> Option<&'a PodUid> {
        let chain = self.chain();
        let address = self.address();
        let concerned = |pod: &Pod| {
            chain.is_some_and(|chain| chain == pod_chain(&pod.link.name))
                || address.is_some_and(|address| pod.addresses.contains(&address))
        };
        pods.iter()
            .find_map(|(uid, pod)| concerned(pod).then_some(uid))
    }

    /// The chain it changes.
    fn chain(&self) -> Option<&str> {
        match &self.step {
            Step::AddChain { name, .. }
            | Step::FlushChain { name }
            | Step::DeleteChain { name }
            | Step::AddRule { chain: name, .. } => Some(name),
            _ => None,
        }
    }

    /// The captured address it is about.
    fn address(&self) -> Option<IpAddr> {
        match &self.step {
            Step::AddElement { of, key, .. } | Step::DeleteElement { of, key, .. }
                if of.name.starts_with("cap") || of.name.starts_with("dev") =>
            {
                let four = <[u8; 4]>::try_from(key.as_slice()).map(IpAddr::from);
                four.or_else(|_| <[u8; 16]>::try_from(key.as_slice()).map(IpAddr::from))
                    .ok()
            }
            _ => None,
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (family, table) = &self.table;
        match &self.step {
            Step::AddTable { .. } => write!(f, "add table {family} {table}"),
            Step::WakeTable => write!(f, "take the flags off table {family} {table}"),
            Step::DeleteTable => write!(f, "delete table {family} {table}"),
            Step::AddSet { name, set } => {
                let kind = if set.data.is_some() { "map" } else { "set" };
                write!(f, "add {kind} {family} {table} {name}")
            }
            Step::DeleteSet { name } => write!(f, "delete set {family} {table} {name}"),
            Step::AddElement { of, key, element } => {
                let element = of.element(key, element);
                write!(f, "add element {family} {table} {} {element}", of.name)
            }
            Step::DeleteElement { of, key, element } => {
                let element = of.element(key, element);
                write!(f, "delete element {family} {table} {} {element}", of.name)
            }
            Step::AddChain { name, hook } => {
                write!(f, "add chain {family} {table} {name}")?;
                hook.iter().try_for_each(|hook| write!(f, " {{ {hook} }}"))
            }
            Step::FlushChain { name } => write!(f, "flush chain {family} {table} {name}"),
            Step::DeleteChain { name } => write!(f, "delete chain {family} {table} {name}"),
            Step::AddRule { chain, rule } => {
                write!(f, "add rule {family} {table} {chain} {rule}")
            }
        }
    }
}
