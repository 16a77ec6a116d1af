//! GC: sandboxes that the runtime does not know any more.

use std::collections::BTreeSet;

use super::{Engine, pass::Cause};
use crate::capture::{Ticket, kernel::Kernel, sandbox::Attached};

impl<K: Kernel> Engine<K> {
    /// Forgets the sandboxes of a network that are not valid, as DEL would, and
    /// returns how many those were. An ADD that was not over when the call came
    /// is not in the runtime's list yet: what it made, or makes, stays.
    pub(super) fn collect(
        &mut self,
        ticket: Ticket,
        network: &str,
        valid: &BTreeSet<Attached>,
    ) -> usize {
        let stale = self.memory.stale(ticket, network, valid);
        let mut done = true;
        for id in &stale {
            tracing::info!(
                container_id = id,
                network,
                "the runtime does not know this sandbox any more; it is forgotten"
            );
            let uid = self.forget(id);
            done &= uid.is_none_or(|uid| self.release_alone(&uid));
        }
        if !done {
            self.pass(Cause::Change);
        }
        stale.len()
    }
}
