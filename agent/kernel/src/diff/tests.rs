use std::net::{IpAddr, Ipv4Addr};

use proptest::{collection::btree_map, prelude::*};

use super::*;
use crate::{
    model::{Link, PodUid},
    state::{Family, Mac, Route, Rule, Target},
};

fn link() -> impl Strategy<Value = Link> {
    (1u32..3).prop_map(|index| Link {
        index,
        name: format!("l{index}"),
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    (1u8..4).prop_map(|last| Ipv4Addr::new(10, 0, 0, last).into())
}

fn odd() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![Just(None), Just(Some(vec![1]))]
}

fn route() -> impl Strategy<Value = Object> {
    let target = prop_oneof![
        Just(Target::Unreachable),
        Just(Target::Local),
        (address(), 1u32..3).prop_map(|(gateway, link)| Target::Via { gateway, link }),
    ];
    let metric = prop_oneof![Just(0), Just(4_000_000_000)];
    (address(), metric, target, odd()).prop_map(|(address, metric, target, odd)| {
        Object::Route(Route {
            table: 8301,
            destination: (address, 32),
            metric,
            target,
            odd,
        })
    })
}

fn rule() -> impl Strategy<Value = Object> {
    let action = prop_oneof![
        Just(Action::Nop),
        Just(Action::Goto(106)),
        Just(Action::Lookup(8301))
    ];
    (104u32..107, action, any::<bool>(), odd()).prop_map(|(priority, action, tcp, odd)| {
        Object::Rule(Rule {
            family: Family::V4,
            priority,
            source: None,
            iif: None,
            mark: None,
            tcp,
            action,
            odd,
        })
    })
}

fn object() -> impl Strategy<Value = Object> {
    let sysctl = (link(), 0u8..3).prop_map(|(link, value)| Object::Sysctl {
        link,
        family: Family::V4,
        key: "rp_filter",
        value: value.to_string(),
    });
    let neighbour = (link(), address(), any::<Option<u8>>()).prop_map(|(link, address, mac)| {
        Object::Neighbour {
            link,
            address,
            mac: mac.map(|last| Mac([2, 0x5c, 0, 0, 0, last])),
        }
    });
    let address =
        (link(), address(), any::<bool>()).prop_map(|(link, address, odd)| Object::Address {
            link,
            address,
            prefix: 32,
            odd,
        });
    let up = link().prop_map(|link| Object::Up { link });
    prop_oneof![sysctl, neighbour, address, up, route(), rule()]
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![
        Just(Owner::Shared),
        "[ab]".prop_map(|uid| Owner::Pod(PodUid::new(uid).unwrap()))
    ]
}

/// A consistent wish: of objects that replace each other only one.
fn wanted() -> impl Strategy<Value = Wanted> {
    btree_map(object(), owner(), 0..12).prop_map(one_of_each)
}

fn one_of_each(objects: Wanted) -> Wanted {
    let mut kept = Wanted::new();
    for (object, owner) in objects {
        if !kept.keys().any(|other| other.replaces(&object)) {
            kept.insert(object, owner);
        }
    }
    kept
}

/// What the kernel does with steps.
fn apply(mut found: Found, steps: &[Step]) -> Found {
    for step in steps {
        match step.verb {
            Verb::Remove => {
                found.remove(&step.object);
            }
            Verb::Add => {
                found.retain(|other| !step.object.replaces(other));
                found.insert(step.object.clone());
            }
        }
    }
    found
}

/// A destination that was closed or steered and is to stay so.
fn holds(found: &Found, destination: (IpAddr, u8)) -> bool {
    found
        .iter()
        .any(|object| matches!(object, Object::Route(route) if route.destination == destination))
}

proptest! {
    #[test]
    fn applying_the_plan_reaches_what_is_wanted(wanted in wanted(), found in wanted()) {
        let found: Found = found.into_keys().collect();
        let steps = plan(&wanted, &found);
        let reached = apply(found, &steps);
        prop_assert_eq!(&reached, &wanted.keys().cloned().collect::<Found>());
        prop_assert_eq!(plan(&wanted, &reached), vec![]);
    }

    #[test]
    fn stopping_anywhere_and_starting_again_reaches_it_too(
        wanted in wanted(), found in wanted(), stop in 0usize..30,
    ) {
        let found: Found = found.into_keys().collect();
        let steps = plan(&wanted, &found);
        let halfway = apply(found, &steps[..stop.min(steps.len())]);
        let reached = apply(halfway.clone(), &plan(&wanted, &halfway));
        prop_assert_eq!(reached, wanted.into_keys().collect::<Found>());
    }

    #[test]
    fn an_address_whose_backstop_stays_is_closed_throughout(
        wanted in wanted(), found in wanted(),
    ) {
        let mut state: Found = found.into_keys().collect();
        let kept: Vec<_> = state
            .iter()
            .filter(|object| wanted.contains_key(*object))
            .filter_map(|object| match object {
                Object::Route(route) => Some(route.destination),
                _ => None,
            })
            .collect();
        for step in plan(&wanted, &state.clone()) {
            state = apply(state, &[step]);
            prop_assert!(kept.iter().all(|destination| holds(&state, *destination)));
        }
    }

    #[test]
    fn packet_rules_come_between_releasing_and_capturing(
        wanted in wanted(), found in wanted(),
    ) {
        let found: Found = found.into_keys().collect();
        let steps = plan(&wanted, &found);
        let (before, after) = around_packet_rules(&steps);
        let adds = |step: &Step| {
            matches!((&step.object, step.verb), (Object::Route(_) | Object::Rule(_), Verb::Add))
        };
        let removes_route =
            |step: &Step| matches!((&step.object, step.verb), (Object::Route(_), Verb::Remove));
        prop_assert!(!before.iter().any(adds));
        prop_assert!(!after.iter().any(removes_route));
    }
}

#[test]
fn a_released_address_is_opened_before_its_way_goes_and_a_captured_one_closed_first() {
    let to_pod = |metric, target| {
        Object::Route(Route {
            table: 8301,
            destination: (Ipv4Addr::new(10, 0, 0, 1).into(), 32),
            metric,
            target,
            odd: None,
        })
    };
    let backstop = to_pod(4_000_000_000, Target::Unreachable);
    let gateway = Ipv4Addr::new(169, 254, 0, 1).into();
    let way = to_pod(0, Target::Via { gateway, link: 7 });
    let owned = [&backstop, &way].map(|object| (object.clone(), Owner::Shared));
    let captured: Vec<_> = plan(&owned.into(), &Found::new())
        .into_iter()
        .map(|step| step.object)
        .collect();
    assert_eq!(captured, [backstop.clone(), way.clone()]);
    let found = Found::from([backstop.clone(), way.clone()]);
    let released: Vec<_> = plan(&Wanted::new(), &found)
        .into_iter()
        .map(|step| step.object)
        .collect();
    assert_eq!(released, [backstop, way]);
}
