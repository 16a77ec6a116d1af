//! The fast path: one pod more or less, everything else as it was.

use super::{Kernel, reconcile::rules_error};
use crate::{
    address,
    apply::{self, Failures},
    diff::{self, Step, Verb},
    error::{KernelError, PodError},
    layout::{self, Ground},
    link,
    model::{Node, Pod, PodUid},
    netns,
    nft::{self, Ruleset},
    observe, route,
    state::{Found, Object, Owner, Wanted},
};

impl Kernel {
    /// Captures one pod that `node` has, and reads back that it is.
    ///
    /// If the shared part has been verified for the same node but for its pods,
    /// nothing but this pod's objects is looked at; else this is a reconcile.
    pub fn capture(&mut self, node: &Node, uid: &PodUid) -> Result<(), PodError> {
        let pod = node.pods.get(uid).ok_or(PodError::NotWanted)?;
        if self.knows(node) && self.capture_only(node, uid, pod)? {
            return Ok(());
        }
        let mut outcome = self.reconcile(node).map_err(PodError::Node)?;
        outcome.pods.remove(uid).unwrap_or(Err(PodError::NotWanted))
    }

    /// Takes away what captured one pod that `node` does not have any more, and
    /// reads back that nothing of it is left.
    ///
    /// False if more has to be looked at: then a reconcile is due.
    pub fn release(&mut self, node: &Node, pod: &Pod) -> Result<bool, KernelError> {
        let claims = |other: &Pod| {
            other.link.name == pod.link.name || !other.addresses.is_disjoint(&pod.addresses)
        };
        let ipv6 = match &self.known {
            Some(known) if !node.pods.values().any(claims) => known.ipv6,
            _ => return Ok(false),
        };
        if !self.knows(node) {
            return Ok(false);
        }
        let remove = self.pod_routes(pod)?.into_iter().map(|object| Step {
            verb: Verb::Remove,
            object,
            owner: None,
        });
        let mut steps: Vec<Step> = remove.collect();
        diff::arrange(&mut steps);
        let mut failures = Failures::default();
        apply::steps(&mut self.node, &self.settings, &steps, &mut failures)?;
        if failures.shared.is_some() {
            return Ok(false);
        }
        let mut nothing = nft::pod_ruleset(&self.settings, pod, ipv6);
        for table in nothing.tables.values_mut() {
            table.chains.clear();
            table.sets.values_mut().for_each(|set| set.elements.clear());
        }
        let observed = self.pod_rules(pod, ipv6)?;
        if observed.tables.is_empty() {
            return Ok(false);
        }
        let changes = nft::plan(&nothing, &observed);
        nft::apply(&mut self.node.netfilter, &changes)
            .map_err(|error| rules_error(&self.node, error))?;
        Ok(self.pod_rules(pod, ipv6)? == nothing && self.pod_routes(pod)?.is_empty())
    }

    /// Whether the shared part is what this node needs.
    fn knows(&self, node: &Node) -> bool {
        self.known.as_ref().is_some_and(|known| {
            let alive = known.proxy.as_ref().map(|proxy| netns::alive(&proxy.netns));
            known.proxy == node.proxy
                && known.tunnel.is_some()
                && known.host_ports == node.host_ports
                && alive == Some(true)
        })
    }

    /// False if more than this pod's own objects has to be looked at.
    fn capture_only(&mut self, node: &Node, uid: &PodUid, pod: &Pod) -> Result<bool, PodError> {
        let Some(known) = &self.known else {
            return Ok(false);
        };
        let ipv6 = known.ipv6;
        let place = &mut self.node;
        let fact = link::by_index(&mut place.route, pod.link.index);
        let fact = fact.map_err(place.read("links")).map_err(PodError::Node)?;
        let links: Vec<_> = fact.into_iter().collect();
        // Other pods' links are not looked at: theirs is another matter.
        let mut accepted = layout::accept(node, &links, ipv6, &Default::default());
        if let Some(error) = accepted.failed.remove(uid) {
            return Err(error);
        }
        let addresses = address::list(&mut place.route, Some(pod.link.index));
        let addresses = addresses
            .map_err(place.read("addresses"))
            .map_err(PodError::Node)?;
        if !observe::local(&self.settings, &links, &addresses).is_subset(&known.local) {
            return Ok(false);
        }
        let ground = Ground {
            settings: &self.settings,
            proxy: known.proxy.as_ref(),
            tunnel: known.tunnel.as_ref(),
            ipv6,
        };
        let wanted: Wanted = layout::node_pod(ground, pod)
            .into_iter()
            .map(|object| (object, Owner::Pod(uid.clone())))
            .collect();
        let rules = nft::pod_ruleset(&self.settings, pod, ipv6);
        self.write(pod, &rules, &wanted, ipv6)
    }

    /// Packet rules first, then the backstops, then the routes; then reads all
    /// of it back.
    fn write(
        &mut self,
        pod: &Pod,
        rules: &Ruleset,
        wanted: &Wanted,
        ipv6: bool,
    ) -> Result<bool, PodError> {
        let observed = self.pod_rules(pod, ipv6).map_err(PodError::Node)?;
        if observed.tables.is_empty() {
            return Ok(false);
        }
        let changes = nft::plan(rules, &observed);
        nft::apply(&mut self.node.netfilter, &changes)
            .map_err(|error| PodError::Nft(error.into()))?;
        // What is there already does no harm; what is there besides is seen below.
        let add = wanted.iter().map(|(object, owner)| Step {
            verb: Verb::Add,
            object: object.clone(),
            owner: Some(owner.clone()),
        });
        let mut steps: Vec<Step> = add.collect();
        diff::arrange(&mut steps);
        let mut failures = Failures::default();
        apply::steps(&mut self.node, &self.settings, &steps, &mut failures)
            .map_err(PodError::Node)?;
        if let Some((_, error)) = failures.pods.pop() {
            return Err(error);
        }
        let there = self.pod_rules(pod, ipv6).map_err(PodError::Node)? == *rules;
        let routes = self.pod_routes(pod).map_err(PodError::Node)?;
        Ok(there && routes == wanted.keys().cloned().collect())
    }

    fn pod_rules(&mut self, pod: &Pod, ipv6: bool) -> Result<Ruleset, KernelError> {
        let observed = nft::observe_pod(&mut self.node.netfilter, &self.settings, pod, ipv6);
        observed.map_err(self.node.read("packet rules"))
    }

    fn pod_routes(&mut self, pod: &Pod) -> Result<Found, KernelError> {
        let settings = &self.settings;
        let routes = route::list_to(&mut self.node.route, settings.pod_table, &pod.addresses);
        let routes = routes.map_err(self.node.read("routes"))?;
        let ours = routes
            .into_iter()
            .filter(|fact| fact.protocol == settings.protocol);
        Ok(ours.map(|fact| Object::Route(fact.route)).collect())
    }
}
