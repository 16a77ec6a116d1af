//! Makes the kernel what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kernel, Known, Outcome, cleanup};
use crate::{
    apply::{self, Failures},
    diff::{self, Step},
    error::{KernelError, PodError},
    layout::{self, Which},
    model::{NetnsId, Node, Pod, PodUid, Repair, Settings},
    netns::{self, Netns},
    nft::{self, Change, NftError},
    observe::{self, Picture, Plan},
    place::Place,
    state::Owner,
    sysctl::Watched,
};

/// One look decides about links, one about the rest, one verifies; the others
/// are for what changes meanwhile.
const LOOKS: usize = 6;

impl Kernel {
    /// Makes the kernel what `node` says: looks, finds what differs, changes it,
    /// and looks again until nothing differs.
    ///
    /// Failures of single pods are in the outcome. An error means that the
    /// shared part is not as wanted; what could be closed is closed.
    pub fn reconcile(&mut self, node: &Node) -> Result<Outcome, KernelError> {
        self.known = None;
        let mut proxy = self.open_proxy(node)?;
        let mut run = Run::default();
        let picture = self.settle(node, proxy.as_mut(), &mut run)?;
        self.remember(node, proxy.as_ref(), picture)?;
        drop(proxy);
        self.leave_previous_proxy(node, &mut run);
        let mut pods: BTreeMap<_, _> = node.pods.keys().map(|uid| (uid.clone(), Ok(()))).collect();
        for (uid, error) in run.failed {
            pods.insert(uid, Err(error));
        }
        Ok(Outcome {
            repairs: run.repairs,
            pods,
        })
    }

    /// Looks and changes until nothing differs, or changing does not help.
    fn settle(
        &mut self,
        node: &Node,
        mut proxy: Option<&mut Place>,
        run: &mut Run,
    ) -> Result<Picture, KernelError> {
        let settings = self.settings.clone();
        let mut failures = Failures::default();
        let mut before: Option<Plan> = None;
        let mut looks = 0;
        loop {
            looks += 1;
            let there = proxy.as_deref_mut();
            let picture = observe::look(&settings, self.resets, node, &mut self.node, there)?;
            let plan = observe::decide(&settings, node, &picture, proxy.is_some(), &run.refused);
            let stuck = before.as_ref().is_some_and(|before| before.same(&plan));
            if plan.is_empty() || stuck || looks >= LOOKS {
                run.conclude(&settings, node, plan, failures)?;
                return Ok(picture);
            }
            failures = Failures::default();
            if plan.links.is_empty() {
                let task = Task {
                    settings: &settings,
                    wanted: node,
                    picture: &picture,
                    plan: &plan,
                };
                let there = proxy.as_deref_mut();
                task.carry_out(&mut self.node, there, run, &mut failures)?;
            } else {
                let own = node.proxy.as_ref().map(|proxy| &proxy.link);
                let mtu = own.map_or(0, |link| layout::mtu(&picture.node_links, link));
                let there = proxy.as_deref_mut();
                apply::links(&settings, &mut self.node, there, mtu, &plan.links)?;
            }
            run.record(&settings, node, &plan);
            before = Some(plan);
        }
    }

    fn remember(
        &mut self,
        node: &Node,
        proxy: Option<&Place>,
        picture: Picture,
    ) -> Result<(), KernelError> {
        let mut sysctls = Watched::default();
        if let (Some(tunnel), Some(proxy)) = (&picture.tunnel, proxy) {
            for (place, in_proxy) in [(&self.node, false), (proxy, true)] {
                let wanted: Vec<_> = Which::BOTH
                    .into_iter()
                    .flat_map(|which| {
                        let link = tunnel.end(which, in_proxy).link.name.clone();
                        layout::sysctls(which, &link, in_proxy, picture.ipv6)
                    })
                    .collect();
                sysctls.extend(place.inside("sysctls", || Watched::open(&wanted))?);
            }
        }
        self.sysctls = sysctls;
        self.known = Some(Known {
            proxy: node.proxy.clone().filter(|_| proxy.is_some()),
            host_ports: node.host_ports.clone(),
            tunnel: picture.tunnel.filter(|_| proxy.is_some()),
            ipv6: picture.ipv6,
            local: picture.local,
        });
        Ok(())
    }

    /// The namespace of a proxy that is not used any more is given back as it was.
    fn leave_previous_proxy(&mut self, node: &Node, run: &mut Run) {
        let current = node.proxy.as_ref().map(|proxy| proxy.netns.clone());
        let previous = std::mem::replace(&mut self.last_proxy, current.clone());
        let left = |id: &NetnsId| Some(id) != current.as_ref() && netns::alive(id);
        let Some(previous) = previous.filter(left) else {
            return;
        };
        let left = Netns::open_same(&previous)
            .map_err(KernelError::ProxyNetns)
            .and_then(|netns| cleanup::leave_proxy(&self.settings, netns, &mut run.repairs));
        if let Err(error) = left {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "rules are left in the namespace of the proxy before");
        }
    }
}

/// One reconcile, as far as it has come.
#[derive(Debug, Default)]
struct Run {
    repairs: Vec<Repair>,
    /// Pods whose packet rules the kernel does not take: left out entirely.
    refused: BTreeSet<PodUid>,
    failed: BTreeMap<PodUid, PodError>,
}

impl Run {
    fn record(&mut self, settings: &Settings, wanted: &Node, plan: &Plan) {
        for repair in plan.repairs(settings, wanted) {
            if !self.repairs.contains(&repair) {
                self.repairs.push(repair);
            }
        }
    }

    /// What differs still is the failure of whom it belongs to.
    fn conclude(
        &mut self,
        settings: &Settings,
        wanted: &Node,
        plan: Plan,
        mut failures: Failures,
    ) -> Result<(), KernelError> {
        let (mut shared, mut pods) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for repair in plan.repairs(settings, wanted) {
            match repair.pod {
                Some(uid) => pods.entry(uid).or_default().push(repair.object),
                None => shared.push(repair.object),
            }
        }
        if !shared.is_empty() {
            let unexplained = KernelError::NotVerified { objects: shared };
            return Err(failures.shared.take().unwrap_or(unexplained));
        }
        self.failed.extend(plan.failed);
        for (uid, objects) in pods {
            let refusal = failures.pods.iter().position(|(pod, _)| *pod == uid);
            let error = match refusal {
                Some(at) => failures.pods.swap_remove(at).1,
                None => PodError::NotVerified { objects },
            };
            self.failed.entry(uid).or_insert(error);
        }
        Ok(())
    }
}

/// Everything but links that one plan says.
struct Task<'a> {
    settings: &'a Settings,
    wanted: &'a Node,
    picture: &'a Picture,
    plan: &'a Plan,
}

impl Task<'_> {
    /// The proxy's namespace is ready before anything is steered there.
    fn carry_out(
        &self,
        node: &mut Place,
        proxy: Option<&mut Place>,
        run: &mut Run,
        failures: &mut Failures,
    ) -> Result<(), KernelError> {
        let settings = self.settings;
        let with_proxy = proxy.is_some();
        if let Some(proxy) = proxy {
            apply::steps(proxy, settings, &self.plan.proxy, failures)?;
            if let Err(error) = nft::apply(&mut proxy.netfilter, &self.plan.proxy_rules) {
                failures.share(rules_error(proxy, error));
            }
        }
        let (before, after) = diff::around_packet_rules(&self.plan.node);
        apply::steps(node, settings, before, failures)?;
        if let Err(error) = self.node_rules(node, with_proxy, run) {
            failures.share(error);
        }
        // A pod whose packet rules were refused gets no route either.
        let taken = |step: &&Step| {
            let pod = step.owner.as_ref().and_then(Owner::pod);
            !pod.is_some_and(|uid| run.refused.contains(uid))
        };
        let after: Vec<Step> = after.iter().filter(taken).cloned().collect();
        apply::steps(node, settings, &after, failures)
    }

    /// One transaction. If the kernel does not take it because of some pods,
    /// another one without them.
    fn node_rules(
        &self,
        node: &mut Place,
        with_proxy: bool,
        run: &mut Run,
    ) -> Result<(), KernelError> {
        let mut pods: BTreeMap<PodUid, Pod> = self.plan.steered.clone();
        let mut changes = self.plan.node_rules.clone();
        loop {
            let error = match nft::apply(&mut node.netfilter, &changes) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let culprits = culprits(&error, &pods);
            if culprits.is_empty() {
                return Err(rules_error(node, error));
            }
            for (uid, words) in culprits {
                pods.remove(&uid);
                run.failed.insert(uid.clone(), PodError::Nft(words.into()));
                run.refused.insert(uid);
            }
            let (settings, wanted) = (self.settings, self.wanted);
            changes = observe::node_rules(settings, wanted, self.picture, with_proxy, &pods);
        }
    }
}

/// The pods whose changes the kernel refused; none if others were refused too.
fn culprits(error: &NftError, pods: &BTreeMap<PodUid, Pod>) -> Vec<(PodUid, String)> {
    let NftError::Denied(denied) = error else {
        return Vec::new();
    };
    let words = denied.iter().map(|denied| {
        let words = format!("{}: {}", denied.change.describe(), denied.refused);
        (&denied.change, words)
    });
    blame(words, pods)
}

fn blame<'a>(
    denied: impl Iterator<Item = (&'a Change, String)>,
    pods: &BTreeMap<PodUid, Pod>,
) -> Vec<(PodUid, String)> {
    let culprits = denied.map(|(change, words)| Some((change.pod(pods)?.clone(), words)));
    culprits.collect::<Option<Vec<_>>>().unwrap_or_default()
}

pub(super) fn rules_error(place: &Place, error: NftError) -> KernelError {
    KernelError::Nft {
        place: place.side.name(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Link, nft::Ruleset};

    fn pod(index: u32, address: &str) -> Pod {
        Pod {
            link: Link {
                index,
                name: format!("v{index}"),
            },
            addresses: BTreeSet::from([address.parse().unwrap()]),
        }
    }

    #[test]
    fn a_refusal_is_the_pods_only_if_every_change_is() {
        let settings = Settings::default();
        let uid = PodUid::new("one").unwrap();
        let one = pod(1, "10.0.0.1");
        let pods = BTreeMap::from([
            (uid.clone(), one.clone()),
            (PodUid::new("two").unwrap(), pod(2, "10.0.0.2")),
        ]);
        let wanted = nft::pod_ruleset(&settings, &one, true);
        let changes = nft::plan(&wanted, &Ruleset::default());
        let own = changes.iter().filter(|change| change.pod(&pods).is_some());
        let own = own.map(|change| (change, change.describe()));
        let all = changes.iter().map(|change| (change, change.describe()));
        let names: BTreeSet<_> = blame(own, &pods).into_iter().map(|(uid, _)| uid).collect();
        assert_eq!(names, BTreeSet::from([uid]));
        assert!(blame(all, &pods).is_empty());
    }

    #[test]
    fn the_kernel_can_be_given_to_a_thread() {
        fn sendable<T: Send>() {}
        sendable::<Kernel>();
        sendable::<crate::Watch>();
    }
}
