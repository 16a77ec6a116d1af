//! Images of the cluster's own pods.

use std::{path::PathBuf, process::Stdio};

use crate::lab::command::{self, Bounded as _};

use super::tools;

pub const PAUSE: &str = "sluice.dev/pause:0.1.0";
pub const WORKLOAD: &str = "sluice.dev/workload:0.1.0";

/// Where archives are made, by tests and by `make images`.
pub fn directory() -> PathBuf {
    std::env::var_os("SLUICE_IMAGES")
        .map_or_else(|| tools::project().join("target/images"), PathBuf::from)
}

/// The archives of the pause container and of the workload, as
/// `scripts/test-images` has made them.
pub fn of_tests() -> Vec<PathBuf> {
    let archives = vec![
        directory().join("pause.tar"),
        directory().join("workload.tar"),
    ];
    if archives.iter().any(|archive| !archive.is_file()) {
        let output = command::bounded_by("scripts/test-images", 300)
            .current_dir(tools::project())
            .stdin(Stdio::null())
            .run();
        command::stdout("scripts/test-images", &output);
    }
    archives
}

/// Every archive that has been made, the product's images among them.
pub fn all() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory()).into_iter().flatten();
    let mut archives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    archives.sort();
    archives
}
