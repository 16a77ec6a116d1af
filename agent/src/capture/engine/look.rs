//! Looks without changing: CHECK and explain.

use std::{collections::BTreeSet, time::Instant};

use sluice_kernel::model::{NetnsId, Pod, PodUid, Repair};

use super::Engine;
use crate::{
    capture::{
        CheckError, Explained, LookError,
        journal::Entry,
        kernel::{Fault, Kernel},
        sandbox::Sandbox,
    },
    desired::{Intent, Wanted},
};

impl<K: Kernel> Engine<K> {
    /// Whether what ADD promised still holds.
    pub(super) fn check(&mut self, sandbox: &Sandbox) -> Result<(), CheckError> {
        let Some(desired) = self.channels.desired.borrow().clone() else {
            return Err(CheckError::NotReady {
                reason: "the agent has no desired state yet".into(),
            });
        };
        let entry = self.memory.entries.get(&sandbox.container_id);
        let answer = entry.and_then(|entry| entry.intent.as_ref());
        let intent = sandbox.intent_in(&desired).or(answer);
        let (Some(entry), Some(intent)) = (entry, intent) else {
            let promised = intent.is_some_and(is_promised) || (entry.is_none() && intent.is_none());
            let container_id = sandbox.container_id.clone();
            return if promised {
                Err(CheckError::NotFound { container_id })
            } else {
                Ok(())
            };
        };
        if !is_promised(intent) {
            return Ok(());
        }
        let (uid, netns) = (intent.uid.clone(), entry.netns.clone());
        let name = intent.full_name();
        let pod = self.promised(&uid, &name)?;
        same_place(sandbox, entry, &pod, &name)?;
        self.check_kernel(&uid, netns.as_ref(), &name)
    }

    /// The pod as it was programmed.
    fn promised(&self, uid: &PodUid, name: &str) -> Result<Pod, CheckError> {
        if let Some(pod) = self.steering.node.pods.get(uid) {
            return Ok(pod.clone());
        }
        let status = self.channels.status.borrow();
        let why = status.pods.get(uid).map(|pod| pod.message.clone());
        Err(CheckError::Broken {
            reason: format!("pod {name} is not captured: {}", why.unwrap_or_default()),
        })
    }

    fn check_kernel(
        &mut self,
        uid: &PodUid,
        netns: Option<&NetnsId>,
        name: &str,
    ) -> Result<(), CheckError> {
        let broken = |reason: String| Err(CheckError::Broken { reason });
        if let Some(netns) = netns
            && !self.steering.kernel.netns_alive(netns)
        {
            let path = netns.path.display();
            return broken(format!(
                "the network namespace {path} of pod {name} is gone"
            ));
        }
        if self.steering.look_at_proxies() {
            self.due = Some(Instant::now());
        }
        if let Some(reason) = self.steering.proxy_state().why_not() {
            return Err(CheckError::NotReady { reason });
        }
        let steering = &mut self.steering;
        let audit = steering.kernel.audit(&steering.node).map_err(kernel)?;
        if audit.pods.get(uid) == Some(&true) {
            return Ok(());
        }
        // It is mended at once; the runtime is told all the same.
        self.due = Some(Instant::now());
        broken(format!(
            "pod {name} is not captured as it was: {}",
            in_words(&audit.differences, uid)
        ))
    }

    /// One pod: its status, and what is found in the kernel right now.
    pub(super) fn explain(&mut self, uid: &PodUid) -> Result<Explained, LookError> {
        let status = self.channels.status.borrow().pods.get(uid).cloned();
        let status = status.ok_or_else(|| LookError::UnknownPod { uid: uid.clone() })?;
        let steering = &mut self.steering;
        let Some(pod) = steering.node.pods.get(uid) else {
            return Ok(Explained {
                status,
                evidence: Vec::new(),
                commands: Vec::new(),
            });
        };
        let commands = steering.kernel.commands(pod);
        let evidence = steering
            .kernel
            .explain(&steering.node, uid)
            .map_err(LookError::Kernel)?;
        Ok(Explained {
            status,
            evidence,
            commands,
        })
    }
}

fn is_promised(intent: &Intent) -> bool {
    intent.wanted == Wanted::Captured && !intent.host_network
}

/// Whether the runtime still speaks of what was captured.
fn same_place(sandbox: &Sandbox, entry: &Entry, pod: &Pod, name: &str) -> Result<(), CheckError> {
    let unknown: BTreeSet<String> = sandbox
        .addresses
        .difference(&pod.addresses)
        .map(ToString::to_string)
        .collect();
    if let Some(address) = unknown.first() {
        return Err(CheckError::Broken {
            reason: format!("address {address} of pod {name} is not captured"),
        });
    }
    if entry.sandbox.netns != sandbox.netns {
        return Err(CheckError::Broken {
            reason: format!(
                "pod {name} was added in {} and is checked in {}",
                entry.sandbox.netns.display(),
                sandbox.netns.display()
            ),
        });
    }
    Ok(())
}

fn kernel(fault: Fault) -> CheckError {
    CheckError::Kernel {
        reason: fault.message,
    }
}

/// The differences that matter to a pod: its own and the shared ones.
fn in_words(differences: &[Repair], uid: &PodUid) -> String {
    let words: Vec<String> = differences
        .iter()
        .filter(|repair| repair.pod.as_ref().is_none_or(|pod| pod == uid))
        .take(8)
        .map(|repair| format!("{} {}", repair.kind, repair.object))
        .collect();
    if words.is_empty() {
        return "an object of it is missing".into();
    }
    words.join("; ")
}
