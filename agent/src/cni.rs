//! Answers the CNI shim while the container runtime creates or deletes a pod,
//! and keeps the two files that it uses while the agent does not answer.
//!
//! [`service`] is the gRPC service, `request` checks what came in, `learn`
//! finds out what is wanted of a pod, `available` answers STATUS, [`error`] says what went wrong in the
//! protocol's codes. Generated types stop here.

mod available;
pub mod error;
mod learn;
pub mod namespaces;
pub mod notes;
pub mod request;
pub mod resolve;
pub mod service;

pub use self::{
    notes::Notes,
    resolve::{Resolve, Resolved},
    service::{Options, Service},
};
