//! Proxies that were there before the agent, found without an ADD.

use std::{collections::BTreeSet, error::Error, time::Instant};

use super::{Engine, fresh};
use crate::{
    capture::{
        kernel::Kernel,
        sandbox::Sandbox,
        search::{Found, Searched},
    },
    desired::{Intent, Wanted},
};

impl<K: Kernel> Engine<K> {
    /// Takes over what was found, as if an ADD had told of it.
    pub(super) fn searched(&mut self, searched: Searched) {
        if let Some(search) = &mut self.search {
            search.told(&searched);
        }
        for found in searched.found {
            self.take_found(found);
        }
        self.due = Some(Instant::now());
    }

    fn take_found(&mut self, found: Found) {
        let desired = self.channels.desired.borrow().clone();
        let intent = desired.as_deref().and_then(|all| all.pods.get(&found.uid));
        let Some(intent) = intent.filter(|intent| intent.wanted == Wanted::Proxy) else {
            return;
        };
        let kernel = &self.steering.kernel;
        let lives = |netns| kernel.netns_alive(netns);
        let told =
            self.memory.entries.values().any(|entry| {
                entry.sandbox.is_of(intent) && entry.netns.as_ref().is_some_and(&lives)
            });
        // An ADD was quicker, or it has gone meanwhile.
        if told || !lives(&found.netns) {
            return;
        }
        let sandbox = sandbox(intent, &found);
        tracing::info!(
            pod = sandbox.pod(),
            netns = %sandbox.netns.display(),
            "found the network namespace of a proxy that was there before"
        );
        let order = self.memory.next_order();
        let entry = fresh(sandbox, Some(found.uid), Some(found.netns), order);
        if let Err(error) = self.memory.put(entry) {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot write the journal; the proxy is looked for again"
            );
        }
    }
}

/// The sandbox as far as it matters. Its container is not known: when it is
/// gone, so is its namespace.
fn sandbox(intent: &Intent, found: &Found) -> Sandbox {
    let addresses: BTreeSet<_> = intent.addresses.clone();
    Sandbox {
        container_id: format!("found-{}", intent.uid),
        ifname: "eth0".into(),
        network: String::new(),
        netns: found.netns.path.clone(),
        pod_uid: intent.uid.as_str().into(),
        namespace: intent.namespace.clone(),
        name: intent.name.clone(),
        host_link: None,
        addresses,
        standalone: false,
    }
}
