//! The last good desired state on disk, so that a node can restart while no
//! controller answers.
//!
//! One file, replaced by rename: a version, a SHA-256 and a snapshot in the
//! protocol's own messages. A file that cannot be believed is set aside and
//! reported, and the node waits for the controller instead.

use std::{
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use prost::Message as _;
use sluice_proto::capture::v1 as proto;
use tracing::{info, warn};

use super::{
    assemble::{Assembler, Rejected, Taken},
    encode,
};
use crate::{
    desired::{Desired, Origin},
    files::{self, FileError},
};

const VERSION: u32 = 1;
/// Larger than any state that is accepted.
const LARGEST: u64 = 256 << 20;

/// The envelope on disk.
#[derive(Clone, PartialEq, prost::Message)]
struct LastGood {
    #[prost(uint32, tag = "1")]
    version: u32,
    /// SHA-256 of `state`.
    #[prost(bytes = "vec", tag = "2")]
    sha256: Vec<u8>,
    /// A `StreamCaptureStateResponse` with one whole snapshot.
    #[prost(bytes = "vec", tag = "3")]
    state: Vec<u8>,
}

/// Where the last good state is kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

/// Why the last good state could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A state is kept together with its revision, to refuse older ones.
    #[error("a state without a revision is not kept")]
    NoRevision,
    #[error("the last good state was not kept; free space there or make it writable")]
    Write(#[from] FileError),
}

/// Why the file cannot be believed.
#[derive(Debug, thiserror::Error)]
enum Corrupt {
    #[error("it does not decode")]
    Decode(#[from] prost::DecodeError),
    #[error("its version is {0}; this agent reads {VERSION}")]
    Version(u32),
    #[error("its checksum does not match")]
    Checksum,
    #[error("its state is not acceptable")]
    State(#[from] Rejected),
    #[error("its snapshot has no end")]
    Truncated,
}

impl Store {
    /// The file in this directory.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join("desired.pb"),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last good state, if there is one that can be believed. Blocks.
    pub fn load(&self) -> Option<Arc<Desired>> {
        let path = self.path.display();
        let bytes = match files::read_bounded(&self.path, LARGEST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                info!(%path, "no last good state on disk");
                return None;
            }
            Err(error) => {
                let error = &error as &dyn Error;
                warn!(%path, error, "cannot read the last good state");
                return None;
            }
        };
        match decode(&bytes) {
            Ok(desired) => Some(Arc::new(desired)),
            Err(corrupt) => {
                self.set_aside(&corrupt);
                None
            }
        }
    }

    /// Keeps a state; once this returns it survives a power cut. Blocks.
    pub fn save(&self, desired: &Desired) -> Result<(), StoreError> {
        let bytes = encode(desired).ok_or(StoreError::NoRevision)?;
        Ok(files::write_atomic(&self.path, &bytes)?)
    }

    fn set_aside(&self, corrupt: &Corrupt) {
        let mut aside: OsString = self.path.clone().into();
        aside.push(".corrupt");
        let aside = PathBuf::from(aside);
        let renamed = fs::rename(&self.path, &aside);
        warn!(
            path = %self.path.display(),
            aside = %aside.display(),
            set_aside = renamed.is_ok(),
            error = corrupt as &dyn Error,
            "the last good state cannot be believed; it is set aside"
        );
    }
}

fn encode(desired: &Desired) -> Option<Vec<u8>> {
    let snapshot = encode::snapshot(desired);
    let state = proto::StreamCaptureStateResponse {
        sequence: 1,
        revision: Some(encode::revision(desired.revision.as_ref()?)),
        batch: Some(proto::stream_capture_state_response::Batch::Snapshot(
            snapshot,
        )),
        node: Some(proto::NodeIntent {
            leave: desired.leave,
        }),
    }
    .encode_to_vec();
    let kept = LastGood {
        version: VERSION,
        sha256: digest(&SHA256, &state).as_ref().to_vec(),
        state,
    };
    Some(kept.encode_to_vec())
}

/// A file is believed under the same conditions as a controller.
fn decode(bytes: &[u8]) -> Result<Desired, Corrupt> {
    let LastGood {
        version,
        sha256,
        state,
    } = LastGood::decode(bytes)?;
    if version != VERSION {
        return Err(Corrupt::Version(version));
    }
    if digest(&SHA256, &state).as_ref() != sha256 {
        return Err(Corrupt::Checksum);
    }
    let message = proto::StreamCaptureStateResponse::decode(state.as_slice())?;
    match Assembler::new(None).take(message)? {
        Taken::Part => Err(Corrupt::Truncated),
        Taken::State(desired) => Ok(Desired {
            origin: Origin::Disk,
            ..Desired::clone(&desired)
        }),
    }
}

#[cfg(test)]
mod tests;
