//! What Sluice is tested with: a lab of nodes made of network namespaces, a
//! stand-in for the mesh proxy, and clients of our services.
//!
//! Nothing here is part of the product. A lab that cannot be built fails the
//! test that wants it, at once and with the reason: it panics where a product
//! would return an error.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a lab that cannot be built fails the test that wants it"
)]

pub mod apiserver;
pub mod bench;
pub mod cluster;
pub mod lab;
pub mod runtime;
pub mod stand_in;
pub mod workloads;
