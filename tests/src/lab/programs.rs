//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The program `name`: `SLUICE_BIN_DIR` if it is set, else where cargo put this
/// test's own program.
pub fn find(name: &str) -> PathBuf {
    directory_of(name).join(name)
}

/// The directory that holds the program `name`. `SLUICE_CNI` may name the shim
/// as it is shipped: static and optimised.
pub fn directory_of(name: &str) -> PathBuf {
    let shim = env::var_os("SLUICE_CNI").filter(|_| name == "sluice-cni");
    if let Some(dir) = shim.map(PathBuf::from).filter(|path| path.is_file()) {
        return dir.parent().expect("a file is in a directory").into();
    }
    if let Some(dir) = env::var_os("SLUICE_BIN_DIR") {
        return PathBuf::from(dir);
    }
    let this = env::current_exe().expect("the path of this program");
    this.ancestors()
        .skip(1)
        .find(|dir| dir.join(name).is_file())
        .map_or_else(|| missing(name, &this), Path::to_path_buf)
}

fn missing(name: &str, this: &Path) -> PathBuf {
    panic!(
        "{name} is not built (looked beside and above {}): `make test` builds it, or `cargo build` \
         for all programs",
        this.display()
    )
}
