//! What the engine needs of the kernel, in the words of the plan.

#[cfg(test)]
pub(crate) mod fake;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    future::Future,
    io,
    net::IpAddr,
    path::Path,
};

use sluice_kernel::model::{Evidence, Link, NetnsId, Node, Pod, PodUid, Refusal, Repair, Settings};

use crate::error::chain;

/// What the kernel could not do: what was tried, on what, and why it failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub message: String,
    /// Worth trying again without anything being changed first.
    pub transient: bool,
}

/// What a reconcile did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Everything that was changed.
    pub repairs: Vec<Repair>,
    /// Every pod of the node that was asked for.
    pub pods: BTreeMap<PodUid, Result<(), Fault>>,
}

/// What a look found.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// What a reconcile would change.
    pub differences: Vec<Repair>,
    /// Per pod whether every object of it is there.
    pub pods: BTreeMap<PodUid, bool>,
}

/// Tells that something in the node's or the proxy's namespace may have changed.
pub trait Changes: Send + 'static {
    /// Waits for the next change. An error ends the watch; a new one is made.
    fn changed(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// The kernel. Every method blocks briefly.
pub trait Kernel: Send + 'static {
    type Changes: Changes;

    fn settings(&self) -> &Settings;
    /// Node-wide facts that forbid capture; changes nothing.
    fn preflight(&mut self, node: &Node) -> Result<Vec<Refusal>, Fault>;
    /// The host-side link of a pod, by name if one is given, else by the route
    /// to its addresses. It leads into `netns`, if that is known and still there.
    fn locate(
        &mut self,
        hint: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
        netns: Option<&NetnsId>,
    ) -> Result<Link, Fault>;
    /// The links that lead into a namespace, each with the addresses that the
    /// node routes to it alone.
    fn attached(&mut self, netns: &NetnsId) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, Fault>;
    /// Whether the link is still there under the same index and name.
    fn link_alive(&mut self, link: &Link) -> Result<bool, Fault>;
    /// Every link that is there.
    fn links(&mut self) -> Result<BTreeSet<Link>, Fault>;
    /// The network namespace that a path leads to.
    fn netns_id(&self, path: &Path) -> Result<NetnsId, Fault>;
    /// Whether the path still leads to the same namespace.
    fn netns_alive(&self, id: &NetnsId) -> bool;
    /// Whether the path leads nowhere, or to another namespace than `id`. An
    /// error where that cannot be told.
    fn netns_gone(&self, path: &Path, id: Option<&NetnsId>) -> Result<bool, Fault>;
    /// The needed ports that are listened on in the proxy's namespace.
    fn listening(&mut self, proxy: &NetnsId) -> Result<BTreeSet<u16>, Fault>;
    /// Makes the kernel what `node` says, and reads it back.
    fn reconcile(&mut self, node: &Node) -> Result<Outcome, Fault>;
    /// Brings up one pod of `node` and reads it back.
    fn capture(&mut self, node: &Node, uid: &PodUid) -> Result<(), Fault>;
    /// Takes down one pod that `node` does not have any more, and reads that
    /// back. False if more has to be looked at.
    fn release(&mut self, node: &Node, pod: &Pod) -> Result<bool, Fault>;
    /// Removes everything of ours from the node's namespace and this proxy's.
    /// What was removed is returned.
    fn cleanup(&mut self, proxy: Option<&NetnsId>) -> Result<Vec<Repair>, Fault>;
    /// Looks only.
    fn audit(&mut self, node: &Node) -> Result<Audit, Fault>;
    fn explain(&mut self, node: &Node, uid: &PodUid) -> Result<Vec<Evidence>, Fault>;
    /// Native commands that list what a pod's capture consists of.
    fn commands(&self, pod: &Pod) -> Vec<String>;
    /// Addresses that rules of ours hold right now.
    fn steered(&mut self) -> Result<BTreeSet<IpAddr>, Fault>;
    /// Cheap look at what the kernel announces no changes of.
    fn sysctls_ok(&mut self) -> bool;
    /// Must be called with a tokio runtime entered.
    fn watch(&self, proxy: Option<&NetnsId>) -> Result<Self::Changes, Fault>;
}

/// Removes everything of ours from the node and these proxies, those that are
/// still there, and looks that nothing is left.
pub fn clean<K: Kernel>(kernel: &mut K, proxies: &[NetnsId]) -> Result<Vec<Repair>, Fault> {
    let living = proxies.iter().filter(|id| kernel.netns_alive(id));
    // The node's own part goes with the first; without a proxy, alone.
    let mut rounds: Vec<Option<&NetnsId>> = living.map(Some).collect();
    if rounds.is_empty() {
        rounds.push(None);
    }
    let mut removed = Vec::new();
    for proxy in &rounds {
        removed.extend(kernel.cleanup(*proxy)?);
    }
    let mut left = Vec::new();
    for proxy in &rounds {
        left.extend(kernel.cleanup(*proxy)?);
    }
    if left.is_empty() {
        return Ok(removed);
    }
    let objects: Vec<_> = left.into_iter().map(|repair| repair.object).collect();
    Err(Fault::transient(format!(
        "still there after removing it: {}; something else makes it again",
        objects.join(", ")
    )))
}

/// Whether a difference means that somebody changed what was programmed. What
/// only follows the node's own addresses is no such thing.
pub fn is_tampering(repair: &Repair) -> bool {
    let follows = [" local4 ", " local6 "];
    repair.kind != "nft" || !follows.iter().any(|set| repair.object.contains(set))
}

impl Fault {
    /// Something that stays as it is until somebody changes something.
    pub fn lasting(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            transient: false,
        }
    }

    /// Something that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            transient: true,
        }
    }

    /// The words of an error and of everything that caused it.
    pub fn of(error: &dyn Error, transient: bool) -> Self {
        Self {
            message: chain(error),
            transient,
        }
    }
}
