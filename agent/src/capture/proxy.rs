//! Which proxy traffic is handed to.

use std::{collections::BTreeSet, net::IpAddr};

use sluice_kernel::model::{Link, NetnsId, PodUid, Proxy, ProxyPorts};

use super::{kernel::Fault, plan::ProxyState};
use crate::status::ProxyStatus;

/// A proxy that could be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Candidate {
    /// None when the configuration names its namespace and no pod is known.
    pub(super) uid: Option<PodUid>,
    pub(super) netns: NetnsId,
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Host-side link of its sandbox, where the CNI result named one.
    pub(super) hint: Option<String>,
    /// Of its sandbox: the greater the newer.
    pub(super) order: u64,
}

/// A candidate, looked at.
#[derive(Clone, Debug)]
pub(super) struct Looked {
    pub(super) candidate: Candidate,
    /// Its namespace is there.
    pub(super) alive: bool,
    pub(super) listening: BTreeSet<u16>,
    pub(super) link: Result<Link, Fault>,
}

/// The ports that must be listened on.
pub(super) fn needed(ports: ProxyPorts) -> BTreeSet<u16> {
    BTreeSet::from([ports.outbound, ports.inbound, ports.hbone])
}

impl Candidate {
    /// Whether it is the same running proxy.
    fn is(&self, other: &Self) -> bool {
        self.uid == other.uid && self.netns == other.netns
    }
}

impl Looked {
    /// Alive, reachable over its link and listening on every port.
    pub(super) fn is_ready(&self, needed: &BTreeSet<u16>) -> bool {
        self.alive && self.link.is_ok() && needed.is_subset(&self.listening)
    }

    /// What the kernel is told of it; None when it cannot be handed traffic.
    pub(super) fn proxy(&self) -> Option<Proxy> {
        let link = self.link.as_ref().ok().filter(|_| self.alive)?;
        Some(Proxy {
            netns: self.candidate.netns.clone(),
            link: link.clone(),
            addresses: self.candidate.addresses.clone(),
        })
    }
}

/// Picks the proxy to use. The newest that is ready wins; while the current one
/// lives it is left only for one that is ready; and one that is not ready is
/// better than one that is gone.
pub(super) fn choose(
    current: Option<&Candidate>,
    mut looked: Vec<Looked>,
    needed: &BTreeSet<u16>,
) -> Option<Looked> {
    looked.sort_by_key(|one| {
        let is_current = current.is_some_and(|current| current.is(&one.candidate));
        (
            one.is_ready(needed),
            one.alive && is_current,
            one.alive,
            one.link.is_ok(),
            one.candidate.order,
        )
    });
    // Among those that are ready age alone decides.
    let newest_ready = looked
        .iter()
        .filter(|one| one.is_ready(needed))
        .max_by_key(|one| one.candidate.order)
        .cloned();
    newest_ready.or_else(|| looked.pop())
}

/// What pods are told of the chosen proxy.
pub(super) fn state(chosen: Option<&Looked>, needed: &BTreeSet<u16>) -> ProxyState {
    let Some(one) = chosen else {
        return ProxyState::Absent(
            "no proxy is known on this node: no pod that is recognised as the proxy has a \
             network namespace the agent knows of; start the proxy, restart its pod, or name \
             its namespace with --proxy-netns"
                .into(),
        );
    };
    let path = one.candidate.netns.path.display();
    if !one.alive {
        return ProxyState::Absent(format!(
            "the proxy's network namespace {path} is gone; start the proxy again"
        ));
    }
    if let Err(fault) = &one.link {
        return ProxyState::Absent(format!("the proxy in {path} cannot be used: {fault}"));
    }
    let missing: Vec<String> = needed
        .difference(&one.listening)
        .map(ToString::to_string)
        .collect();
    if missing.is_empty() {
        return ProxyState::Ready;
    }
    ProxyState::NotListening(format!(
        "the proxy in {path} does not listen on {}; look at the proxy's log",
        missing.join(", ")
    ))
}

/// The chosen proxy, for people.
pub(super) fn status(
    chosen: Option<&Looked>,
    state: &ProxyState,
    needed: &BTreeSet<u16>,
) -> ProxyStatus {
    let message = match state {
        ProxyState::Ready => String::new(),
        ProxyState::Absent(why) | ProxyState::NotListening(why) => why.clone(),
    };
    let listening = chosen.map(|one| one.listening.clone()).unwrap_or_default();
    ProxyStatus {
        pod_uid: chosen.and_then(|one| one.candidate.uid.clone()),
        netns: chosen.map(|one| one.candidate.netns.clone()),
        missing: needed.difference(&listening).copied().collect(),
        listening,
        ready: *state == ProxyState::Ready,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(name: &str, order: u64, alive: bool, listening: bool) -> Looked {
        Looked {
            candidate: Candidate {
                uid: PodUid::new(name),
                netns: NetnsId {
                    path: name.into(),
                    device: 4,
                    inode: order,
                },
                addresses: BTreeSet::new(),
                hint: None,
                order,
            },
            alive,
            listening: if listening && alive {
                needed(ProxyPorts::default())
            } else {
                BTreeSet::from([15001])
            },
            link: Ok(Link {
                index: 1,
                name: "veth".into(),
            }),
        }
    }

    fn chosen(current: Option<&Looked>, looked: &[Looked]) -> Option<String> {
        let current = current.map(|one| &one.candidate);
        choose(current, looked.to_vec(), &needed(ProxyPorts::default()))
            .map(|one| one.candidate.netns.path.display().to_string())
    }

    #[test]
    fn a_living_proxy_is_left_only_for_one_that_is_ready() {
        let old = looked("old", 1, true, true);
        let mute = looked("old", 1, true, false);
        let dead = looked("old", 1, false, false);
        let starting = looked("new", 2, true, false);
        let ready = looked("new", 2, true, true);
        let pick = |current: &Looked, new: &Looked| {
            chosen(Some(current), &[current.clone(), new.clone()]).unwrap()
        };
        assert_eq!(pick(&old, &starting), "old");
        assert_eq!(pick(&mute, &starting), "old");
        assert_eq!(pick(&old, &ready), "new");
        assert_eq!(pick(&mute, &ready), "new");
        assert_eq!(pick(&dead, &starting), "new");
        assert_eq!(pick(&ready, &old), "new");
    }

    #[test]
    fn without_a_current_one_the_newest_ready_is_taken() {
        let (a, b) = (looked("a", 1, true, true), looked("b", 2, true, true));
        assert_eq!(chosen(None, &[a, b]).unwrap(), "b");
        assert_eq!(chosen(None, &[]), None);
    }

    #[test]
    fn says_what_is_missing() {
        let ports = needed(ProxyPorts::default());
        let ProxyState::NotListening(why) = state(Some(&looked("p", 1, true, false)), &ports)
        else {
            panic!("it does not listen");
        };
        insta::assert_snapshot!(why, @"the proxy in p does not listen on 15006, 15008; look at the proxy's log");
    }
}
