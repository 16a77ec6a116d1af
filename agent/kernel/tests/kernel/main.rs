//! The crate against the real kernel, in network namespaces of the tests' own.
//! Needs root; without it the tests fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod joining;
mod lab;
mod pods;
mod proxies;
mod reconcile;
mod refuse;
mod tamper;
mod traffic;
mod watching;
