//! A node whose kernel is not to be had: others have what Sluice needs, or it
//! refuses.

use sluice_tests::{
    cluster::{Cluster, Node, SETTLE, sluice},
    lab::wait,
};

use super::town::{self, MESH};

/// Names a foreign rule between ours.
const RULE: &str = "pref 105 from 10.200.0.0/16 lookup main";

/// Somebody else's rule is where ours are: who comes is refused with the reason and
/// the remedy, who is captured stays so, and so does the other node.
pub(super) fn forbidden(cluster: &mut Cluster) {
    town::ready(cluster);
    let node = cluster.node("na");
    node.run("ip", &[&["rule", "add"], &words(RULE)[..]].concat());
    let undo = || node.run("ip", &[&["rule", "del"], &words(RULE)[..]].concat());
    refused(
        cluster,
        "forbidden",
        &["the node cannot capture", "rule 105", "--node-priorities"],
        "this node cannot capture",
        Some("enabled"),
        undo,
    );
}

/// The kernel has no more room for packet filters where ours was, and somebody has
/// removed ours: nothing can be mended, nobody new is captured by half, and nobody is
/// said to be captured.
pub(super) fn refuses(cluster: &mut Cluster) {
    town::ready(cluster);
    let node = cluster.node("na");
    crowd(cluster, node);
    let undo = || node.run("nft", &["delete table ip crowd"]);
    refused(
        cluster,
        "refused",
        &["cannot be changed", "Argument list too long"],
        "could not be reconciled",
        None,
        undo,
    );
}

/// A pod that comes to na is refused with these words, in its events, until what is
/// in the way is undone. `readyz`: what the agent says meanwhile; `held`: what is
/// said of a pod that was captured before.
fn refused(
    cluster: &Cluster,
    name: &str,
    told: &[&str],
    readyz: &str,
    held: Option<&str>,
    undo: impl Fn() -> String,
) {
    let undo = Undo(undo);
    let node = cluster.node("na");
    let other = format!("{name}-other");
    let tap = cluster.tap();
    // At the latest when the agent looks at the whole node again.
    town::wait_readyz(node, readyz);
    assert!(town::readyz(node).contains("503"), "{}", town::readyz(node));
    let before = pods_of_rules(node);
    cluster.apply(&town::dialer(cluster, MESH, name, "na"));
    cluster.apply(&town::dialer(cluster, MESH, &other, "nb"));
    town::wait_told(cluster, MESH, name, told);
    wait::value("na not to be ready", SETTLE, || {
        match cluster.capture_ready("na") {
            Some((status, message)) if status == "False" && message.len() > 20 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(pods_of_rules(node), before, "something of it is left");
    town::wait_arrived(cluster, &[&other]);
    let nb = cluster.capture_ready("nb").map(|(status, _)| status);
    assert_eq!(nb.as_deref(), Some("True"));
    assert_eq!(cluster.redirection(MESH, "la").as_deref(), held);
    drop(undo);
    cluster.wait_capture_ready();
    town::wait_readyz(node, "200 OK");
    town::wait_arrived(cluster, &[name]);
    town::assert_unread(&tap, &[&format!("{name}.")]);
    // Peers speak plainly to a pod that is not said to be captured.
    if held.is_some() {
        town::assert_unread(&tap, &[&other]);
    }
    town::delete(cluster, MESH, &[name, &other]);
}

/// Later scenarios need the node, whatever becomes of this one.
struct Undo<F: Fn() -> String>(F);

impl<F: Fn() -> String> Drop for Undo<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What routes and link rules there are for pods, in order.
fn pods_of_rules(node: &Node) -> Vec<String> {
    let rules = town::rules(node);
    let mut lines: Vec<String> = rules.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// The kernel takes some thousand base chains per hook. While the agent does not
/// look, all that were free are taken, and then the one of ours.
fn crowd(cluster: &Cluster, node: &Node) {
    let agent = cluster.agent_of("na");
    let asleep = cluster.freeze(sluice::NAMESPACE, &agent);
    let chain = "{ type nat hook postrouting priority 100; }";
    node.run("nft", &["add table ip crowd"]);
    let many: String = (0..1000)
        .map(|number| format!("add chain ip crowd c{number} {chain}\n"))
        .collect();
    let script = format!(
        "nft -f - <<'END'\n{many}END\n\
         fill() {{ n=$1; while nft add chain ip crowd \"c$n\" '{chain}' 2>/dev/null; do n=$((n+1)); done; }}\n\
         fill 1000\nnft delete table inet sluice\nfill 2000\n\
         nft list table ip crowd | grep -q c2000"
    );
    node.run("bash", &["-c", &script]);
    drop(asleep);
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}
