//! Writing files of the cluster.

use std::{fs, path::Path};

/// Writes a file and the directories above it.
pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    if let Some(parent) = path.parent() {
        directory(parent);
    }
    fs::write(path, text)
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// The same for a value, as JSON, which Kubernetes reads where it reads YAML.
pub fn write_json(path: &Path, value: &serde_json::Value) {
    write(path, format!("{value:#}\n"));
}

pub fn directory(path: &Path) {
    fs::create_dir_all(path)
        .unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
}

pub fn copy(from: &Path, to: &Path) {
    if let Some(parent) = to.parent() {
        directory(parent);
    }
    fs::copy(from, to).unwrap_or_else(|error| {
        panic!(
            "cannot copy {} to {}: {error}",
            from.display(),
            to.display()
        )
    });
}
