//! Measurements. Everything is compared with what a user would otherwise run,
//! in the same run and interleaved, because machines differ and change.

use std::env;

pub mod chain;
pub mod cluster;
pub mod leaks;
pub mod path;
pub mod pods;
pub mod repair;
pub mod shim;
pub mod sink;
pub mod status;
pub mod table;

/// A hundredth of the usual rounds, at least two, to see whether it runs at all.
const QUICK: &str = "SLUICE_BENCH_QUICK";

/// How often something is to be done that usually is done so often.
pub(crate) fn rounds(usual: usize) -> usize {
    if env::var_os(QUICK).is_some() {
        return (usual / 100).max(2);
    }
    usual
}

/// The value below which a share of the samples lies.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index into a few thousand samples"
    )]
    let index = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[index]
}

/// The median.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}
