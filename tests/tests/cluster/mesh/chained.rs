//! The shim in the primary network's own list, in folders that are found out.

use sluice_tests::{
    cluster::{Cluster, Node, SETTLE},
    lab::wait,
};

use super::upgrade::{assert_arrived, newcomer, while_held};

const FOLDER: &str = "/etc/cni/net.d";
const PRIMARY: &str = "10-pods.conflist";

/// The way in changes while pods are captured and others start, there and back; in
/// the end the primary's list is as it was, byte for byte.
pub(super) fn chained(cluster: &mut Cluster) {
    while_held(cluster, |cluster| {
        let before: Vec<String> = cluster.nodes.iter().map(primary).collect();
        cluster.upgrade_sluice(&["cni.istioOwnedCNIConfig=false", "cni.discover=true"]);
        for node in &cluster.nodes {
            wait::value("the shim to be in the primary's list", SETTLE, || {
                let (list, names) = (primary(node), node.run("ls", &[FOLDER]));
                if list.contains("sluice-cni") && names.trim() == PRIMARY {
                    Ok(())
                } else {
                    Err(format!("{}: {names}\n{list}", node.name))
                }
            });
        }
        cluster.wait_capture_ready();
        let status = cluster
            .agent("na", &["status"])
            .unwrap_or_else(|error| error);
        assert!(status.contains("config.toml"), "{status}");
        newcomer(cluster);
        assert_arrived(cluster);
        cluster.roll_back_sluice();
        cluster.wait_capture_ready();
        newcomer(cluster);
        assert_arrived(cluster);
        for (node, before) in cluster.nodes.iter().zip(&before) {
            wait::value("the primary's list to be as it was", SETTLE, || {
                let (list, names) = (primary(node), node.run("ls", &[FOLDER]));
                if list == *before && names.contains("02-sluice.conflist") {
                    Ok(())
                } else {
                    Err(format!("{}: {names}\n{list}", node.name))
                }
            });
        }
    });
}

fn primary(node: &Node) -> String {
    node.run("cat", &[&format!("{FOLDER}/{PRIMARY}")])
}
