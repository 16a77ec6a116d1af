//! Scenarios on nodes made of network namespaces, with real packets, the real
//! programs and a proxy. What is asserted is read from packets, from the
//! proxies' logs and from the kernel, never from our own status; that only says
//! when to look.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a scenario that cannot be played is a failed test"
)]

mod bad_input;
mod callers;
mod cni;
mod converge;
mod hostile;
mod install;
mod leaks;
mod membership;
mod policy;
mod preflight;
mod proxy;
mod races;
mod restarts;
mod selection;
mod settings;
mod tamper;
mod traffic;
mod untouched;
