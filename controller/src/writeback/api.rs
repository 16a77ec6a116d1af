//! The door to the API server: what is written, in the words of the decisions.

use super::{
    events::Event,
    seen::{Condition, SeenNode, SeenPod},
};

/// A pod to write to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// What is to be on a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeWrite {
    /// Absent: nobody holds the node's stream.
    pub claim: Option<String>,
    pub condition: Condition,
    /// Only if the node is still of this revision.
    pub revision: Option<u64>,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Somebody else wrote meanwhile: look again.
    #[error("somebody else has changed {what} meanwhile")]
    Conflict { what: String },
    #[error("{what} is gone")]
    Gone { what: String },
    #[error("the API server does not let us {verb} {what}: {why}")]
    Refused {
        verb: &'static str,
        what: String,
        why: String,
    },
    #[error("cannot {verb} {what}; it is tried again")]
    Unreachable {
        verb: &'static str,
        what: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ApiError {
    /// One word, as in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::Gone { .. } => "gone",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// What the writer needs of the API server.
pub trait Api: Send + Sync + 'static {
    /// The pod as it is now; absent when it is gone, or another has its name.
    fn pod(&self, pod: &PodRef) -> impl Future<Output = Result<Option<SeenPod>, ApiError>> + Send;

    /// Calls the pod captured. Over another value only with `force`.
    fn annotate(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
        force: bool,
    ) -> impl Future<Output = Result<SeenPod, ApiError>> + Send;

    /// Takes the annotation away if it says `enabled`, whoever wrote it.
    fn remove_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> impl Future<Output = Result<SeenPod, ApiError>> + Send;

    /// Takes the annotation away if nobody but us has written it.
    fn remove_own_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> impl Future<Output = Result<SeenPod, ApiError>> + Send;

    /// The node as it is now.
    fn node(&self, name: &str) -> impl Future<Output = Result<Option<SeenNode>, ApiError>> + Send;

    /// Writes claim and condition, and nothing else of the node.
    fn set_condition(
        &self,
        name: &str,
        write: &NodeWrite,
    ) -> impl Future<Output = Result<SeenNode, ApiError>> + Send;

    /// Takes the start-up taint away, and no other.
    fn remove_taint(&self, name: &str) -> impl Future<Output = Result<SeenNode, ApiError>> + Send;

    /// Tells people. An event that exists already is told already.
    fn event(&self, event: &Event) -> impl Future<Output = Result<(), ApiError>> + Send;
}
