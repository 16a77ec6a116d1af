//! What people and their tools see of the agent.
//!
//! [`node`] is the gRPC service, [`serve`] puts it on the unix socket and, for
//! operators, on mutual TLS; [`cli`] asks it from the command line; [`metrics`]
//! and [`ready`] are for monitoring; [`cleanup`] takes everything away.

pub mod authorise;
pub mod cleanup;
pub mod cli;
pub mod find;
pub mod metrics;
pub mod node;
pub mod ready;
pub mod serve;
mod view;
