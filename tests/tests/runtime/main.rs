//! Scenarios with a real container runtime: Debian's containerd and runc make
//! sandboxes, the reference plugins attach them, and our agent has put its shim
//! behind those. What is asserted is read from packets, from the proxy's log,
//! from the kernel and from the runtime's own answers.
#![expect(
    clippy::unwrap_used,
    reason = "a scenario that cannot be played is a failed test"
)]

mod bridge;
mod by_hand;
mod down;
mod many;
mod ptp;
