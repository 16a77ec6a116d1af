//! What the agent puts on the node's disk for others, and takes away again: the
//! shim and a network configuration that names it, and early ambient's
//! `config.json`.
//!
//! [`conf`], [`chain`], [`survey`] and [`discover`] decide from what is in files,
//! touching nothing; [`cni`] and [`ambient`] do it; `keeper` does so whenever something
//! may have changed.

pub mod ambient;
pub mod binary;
pub mod chain;
pub mod cni;
pub mod conf;
pub mod discover;
pub mod host;
mod keeper;
mod limit;
pub mod places;
pub mod survey;
mod watch;

pub use self::keeper::{Goal, Keep, Looked, keep};
