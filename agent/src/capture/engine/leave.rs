//! The node leaves the mesh for good.

use std::collections::BTreeMap;

use sluice_kernel::model::{NetnsId, Node};

use crate::capture::{
    kernel::{Fault, Kernel, clean},
    steering::{Applied, Look, Steering},
    verdict::ReadBack,
};

impl<K: Kernel> Steering<K> {
    /// Removes everything of ours from the kernel, and looks that nothing is
    /// left. No pod is wanted any more.
    pub(in crate::capture) fn leave(&mut self, look: Look) -> Applied {
        if self.gone && look != Look::Resync {
            return Applied::default();
        }
        let proxies: Vec<NetnsId> = self.proxies();
        match clean(&mut self.kernel, &proxies) {
            Ok(repairs) => {
                self.gone = true;
                self.node = Node::default();
                self.read = ReadBack::default();
                self.adopted = None;
                self.dirty = false;
                self.fault = None;
                Applied {
                    repairs,
                    tampering: Vec::new(),
                }
            }
            Err(fault) => {
                tracing::warn!(%fault, "not everything could be removed; the next pass tries again");
                self.gone = false;
                self.stay_held(&fault);
                self.fault = Some(fault);
                Applied::default()
            }
        }
    }

    /// What cannot be read any more is taken to be as it was.
    fn stay_held(&mut self, fault: &Fault) {
        let held = self.node.pods.iter();
        let held = held.filter(|(uid, _)| self.read.steered.contains(*uid));
        self.read.left = held.map(|(uid, pod)| (uid.clone(), pod.clone())).collect();
        self.read.pods = BTreeMap::from_iter(
            self.read
                .left
                .keys()
                .map(|uid| (uid.clone(), Err(fault.clone()))),
        );
    }
}
