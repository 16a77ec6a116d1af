//! Removes everything of ours.

use super::{Kernel, reconcile::rules_error};
use crate::{
    apply::{self, Failures},
    diff,
    error::KernelError,
    layout::{self, LinkStep},
    model::{NetnsId, Repair, Settings},
    netns::{self, Netns},
    nft::{self, Ruleset},
    place::{Place, Side},
    state::Wanted,
    sysctl::Watched,
};

impl Kernel {
    /// Removes everything of ours from the node's and, if it can be reached,
    /// the proxy's namespace. What was changed is returned.
    pub fn cleanup(&mut self, proxy: Option<&NetnsId>) -> Result<Vec<Repair>, KernelError> {
        self.known = None;
        self.sysctls = Watched::default();
        self.listeners = None;
        let mut repairs = Vec::new();
        // Pods are let go before the links: with the links gone first they
        // would be refused for a moment.
        release(&self.settings, &mut self.node, &mut repairs)?;
        unlink(&self.settings, &mut self.node, &mut repairs)?;
        let previous = self.last_proxy.take();
        let reachable = |id: &&NetnsId| netns::alive(id);
        for id in previous.iter().chain(proxy).filter(reachable) {
            let netns = Netns::open_same(id).map_err(KernelError::ProxyNetns)?;
            leave_proxy(&self.settings, netns, &mut repairs)?;
        }
        Ok(repairs)
    }
}

/// Removes everything of ours from the namespace of a proxy that is not used
/// any more.
pub(super) fn leave_proxy(
    settings: &Settings,
    netns: Netns,
    repairs: &mut Vec<Repair>,
) -> Result<(), KernelError> {
    let mut place = Place::open(Side::Proxy, netns)?;
    release(settings, &mut place, repairs)?;
    unlink(settings, &mut place, repairs)
}

fn release(
    settings: &Settings,
    place: &mut Place,
    repairs: &mut Vec<Repair>,
) -> Result<(), KernelError> {
    let found = place.routing(settings)?;
    let steps = diff::plan(&Wanted::new(), &found);
    let changes = nft::plan(&Ruleset::default(), &place.ruleset(settings)?);
    let (before, after) = diff::around_packet_rules(&steps);
    let mut failures = Failures::default();
    apply::steps(place, settings, before, &mut failures)?;
    if let Err(error) = nft::apply(&mut place.netfilter, &changes) {
        failures.share(rules_error(place, error));
    }
    apply::steps(place, settings, after, &mut failures)?;
    repairs.extend(steps.iter().map(|step| Repair {
        kind: step.object.kind(),
        object: step.to_string(),
        pod: None,
    }));
    repairs.extend(changes.iter().map(|change| Repair {
        kind: "nft",
        object: change.describe(),
        pod: None,
    }));
    match failures.shared {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn unlink(
    settings: &Settings,
    place: &mut Place,
    repairs: &mut Vec<Repair>,
) -> Result<(), KernelError> {
    let links = place.links()?;
    let steps = layout::plan_links(settings, &links, &[], None);
    apply::links(settings, place, None, 0, &steps)?;
    repairs.extend(steps.iter().map(|step: &LinkStep| Repair {
        kind: "link",
        object: step.describe(settings),
        pod: None,
    }));
    Ok(())
}
