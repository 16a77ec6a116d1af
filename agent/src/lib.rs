//! The agent of one node.
//!
//! - [`control`] follows the controller: who is to be captured comes in, the
//!   truth goes out; the last good state is kept on disk.
//! - [`cni`] answers the container runtime's shim while pods come and go.
//! - [`capture`] makes the kernel what is wanted, and reads it back.
//! - [`identity`] gets the node's certificate from the controller's issuer.
//! - [`install`] puts what others need on the node's disk, and takes it away.
//! - [`ops`] is for people and their tools: services, metrics, command line.
//!
//! Nothing is called captured because it was configured: [`status`] is what was
//! read from the kernel. Everything that touches the kernel is in
//! `sluice-kernel`. The library exists for the binary and for tests.

pub mod capture;
pub mod cni;
pub mod config;
pub mod control;
pub mod desired;
pub mod error;
pub mod files;
pub mod identity;
pub mod install;
pub mod ops;
pub mod run;
pub mod status;
