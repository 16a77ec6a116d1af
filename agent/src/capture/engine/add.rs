//! A pod's sandbox comes and goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use sluice_kernel::model::{Link, NetnsId, PodUid};

use super::{Engine, fresh, pass::Cause};
use crate::{
    capture::{
        AddError, Added, Ticket,
        journal::{Entry, JournalError},
        kernel::Kernel,
        plan::is_wanted,
        sandbox::Sandbox,
    },
    desired::{Desired, Intent, Wanted},
    error::chain,
    status::{PodState, Reason},
};

impl<K: Kernel> Engine<K> {
    /// One attempt to capture the pod of a sandbox. On failure the sandbox is
    /// as unknown as before, and nothing is left in the kernel.
    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        sandbox: Sandbox,
        answer: Option<Intent>,
    ) -> Result<Added, AddError> {
        let id = sandbox.container_id.clone();
        if self.memory.is_buried(&id, ticket) {
            return Err(AddError::Deleted { container_id: id });
        }
        let (desired, intent) = self.intent(&sandbox, answer)?;
        let uid = intent.uid.clone();
        let before = self.memory.entries.get(&id).cloned();
        let (sandbox, netns) = self.vet(sandbox, before.as_ref())?;
        let order = match &before {
            Some(known) => known.order,
            None => self.memory.next_order(),
        };
        let mut entry = fresh(sandbox, Some(uid.clone()), Some(netns), order);
        if let Some(known) = before.as_ref().filter(|known| known.netns == entry.netns) {
            entry.link.clone_from(&known.link);
            entry.digest.clone_from(&known.digest);
        }
        if !desired.pods.contains_key(&uid) {
            entry.intent = Some(intent);
        }
        let forgotten = self.memory.forgotten.contains(&uid);
        if self.steering.is_bereft() {
            self.steering.look_at_proxies();
        }
        self.memory.hold(entry);
        self.give_way(&id, &uid);
        let added = match self.add_alone(&desired, &uid) {
            Some(added) => added,
            None => self.add_among_others(&id, &uid),
        };
        if added.is_err() {
            self.withdraw(&id, before, &uid, forgotten);
        }
        added
    }

    /// What is wanted of the sandbox's pod, if it is to be captured.
    fn intent(
        &self,
        sandbox: &Sandbox,
        answer: Option<Intent>,
    ) -> Result<(Arc<Desired>, Intent), AddError> {
        let Some(desired) = self.channels.desired.borrow().clone() else {
            return Err(AddError::not_ready(
                "the agent has no desired state yet; it waits for the controller",
            ));
        };
        if desired.leave {
            return Err(AddError::not_ready(
                "the node leaves the mesh, and nothing is captured any more",
            ));
        }
        let intent = sandbox.intent_in(&desired).cloned().or(answer);
        match intent {
            Some(intent) if intent.wanted == Wanted::Captured && is_wanted(&intent, false) => {
                Ok((desired, intent))
            }
            Some(intent) => Err(AddError::not_ready(format!(
                "pod {} is not to be captured any more",
                intent.full_name()
            ))),
            None => Err(AddError::not_ready(format!(
                "pod {} ({}) is not known to the agent",
                sandbox.pod(),
                sandbox.pod_uid
            ))),
        }
    }

    /// Whether the sandbox is one that can be captured; with its namespace, and
    /// with what only the kernel says of it.
    fn vet(
        &mut self,
        sandbox: Sandbox,
        before: Option<&Entry>,
    ) -> Result<(Sandbox, NetnsId), AddError> {
        let refused = |reason: String| Err(AddError::Refused { reason });
        if let Some(before) = before
            && before.sandbox.ifname != sandbox.ifname
        {
            return refused(format!(
                "pod {} has a captured interface {} already; a second one ({}) cannot be captured",
                sandbox.pod(),
                before.sandbox.ifname,
                sandbox.ifname
            ));
        }
        if sandbox.addresses.is_empty() && !sandbox.standalone {
            return refused(format!(
                "the CNI result of pod {} has no address; sluice-cni must come after the plugin \
                 that gives it one",
                sandbox.pod()
            ));
        }
        let kernel = &mut self.steering.kernel;
        let netns = kernel.netns_id(&sandbox.netns);
        let netns = netns.map_err(|fault| AddError::Refused {
            reason: format!("the sandbox of pod {}: {fault}", sandbox.pod()),
        })?;
        if !sandbox.standalone {
            return Ok((sandbox, netns));
        }
        let attached = kernel.attached(&netns).map_err(|fault| AddError::Kernel {
            reason: fault.message,
        })?;
        Ok((attach(sandbox, attached)?, netns))
    }

    /// More than this pod is to be changed, so everything is looked at.
    fn add_among_others(&mut self, id: &str, uid: &PodUid) -> Result<Added, AddError> {
        if let Some(entry) = self.memory.entries.get(id) {
            self.memory.write(entry).map_err(AddError::journal)?;
        }
        self.steering.backoff.forget(uid);
        self.pass(Cause::Change);
        let status = self.channels.status.borrow().clone();
        let Some(pod) = status.pods.get(uid) else {
            return Err(AddError::not_ready("the pod is not wanted any more"));
        };
        match (pod.state, &pod.interface) {
            (PodState::Captured, Some(interface)) => Ok(Added {
                uid: uid.clone(),
                interface: interface.clone(),
            }),
            _ => Err(AddError::of(pod.reason, pod.state, pod.message.clone())),
        }
    }

    /// The attempt failed: what it left is taken away.
    fn withdraw(&mut self, id: &str, before: Option<Entry>, uid: &PodUid, forgotten: bool) {
        match before {
            // An earlier ADD of the same sandbox stands.
            Some(before) => {
                if let Err(error) = self.memory.put(before) {
                    tracing::warn!(error = &error as &dyn Error, "cannot write the journal");
                }
                return;
            }
            None => self.memory.remove(id),
        };
        if forgotten {
            self.memory.forgotten.insert(uid.clone());
        }
        if self.steering.node.pods.contains_key(uid) || self.steering.dirty {
            self.pass(Cause::Change);
        }
    }

    /// Takes note of a sandbox that is not to be captured now.
    pub(super) fn note(&mut self, ticket: Ticket, sandbox: Sandbox) {
        let id = sandbox.container_id.clone();
        if self.memory.is_buried(&id, ticket) {
            return;
        }
        if self.memory.entries.contains_key(&id) {
            self.memory.touch(&id);
            return;
        }
        let desired = self.channels.desired.borrow().clone();
        let intent = desired
            .as_deref()
            .and_then(|desired| sandbox.intent_in(desired));
        let matters = intent.is_some_and(|intent| intent.wanted != Wanted::Nothing);
        let uid = intent.map(|intent| intent.uid.clone());
        let netns = self.steering.kernel.netns_id(&sandbox.netns).ok();
        let order = self.memory.next_order();
        if let Err(error) = self.memory.put(fresh(sandbox, uid, netns, order)) {
            tracing::warn!(
                container_id = id,
                error = &error as &dyn Error,
                "cannot write the journal; the sandbox is not noted"
            );
        }
        if matters {
            self.due = Some(Instant::now());
        }
    }

    /// Forgets a sandbox and removes its rules, unless a newer sandbox of the
    /// same pod has taken over.
    pub(super) fn del(&mut self, ticket: Ticket, container_id: String, ifname: &str) {
        let known = self.memory.entries.get(&container_id);
        if known.is_some_and(|entry| !ifname.is_empty() && entry.sandbox.ifname != ifname) {
            return;
        }
        let uid = self.forget(&container_id);
        self.memory.bury(container_id, ticket);
        if uid.is_some_and(|uid| !self.release_alone(&uid)) {
            self.pass(Cause::Change);
        }
    }

    /// Forgets a sandbox. Returns its pod if that is without one now.
    pub(super) fn forget(&mut self, container_id: &str) -> Option<PodUid> {
        let forgotten = self.strike(container_id)?;
        if forgotten.has_another {
            // Its rules may have been for this one all the same.
            self.due = Some(Instant::now());
            return None;
        }
        forgotten.uid
    }

    /// Takes a sandbox out of memory and journal; its pod is noted as forgotten
    /// if it has no other.
    pub(super) fn strike(&mut self, container_id: &str) -> Option<Struck> {
        let entry = self.memory.remove(container_id)?;
        let uid = entry.uid.clone().or_else(|| self.uid_of(&entry.sandbox));
        let has_another = self.memory.has_another_of(&entry);
        if !has_another {
            self.memory.forgotten.extend(uid.clone());
        }
        Some(Struck {
            entry,
            uid,
            has_another,
        })
    }

    fn uid_of(&self, sandbox: &Sandbox) -> Option<PodUid> {
        let desired = self.channels.desired.borrow();
        let intent = sandbox.intent_in(desired.as_deref()?)?;
        Some(intent.uid.clone())
    }
}

/// A sandbox as the kernel says that it is attached. Of several links the pod's
/// own cannot be told.
fn attach(
    mut sandbox: Sandbox,
    attached: BTreeMap<Link, BTreeSet<IpAddr>>,
) -> Result<Sandbox, AddError> {
    let names: Vec<_> = attached.keys().map(|link| link.name.clone()).collect();
    let mut routed = attached.into_iter().filter(|(_, it)| !it.is_empty());
    if let (Some((link, addresses)), None) = (routed.next(), routed.next()) {
        sandbox.host_link = Some(link.name);
        sandbox.addresses = addresses;
        sandbox.standalone = false;
        return Ok(sandbox);
    }
    let pod = sandbox.pod();
    let reason = if names.is_empty() {
        format!(
            "no veth link of the node leads into pod {pod}, so what it sends cannot be taken here; \
             use a primary network that attaches pods by veth and routes to each (ptp, Calico)"
        )
    } else {
        format!(
            "of the links that lead into pod {pod} ({}) not just one has host routes to \
             addresses, so the pod's own cannot be told; name sluice-cni before other networks in \
             its annotation, with a primary network that routes to each pod (ptp, Calico)",
            names.join(", ")
        )
    };
    Err(AddError::Refused { reason })
}

/// A sandbox that is not known any more.
pub(super) struct Struck {
    pub(super) entry: Entry,
    pub(super) uid: Option<PodUid>,
    has_another: bool,
}

impl AddError {
    pub(super) fn not_ready(reason: impl Into<String>) -> Self {
        Self::NotReady {
            reason: reason.into(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn journal(error: JournalError) -> Self {
        tracing::warn!(error = &error as &dyn Error, "cannot write the journal");
        Self::not_ready(chain(&error))
    }

    /// What a pod's state means to the runtime that creates it.
    pub(super) fn of(reason: Option<Reason>, state: PodState, message: String) -> Self {
        match (reason, state) {
            (Some(Reason::Kernel), _) => Self::Kernel { reason: message },
            (Some(Reason::AddressTaken | Reason::Preflight), _) | (_, PodState::Unsupported) => {
                Self::Refused { reason: message }
            }
            _ => Self::NotReady { reason: message },
        }
    }
}
