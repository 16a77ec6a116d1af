//! What starts, what waits and what is told when something is missing or broken:
//! the table of failures of design 3.2 with pods that a kubelet makes, and the order
//! of a node's start. A cluster of its own, since nodes lose their power in it.
//!
//! | cell | scenario |
//! |---|---|
//! | agent down: enrolled pod, excluded, known and unknown namespace, DEL, return | `agent_down` |
//! | agent hung: the same, STATUS | `agent_hung` |
//! | agent restarting or upgraded under load | `agents_replaced_under_load`; connections: `mesh/upgrade.rs` |
//! | controller down: known pod, new sandbox, unknown pod, excluded namespace | `controller_down`; one replica of several: `mesh/replicas.rs` |
//! | API server down or slow: captured pods, new sandbox | `mesh/outages.rs` |
//! | API server down: static pods, known and unknown | `static_pods` |
//! | no proxy; one that does not listen | `proxy_away`, `proxy_not_listening` |
//! | kernel refuses: forbidden by what was found, refused by the kernel | `kernel_forbidden`, `kernel_refuses` |
//! | own pods, host network, with everything down | `everything_down`; all killed at once: `mesh/everything_down.rs` |
//! | static pods | `static_pods` |
//! | start-up order: lost power, a fresh node | `power_lost`, `fresh_node` |
//! | start-up order: upgrade of the DaemonSet | `agents_replaced_under_load` |
//!
//! `onAgentDown: deny` is the shim's to decide: `agent_down` asks it by hand.

mod agent;
mod controller;
mod everything_down;
mod kernel;
mod load;
mod proxy;
mod start;
mod static_pods;
mod town;

use sluice_tests::cluster::{Options, sluice::TAINT};

use super::shared::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("agent_down", agent::down),
    ("agent_hung", agent::hung),
    ("agents_replaced_under_load", load::replaced),
    ("controller_down", controller::down),
    ("proxy_away", proxy::away),
    ("proxy_not_listening", proxy::not_listening),
    ("kernel_forbidden", kernel::forbidden),
    ("kernel_refuses", kernel::refuses),
    ("static_pods", static_pods::static_pods),
    ("everything_down", everything_down::everything_down),
    ("power_lost", start::power_lost),
    ("fresh_node", start::fresh_node),
];

/// Nodes that wait until they can capture, as `docs/install.md` says.
pub(crate) fn options() -> Options {
    Options {
        register_taints: vec![format!("{TAINT}=true:NoSchedule")],
        ..Options::default()
    }
}
