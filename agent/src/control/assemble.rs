//! Messages of a stream become complete states, or are rejected. Pure.
//!
//! Nothing of a batch that is rejected stays: the state held is always one that
//! arrived whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sluice_kernel::model::PodUid;
use sluice_proto::capture::v1 as proto;

use super::decode::{self, InvalidState};
use crate::desired::{Desired, Intent, Origin, Revision};

/// Bounds of one node's state. Kubernetes' own recommendation is 110 pods.
pub const MOST_PODS: usize = 10_000;
pub const MOST_NAMESPACES: usize = 10_000;

/// Takes the messages of one stream after the other.
#[derive(Debug)]
pub struct Assembler {
    held: Option<Arc<Desired>>,
    last_sequence: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nothing of this stream counts yet.
    Waiting,
    /// Some parts of a snapshot have arrived.
    Partial(Snapshot),
    /// `held` is what the controller believes we have: deltas apply to it.
    Following,
    /// A batch was rejected: what follows on this stream builds on it.
    Lost,
}

#[derive(Debug)]
struct Snapshot {
    revision: Revision,
    pods: BTreeMap<PodUid, Intent>,
    namespaces: BTreeMap<String, bool>,
    leave: bool,
}

/// What a message that was accepted came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// More parts must follow.
    Part,
    /// A complete state.
    State(Arc<Desired>),
}

/// Why a message was not taken.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejected {
    #[error(transparent)]
    Invalid(#[from] InvalidState),
    #[error("revision {offered} is older than {held}, which this node already holds")]
    Older { held: Shown, offered: Shown },
    #[error("message {got} came where {expected} was expected")]
    Gap { expected: u64, got: u64 },
    #[error("a delta came before a complete snapshot")]
    EarlyDelta,
    #[error("a batch of this stream was rejected before; nothing after it counts")]
    Lost,
    #[error(
        "the snapshot ends with {pods} pods and {namespaces} namespaces, and says it has \
         {total_pods} and {total_namespaces}"
    )]
    Totals {
        pods: usize,
        namespaces: usize,
        total_pods: u32,
        total_namespaces: u32,
    },
}

/// A revision in an error.
#[derive(Debug, Eq, PartialEq)]
pub struct Shown(Revision);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pods {}, namespaces {}", self.0.pods, self.0.namespaces)
    }
}

impl Rejected {
    /// The reason as the protocol knows it.
    pub fn reason(&self) -> proto::RejectionReason {
        match self {
            Self::Invalid(_) => proto::RejectionReason::Invalid,
            Self::Older { .. } => proto::RejectionReason::Older,
            Self::Gap { .. } | Self::EarlyDelta | Self::Lost | Self::Totals { .. } => {
                proto::RejectionReason::Incomplete
            }
        }
    }
}

impl Assembler {
    /// Starts with the last good state, if there is one.
    pub fn new(held: Option<Arc<Desired>>) -> Self {
        Self {
            held,
            last_sequence: 0,
            phase: Phase::Waiting,
        }
    }

    /// The last state that was complete.
    pub fn held(&self) -> Option<&Arc<Desired>> {
        self.held.as_ref()
    }

    /// The newest revision seen.
    pub fn newest(&self) -> Option<&Revision> {
        self.held.as_ref()?.revision.as_ref()
    }

    /// A new stream begins: it owes a snapshot.
    pub fn restart(&mut self) {
        self.last_sequence = 0;
        self.phase = Phase::Waiting;
    }

    /// Takes the next message. After a rejection the state held is as before,
    /// and the stream is of no use any more.
    pub fn take(&mut self, message: proto::StreamCaptureStateResponse) -> Result<Taken, Rejected> {
        let phase = std::mem::replace(&mut self.phase, Phase::Lost);
        let expected = self.last_sequence.saturating_add(1);
        self.last_sequence = message.sequence;
        if matches!(phase, Phase::Lost) {
            return Err(Rejected::Lost);
        }
        if message.sequence != expected {
            return Err(Rejected::Gap {
                expected,
                got: message.sequence,
            });
        }
        let revision = decode::revision(message.revision)?;
        self.refuse_older(&revision)?;
        let leave = message.node.map(|node| node.leave);
        let (phase, taken) = match message.batch.ok_or(InvalidState::Empty)? {
            proto::stream_capture_state_response::Batch::Snapshot(part) => {
                self.snapshot(phase, revision, part, leave)?
            }
            proto::stream_capture_state_response::Batch::Delta(delta) => {
                self.delta(&phase, revision, delta, leave)?
            }
        };
        if let Taken::State(state) = &taken {
            self.held = Some(state.clone());
        }
        self.phase = phase;
        Ok(taken)
    }

    fn refuse_older(&self, offered: &Revision) -> Result<(), Rejected> {
        let older = |held: &&Revision| {
            held.source == offered.source
                && (offered.pods < held.pods || offered.namespaces < held.namespaces)
        };
        match self.newest().filter(older) {
            None => Ok(()),
            Some(held) => Err(Rejected::Older {
                held: Shown(held.clone()),
                offered: Shown(offered.clone()),
            }),
        }
    }

    fn snapshot(
        &self,
        phase: Phase,
        revision: Revision,
        part: proto::SnapshotPart,
        leave: Option<bool>,
    ) -> Result<(Phase, Taken), Rejected> {
        let mut snapshot = match phase {
            Phase::Partial(snapshot) if snapshot.revision == revision => snapshot,
            Phase::Partial(_) => return Err(InvalidState::MixedRevisions.into()),
            Phase::Waiting | Phase::Following | Phase::Lost => Snapshot {
                revision,
                pods: BTreeMap::new(),
                namespaces: BTreeMap::new(),
                // Not said anew, it is as it was.
                leave: self.held.as_ref().is_some_and(|held| held.leave),
            },
        };
        snapshot.leave = leave.unwrap_or(snapshot.leave);
        snapshot.add(part.pods, part.namespaces)?;
        let Some(end) = part.end else {
            return Ok((Phase::Partial(snapshot), Taken::Part));
        };
        snapshot.agrees(end)?;
        Ok((Phase::Following, Taken::State(snapshot.complete())))
    }

    fn delta(
        &self,
        phase: &Phase,
        revision: Revision,
        delta: proto::Delta,
        leave: Option<bool>,
    ) -> Result<(Phase, Taken), Rejected> {
        let (Phase::Following, Some(held)) = (phase, &self.held) else {
            return Err(Rejected::EarlyDelta);
        };
        if let Some(before) = held
            .revision
            .as_ref()
            .filter(|held| held.source != revision.source)
        {
            return Err(Rejected::Invalid(InvalidState::SourceChanged {
                held: before.source.clone(),
                offered: revision.source,
            }));
        }
        let mut changed = Snapshot {
            revision,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            leave: leave.unwrap_or(held.leave),
        };
        changed.add(delta.pods, delta.namespaces)?;
        let removed_pods = removed(delta.removed_pod_uids, &changed.pods)?;
        let removed_namespaces = removed_names(delta.removed_namespaces, &changed.namespaces)?;

        let mut pods = held.pods.clone();
        pods.retain(|uid, _| !removed_pods.contains(uid));
        pods.append(&mut changed.pods);
        let mut namespaces = held.namespaces.clone();
        namespaces.retain(|name, _| !removed_namespaces.contains(name));
        namespaces.append(&mut changed.namespaces);
        let next = Snapshot {
            revision: changed.revision,
            pods,
            namespaces,
            leave: changed.leave,
        };
        next.bounded()?;
        Ok((Phase::Following, Taken::State(next.complete())))
    }
}

impl Snapshot {
    fn add(
        &mut self,
        pods: Vec<proto::PodIntent>,
        namespaces: Vec<proto::NamespaceIntent>,
    ) -> Result<(), InvalidState> {
        for pod in pods {
            let intent = decode::intent(pod)?;
            let uid = intent.uid.clone();
            if self.pods.insert(uid.clone(), intent).is_some() {
                return Err(InvalidState::PodTwice { uid });
            }
        }
        for namespace in namespaces {
            let name = decode::namespace(namespace.name)?;
            if self
                .namespaces
                .insert(name.clone(), namespace.enrolled)
                .is_some()
            {
                return Err(InvalidState::NamespaceTwice { name: name.into() });
            }
        }
        self.bounded()
    }

    fn bounded(&self) -> Result<(), InvalidState> {
        let bounds = [
            ("pods", self.pods.len(), MOST_PODS),
            ("namespaces", self.namespaces.len(), MOST_NAMESPACES),
        ];
        match bounds.into_iter().find(|(_, count, most)| count > most) {
            None => Ok(()),
            Some((what, _, most)) => Err(InvalidState::TooLarge { what, most }),
        }
    }

    fn agrees(&self, end: proto::SnapshotEnd) -> Result<(), Rejected> {
        let agree = usize::try_from(end.total_pods) == Ok(self.pods.len())
            && usize::try_from(end.total_namespaces) == Ok(self.namespaces.len());
        if agree {
            return Ok(());
        }
        Err(Rejected::Totals {
            pods: self.pods.len(),
            namespaces: self.namespaces.len(),
            total_pods: end.total_pods,
            total_namespaces: end.total_namespaces,
        })
    }

    fn complete(self) -> Arc<Desired> {
        Arc::new(Desired {
            origin: Origin::Controller,
            revision: Some(self.revision),
            pods: self.pods,
            namespaces: self.namespaces,
            leave: self.leave,
        })
    }
}

fn removed(
    uids: Vec<String>,
    changed: &BTreeMap<PodUid, Intent>,
) -> Result<BTreeSet<PodUid>, InvalidState> {
    let mut removed = BTreeSet::new();
    for text in uids {
        let uid = decode::uid(&text)?;
        if changed.contains_key(&uid) || !removed.insert(uid.clone()) {
            return Err(InvalidState::PodTwice { uid });
        }
    }
    Ok(removed)
}

fn removed_names(
    names: Vec<String>,
    changed: &BTreeMap<String, bool>,
) -> Result<BTreeSet<String>, InvalidState> {
    let mut removed = BTreeSet::new();
    for text in names {
        let name = decode::namespace(text)?;
        if changed.contains_key(&name) || !removed.insert(name.clone()) {
            return Err(InvalidState::NamespaceTwice { name: name.into() });
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
