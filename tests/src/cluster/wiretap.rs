//! What is seen between the nodes: every packet on a node's port of the bridge.

use crate::lab::{unique_id, wire::Wire};

use super::Cluster;

impl Cluster {
    /// Records what passes between the first node and everyone else, TCP and UDP.
    pub fn tap(&self) -> Wire {
        let node = &self.nodes[0];
        let name = format!("tap-{}", unique_id());
        // The node's port of the bridge has the node's name.
        let netns = &self.control.netns;
        Wire::record(netns, &node.name, "tcp or udp", self.dir(), &name)
    }
}
