//! From what is there to what is wanted. Pure.

use std::{cmp::Reverse, fmt};

use crate::state::{Action, Found, Object, Owner, Wanted};

/// One change of one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    pub(crate) verb: Verb,
    pub(crate) object: Object,
    /// None: nobody wants it.
    pub(crate) owner: Option<Owner>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Remove,
    Add,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Remove => "remove",
            Verb::Add => "set",
        };
        write!(f, "{verb} {}", self.object)
    }
}

/// Where packet rules belong among the steps: after what they refer to and
/// after a released pod's routes, before a captured pod's.
const PACKET_RULES: u8 = 6;

/// The steps that turn `found` into `wanted`, in an order in which a captured
/// pod is closed at every moment:
/// - a route goes before it is made anew, because its backstop stays;
/// - of a released pod the backstop goes first, so that it is not refused;
/// - of a captured pod the backstop comes first;
/// - a rule comes before the one that it replaces goes.
pub(crate) fn plan(wanted: &Wanted, found: &Found) -> Vec<Step> {
    let remove = found
        .iter()
        .filter(|object| !wanted.contains_key(*object))
        .filter(|object| !wanted.keys().any(|other| other.replaces(object)))
        .map(|object| Step {
            verb: Verb::Remove,
            object: object.clone(),
            owner: owner_of_same_place(wanted, object),
        });
    let add = wanted
        .iter()
        .filter(|(object, _)| !found.contains(*object))
        .map(|(object, owner)| Step {
            verb: Verb::Add,
            object: object.clone(),
            owner: Some(owner.clone()),
        });
    let mut steps: Vec<_> = remove.chain(add).collect();
    arrange(&mut steps);
    steps
}

/// Puts steps in the order described at [`plan`].
pub(crate) fn arrange(steps: &mut [Step]) {
    steps.sort_by_key(order);
}

/// Splits ordered steps into those before and those after the packet rules.
pub(crate) fn around_packet_rules(steps: &[Step]) -> (&[Step], &[Step]) {
    let at = steps.partition_point(|step| rank(step) < PACKET_RULES);
    steps.split_at(at)
}

fn order(step: &Step) -> (u8, Reverse<u32>, u8, u32) {
    let backstop_first = match &step.object {
        Object::Route(route) => route.metric,
        _ => 0,
    };
    let (action, priority) = match &step.object {
        Object::Rule(rule) => (weight(rule.action), rule.priority),
        _ => (0, 0),
    };
    let action = match step.verb {
        Verb::Add => action,
        Verb::Remove => u8::MAX - action,
    };
    (rank(step), Reverse(backstop_first), action, priority)
}

/// What is jumped to is there before the jump, and the exemption of the host
/// before what it is exempt from.
fn weight(action: Action) -> u8 {
    match action {
        Action::Nop => 0,
        Action::Goto(_) => 1,
        Action::Lookup(_) | Action::Other => 2,
    }
}

fn rank(step: &Step) -> u8 {
    match (&step.object, step.verb) {
        (Object::Route(_), Verb::Remove) => 0,
        (Object::Sysctl { .. }, _) => 1,
        (Object::Up { .. }, _) => 2,
        (Object::Address { .. }, Verb::Remove) => 3,
        (Object::Address { .. }, Verb::Add) => 4,
        (Object::Neighbour { .. }, _) => 5,
        (Object::Rule(_), Verb::Add) => PACKET_RULES,
        (Object::Rule(_), Verb::Remove) => 7,
        (Object::Route(_), Verb::Add) => 8,
    }
}

/// Whose it would be if it were as it should be: a route to a pod's address is
/// that pod's affair.
fn owner_of_same_place(wanted: &Wanted, object: &Object) -> Option<Owner> {
    let Object::Route(route) = object else {
        return None;
    };
    wanted.iter().find_map(|(other, owner)| match other {
        Object::Route(other)
            if (other.table, other.destination) == (route.table, route.destination) =>
        {
            Some(owner.clone())
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
