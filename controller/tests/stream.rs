//! The controller over real TLS, in one process: who may do what, and what an
//! agent is told.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail where they stand"
)]

#[path = "stream/access.rs"]
mod access;
#[path = "stream/bad_input.rs"]
mod bad_input;
#[path = "stream/flow.rs"]
mod flow;
#[path = "stream/harness.rs"]
mod harness;
#[path = "stream/lifetime.rs"]
mod lifetime;
#[path = "stream/touch.rs"]
mod touch;
