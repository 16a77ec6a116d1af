//! What the agent puts on the node's disk for others, and takes away again: the
//! shim and a network configuration that names it, and early ambient's
//! `config.json`.
//!
//! [`conf`] and [`survey`] decide from what is in the directory, touching
//! nothing; [`cni`] and [`ambient`] do it; `keeper` does so whenever something
//! may have changed.

pub mod ambient;
pub mod binary;
pub mod cni;
pub mod conf;
mod keeper;
mod limit;
pub mod survey;
mod watch;

pub use self::keeper::{Goal, Keep, Looked, keep};
