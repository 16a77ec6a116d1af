//! A stand-in for the node's proxy, and how tests start it or a real one.
//!
//! It does what a ztunnel does that has its listeners in its own network
//! namespace (up to mid-2024), and no more than tests need: it is not a proxy
//! to run anywhere else. Traffic comes to it by TPROXY, so the local address
//! of an accepted socket is the original destination.
//!
//! | port | traffic | handled in |
//! |---|---|---|
//! | 15001 | from a pod of this node | `outbound` |
//! | 15006 | to a pod of this node, plain | `inbound_plain` |
//! | 15008 | to a pod of this node, tunnelled | `inbound` |
//!
//! Workloads that speak HBONE are called through HTTP/2 CONNECT over mutual
//! TLS, on the own node as well; everything else is passed through. Source
//! addresses are kept on every leg. Policies are decided at the called end.
//! One line per connection says what became of it ([`ConnectionLog`]).

mod args;
mod certs;
mod hbone;
mod identity;
mod inbound;
mod inbound_plain;
mod kubernetes;
mod launch;
mod listening;
mod log;
mod mesh;
mod outbound;
mod proxy;
mod rbac;
mod relay;
mod socket;
mod verify;
mod ztunnel;

pub use args::{Args, Ports};
pub use certs::{CaFiles, CertError};
pub use identity::WorkloadIdentity;
pub use launch::{Kind, Launch, LaunchError, Process};
pub use log::{ConnectionLog, Direction};
pub use proxy::{StartError, run};
