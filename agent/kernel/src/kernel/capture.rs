//! The fast path: one pod more, everything else as it was.

use super::Kernel;
use crate::{
    address,
    apply::{self, Failures},
    diff::{self, Step, Verb},
    error::PodError,
    layout::{self, Ground},
    link,
    model::{Node, Pod, PodUid},
    netns,
    nft::{self, Ruleset},
    observe,
    route::{self, Listing},
    state::{Family, Found, Object, Owner, Wanted},
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
        let observed = self.pod_rules(pod, ipv6)?;
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
        let verified = self.pod_rules(pod, ipv6)? == *rules
            && self.pod_routes(pod)? == wanted.keys().cloned().collect();
        Ok(verified)
    }

    fn pod_rules(&mut self, pod: &Pod, ipv6: bool) -> Result<Ruleset, PodError> {
        let observed = nft::observe_pod(&mut self.node.netfilter, &self.settings, pod, ipv6);
        observed
            .map_err(self.node.read("packet rules"))
            .map_err(PodError::Node)
    }

    fn pod_routes(&mut self, pod: &Pod) -> Result<Found, PodError> {
        let mut found = Found::new();
        let table = Listing::Table(self.settings.pod_table);
        for family in Family::BOTH {
            let mut own = pod.addresses.iter().map(|address| Family::of(*address));
            if own.any(|of| of == family) {
                let routes = route::list(&mut self.node.route, family, table);
                let routes = routes
                    .map_err(self.node.read("routes"))
                    .map_err(PodError::Node)?;
                let ours = routes.into_iter().filter(|fact| {
                    fact.protocol == self.settings.protocol
                        && pod.addresses.contains(&fact.route.destination.0)
                });
                found.extend(ours.map(|fact| Object::Route(fact.route)));
            }
        }
        Ok(found)
    }
}
