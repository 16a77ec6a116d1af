//! The `kubernetes` source and the issuer against a real API server:
//! `cargo test -p sluice-tests --test apiserver`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail where they stand"
)]

#[path = "apiserver/follower.rs"]
mod follower;
#[path = "apiserver/objects.rs"]
mod objects;

#[path = "apiserver/faults.rs"]
mod faults;
#[path = "apiserver/follows.rs"]
mod follows;
#[path = "apiserver/identity.rs"]
mod identity;
#[path = "apiserver/outages.rs"]
mod outages;
#[path = "apiserver/policy.rs"]
mod policy;
#[path = "apiserver/replica.rs"]
mod replica;
#[path = "apiserver/uninstall.rs"]
mod uninstall;
#[path = "apiserver/writeback.rs"]
mod writeback;
