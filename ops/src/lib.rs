//! What agent and controller have in common for the people who run them.
//!
//! - [`logging`]: one format, one environment variable.
//! - [`metrics`]: a table in the code from which come the descriptions, the
//!   page in the documentation and `/metrics`.
//! - [`http`]: `/metrics`, `/healthz` and `/readyz`, in the clear, and nothing else.
//! - [`unix`]: a socket for root, with the credentials of whoever calls.

pub mod http;
pub mod logging;
pub mod metrics;
pub mod unix;
