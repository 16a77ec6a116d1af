//! Certificate and key on disk, so that a restart needs no controller.

use std::path::{Path, PathBuf};

use sluice_mtls::Identity;
use tracing::warn;

use super::Options;
use crate::{
    error::chain,
    files::{FileError, read_bounded, write_atomic},
};

const FILE: &str = "node.pem";
const LARGEST: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
}

impl Kept {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(FILE),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is there, if it is this node's.
    pub(super) fn load(&self, options: &Options) -> Option<Vec<u8>> {
        let contents = match read_bounded(&self.path, LARGEST) {
            Ok(contents) => contents,
            Err(error) if error.is_not_found() => return None,
            Err(error) => {
                let error = chain(&error);
                warn!(error, "the certificate that was kept cannot be read");
                return None;
            }
        };
        let identity = first(&contents)
            .and_then(|leaf| Identity::of_certificate(&options.trust_domain, &leaf).ok());
        let ours = Identity::Node(options.node_name.clone());
        // A disk that came from another node.
        (identity == Some(ours)).then_some(contents)
    }

    pub(super) fn store(&self, contents: &[u8]) -> Result<(), FileError> {
        write_atomic(&self.path, contents)
    }
}

fn first(pem: &[u8]) -> Option<Vec<u8>> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let leaf = CertificateDer::from_pem_slice(pem).ok()?;
    Some(leaf.to_vec())
}
