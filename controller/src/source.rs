//! Where pods and namespaces come from.
//!
//! A source tells of everything once, says that this was everything, and from
//! then on tells what changes. Now there is one, a [`directory`] of YAML.

pub mod directory;
mod object;

use std::{fmt, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{index::Update, model::Revision};

/// What a source says at one time.
#[derive(Clone, Debug)]
pub struct Batch {
    pub updates: Vec<Update>,
    /// Of the state after these updates.
    pub revision: Revision,
    /// True once everything that there is has been told.
    pub in_sync: bool,
    /// All that is wrong with the source now.
    pub problems: Arc<[Problem]>,
    /// What exists and could never be read, so that nobody knows what is in
    /// it: a pod that is missing may be in there.
    pub never_read: Arc<[String]>,
}

/// Something in a source that could not be used.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// File, or whatever the source calls its parts.
    pub place: String,
    /// Line in it, from 1.
    pub line: Option<u64>,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.reason),
            None => write!(f, "{}: {}", self.place, self.reason),
        }
    }
}

/// A source of pods and namespaces.
pub trait Source: Send + 'static {
    /// Tells `sink` until `stop`, or until nobody listens.
    fn run(
        self,
        sink: mpsc::Sender<Batch>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send;
}
