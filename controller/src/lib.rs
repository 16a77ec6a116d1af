//! The controller: decides which pods are captured and streams that decision,
//! per node, to the agents.
//!
//! A [`source`] (a cluster, or a folder of YAML) reports pods and namespaces in batches.
//! One task hands each batch to the [`fleet::Fleet`], which feeds the pure [`index`]
//! (what is wanted of every pod, by [`select`]) and puts the difference into
//! the outbox of each node it concerns. [`serve`] sends the outboxes to the
//! nodes' streams, takes in what the agents report, and answers operators.
//!
//! With [`issuer`] it is the authority of its cluster, too, and signs the
//! certificates of the nodes.
//!
//! It never writes to a node, never speaks before its source is in sync, and
//! takes a node's name from its certificate only.

pub mod config;
pub mod fleet;
pub mod index;
pub mod issuer;
pub mod istio_operator;
pub mod model;
pub mod ops;
pub mod run;
pub mod select;
pub mod serve;
pub mod source;
pub mod uninstall;
pub mod writeback;
