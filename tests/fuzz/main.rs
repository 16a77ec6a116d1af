//! Fuzz targets: whatever comes from outside, and however hostile it is, is
//! answered or refused, and what must hold of the answer does.
//!
//! Coverage-guided (libFuzzer) on stable Rust: `scripts/fuzz` builds our crates
//! with counters. As a test this program starts itself once for each target,
//! for a fixed number of inputs made of those in `corpus/`, from the same seed
//! each time; see [`trial`]. A target runs in an empty root: input that names a
//! path finds nothing there, and leaves nothing anywhere else.
#![no_main]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a target says by a panic what must not be"
)]

mod targets;
mod trial;

libfuzzer_sys::fuzz_target!(
    init: { trial::begin() },
    |input: &[u8]| trial::target().check(input)
);
