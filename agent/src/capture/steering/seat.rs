//! Looks at the proxies and picks one.

use std::collections::BTreeSet;

use sluice_kernel::model::{Link, NetnsId};

use super::{Steering, Subjects};
use crate::{
    capture::{
        Options,
        kernel::{Fault, Kernel},
        locate,
        plan::ProxyState,
        proxy::{self, Candidate, Looked},
        search::Search,
    },
    desired::Wanted,
};

impl<K: Kernel> Steering<K> {
    /// Finds the proxies that could be used.
    pub(in crate::capture) fn find_proxies(&mut self, subjects: &Subjects<'_>, options: &Options) {
        let proxies = subjects
            .values()
            .filter(|subject| subject.intent.wanted == Wanted::Proxy);
        let Some(path) = &options.proxy_netns else {
            self.candidates = proxies
                .filter_map(|subject| {
                    let entry = subject.entry?;
                    Some(Candidate {
                        uid: Some(subject.intent.uid.clone()),
                        netns: entry.netns.clone()?,
                        addresses: subject.addresses.clone(),
                        hint: entry.sandbox.host_link.clone(),
                        order: entry.order,
                    })
                })
                .collect();
            return;
        };
        let proxies: Vec<_> = proxies.collect();
        let pod = match proxies.as_slice() {
            [one] => Some(one),
            _ => None,
        };
        let addresses = if options.proxy_addresses.is_empty() {
            pod.map(|pod| pod.addresses.clone()).unwrap_or_default()
        } else {
            options.proxy_addresses.clone()
        };
        let netns = self.kernel.netns_id(path);
        self.candidates = netns
            .into_iter()
            .map(|netns| Candidate {
                uid: pod.map(|pod| pod.intent.uid.clone()),
                netns,
                addresses: addresses.clone(),
                hint: None,
                order: 0,
            })
            .collect();
    }

    /// Has those looked for whose namespace nobody told of.
    pub(in crate::capture) fn search(&mut self, search: &mut Search, subjects: &Subjects<'_>) {
        let unknown = subjects.values().filter(|subject| {
            let told = subject.entry.and_then(|entry| entry.netns.as_ref());
            subject.intent.wanted == Wanted::Proxy
                && !subject.intent.host_network
                && !subject.intent.addresses.is_empty()
                && !told.is_some_and(|netns| self.kernel.netns_alive(netns))
        });
        search.ask(unknown.map(|subject| subject.intent).collect());
        self.unfound = search.why();
    }

    /// Namespaces of all proxies that are known.
    pub(in crate::capture) fn proxies(&self) -> Vec<NetnsId> {
        let candidates = self.candidates.iter();
        candidates
            .map(|candidate| candidate.netns.clone())
            .collect()
    }

    /// What pods are told of the proxy.
    pub(in crate::capture) fn proxy_state(&self) -> ProxyState {
        match (
            proxy::state(self.seat.as_ref(), &self.needed),
            &self.unfound,
        ) {
            (ProxyState::Absent(why), Some(unfound)) => {
                ProxyState::Absent(format!("{why}; {unfound}"))
            }
            (state, _) => state,
        }
    }

    /// Whether the configured path leads to a namespace that is not a candidate
    /// yet: a proxy was started again under it.
    pub(in crate::capture) fn is_reborn(&self, options: &Options) -> bool {
        let Some(path) = &options.proxy_netns else {
            return false;
        };
        let known = self.candidates.first().map(|candidate| &candidate.netns);
        self.kernel
            .netns_id(path)
            .is_ok_and(|netns| known != Some(&netns))
    }

    /// Whether the chosen proxy's namespace went since it was last looked at.
    pub(in crate::capture) fn is_bereft(&self) -> bool {
        self.seat
            .as_ref()
            .is_some_and(|seat| seat.alive && !self.kernel.netns_alive(&seat.candidate.netns))
    }

    /// Looks at every proxy and picks one. True when that changes what pods are
    /// told or what is programmed.
    pub(in crate::capture) fn look_at_proxies(&mut self) -> bool {
        let looked = self
            .candidates
            .clone()
            .into_iter()
            .map(|candidate| self.look(candidate))
            .collect();
        let current = self.seat.as_ref().map(|seat| &seat.candidate);
        let chosen = proxy::choose(current, looked, &self.needed);
        // Gone altogether, it is still the one that the pods were handed to.
        let changed = key(chosen.as_ref()) != key(self.seat.as_ref());
        self.seat = chosen;
        changed
    }

    fn look(&mut self, candidate: Candidate) -> Looked {
        let alive = self.kernel.netns_alive(&candidate.netns);
        // Asked of one that is gone, too: the kernel lets go of it then, and its
        // links can disappear.
        let listening = self
            .kernel
            .listening(&candidate.netns)
            .unwrap_or_else(|fault| {
                let netns = candidate.netns.path.display();
                tracing::warn!(%fault, %netns, "cannot see what the proxy listens on");
                BTreeSet::new()
            });
        let link = self.proxy_link(&candidate);
        Looked {
            candidate,
            alive,
            listening,
            link,
        }
    }

    fn proxy_link(&mut self, candidate: &Candidate) -> Result<Link, Fault> {
        if candidate.addresses.is_empty() {
            return Err(Fault::transient(
                "its address is not known; name it with --proxy-address",
            ));
        }
        let known = self
            .seat
            .as_ref()
            .filter(|seat| seat.candidate == *candidate);
        if let Some(Ok(link)) = known.map(|seat| seat.link.clone())
            && matches!(self.kernel.link_alive(&link), Ok(true))
        {
            return Ok(link);
        }
        locate::by_hint_or_route(
            &mut self.kernel,
            candidate.hint.as_deref(),
            &candidate.addresses,
            Some(&candidate.netns),
        )
    }
}

type Key<'a> = Option<(&'a Candidate, bool, &'a BTreeSet<u16>, Option<u32>)>;

/// What matters of a proxy.
fn key(looked: Option<&Looked>) -> Key<'_> {
    looked.map(|one| {
        let link = one.link.as_ref().ok().map(|link| link.index);
        (&one.candidate, one.alive, &one.listening, link)
    })
}
