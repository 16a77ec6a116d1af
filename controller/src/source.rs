//! Where pods and namespaces come from.
//!
//! A source tells of everything once, says that this was everything, and from
//! then on tells what changes. There are two: a [`directory`] of YAML, and a
//! cluster's API server ([`kubernetes`]).

pub mod directory;
pub mod kubernetes;
mod object;

use std::{fmt, sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{index::Update, model::Revision};

/// What a source says at one time.
#[derive(Clone, Debug)]
pub struct Batch {
    pub updates: Vec<Update>,
    /// Of the state after these updates: its newest change.
    pub revision: Revision,
    /// How far the source has been followed: everything up to here is in,
    /// also when nothing happened. Never behind `revision`.
    pub reached: Revision,
    /// True once everything that there is has been told.
    pub in_sync: bool,
    /// All that is wrong with the source now.
    pub problems: Arc<[Problem]>,
    /// What exists and could never be read, so that nobody knows what is in
    /// it: a pod that is missing may be in there.
    pub never_read: Arc<[String]>,
    /// Since when things may have happened that nobody here knows of; absent
    /// while the source is followed.
    pub out_of_touch: Option<Instant>,
}

impl Batch {
    /// No news, and not in sync.
    pub fn nothing(revision: Revision) -> Self {
        Self {
            updates: Vec::new(),
            reached: revision.clone(),
            revision,
            in_sync: false,
            problems: [].into(),
            never_read: [].into(),
            out_of_touch: None,
        }
    }
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
