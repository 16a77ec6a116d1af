//! Leaving a cluster: `sluice-controller uninstall` asks, every replica passes
//! it on to its nodes, and it is over when all of them say so.
//!
//! It is asked for by a ConfigMap of its own. While that is there nothing is
//! captured; it belongs to the controller's Deployment and goes with it, so that
//! nothing of one installation is left for the next.

mod marker;
mod run;

pub use marker::follow;
pub use run::{UninstallError, run};

/// The ConfigMap that asks.
pub const MARKER: &str = "sluice-uninstall";
/// The Deployment that it goes with.
const DEPLOYMENT: &str = "sluice-controller";
/// Label of the agents' pods.
const AGENTS: &str = "app.kubernetes.io/name=sluice-agent";
/// When it was asked for.
const ASKED: &str = "asked";
/// When every node had left: from then on nothing is written any more.
const FINISHED: &str = "finished";
