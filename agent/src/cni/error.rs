//! What the shim is told when a call fails.

use std::time::Duration;

use tonic::{Code, Status};

use super::request::InvalidRequest;
use crate::capture::{AddError, CheckError, LookError};

/// Why a call of the shim failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    #[error("{0}")]
    Invalid(InvalidRequest),
    /// What the pod needs is not there; asking again later may help.
    #[error("pod {pod} cannot be captured yet (waited {} ms): {reason}", waited.as_millis())]
    NotYet {
        pod: String,
        waited: Duration,
        reason: String,
    },
    /// The pod is not one that the agent, or the controller, has heard of.
    #[error(
        "pod {pod} is not known: {reason}; it is tried again, and --on-unknown-pod=allow lets such pods pass uncaptured"
    )]
    Unknown { pod: String, reason: String },
    /// The pod asks for something that does not exist yet.
    #[error(
        "pod {pod} cannot be captured as it asks: {message}; remove the annotation or take the pod out of the mesh"
    )]
    Unsupported { pod: String, message: String },
    #[error("pod {pod}: {source}")]
    Add { pod: String, source: AddError },
    #[error("pod {pod}: {source}")]
    Check { pod: String, source: CheckError },
    #[error("nothing of network {network} is collected: {source}")]
    Collect { network: String, source: LookError },
    /// Pods cannot be added; why.
    #[error("{0}")]
    NotAvailable(String),
}

impl CniError {
    /// The one place where an error becomes a gRPC status; the table is in
    /// `cni.proto`.
    pub fn status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotYet { .. } | Self::Unknown { .. } | Self::Collect { .. } => Code::Unavailable,
            Self::Unsupported { .. } | Self::NotAvailable(_) => Code::FailedPrecondition,
            Self::Add { source, .. } => match source {
                AddError::NotReady { .. } | AddError::Deleted { .. } => Code::Unavailable,
                AddError::Refused { .. } => Code::FailedPrecondition,
                AddError::Kernel { .. } => Code::Internal,
            },
            Self::Check { source, .. } => match source {
                CheckError::NotFound { .. } => Code::NotFound,
                CheckError::NotReady { .. } => Code::Unavailable,
                CheckError::Broken { .. } => Code::FailedPrecondition,
                CheckError::Kernel { .. } => Code::Internal,
            },
        }
    }

    /// Metric label.
    pub(super) fn label(&self) -> &'static str {
        match self.code() {
            Code::InvalidArgument => "invalid",
            Code::NotFound => "not_found",
            Code::Unavailable => "unavailable",
            Code::FailedPrecondition => "refused",
            _ => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_code_of_the_table() {
        let add = |source| CniError::Add {
            pod: "a/b".into(),
            source,
        };
        let check = |source| CniError::Check {
            pod: "a/b".into(),
            source,
        };
        let reason = || "why".to_owned();
        let container_id = || "c".to_owned();
        let table = [
            (CniError::NotAvailable(reason()), Code::FailedPrecondition),
            (
                CniError::Collect {
                    network: "net".into(),
                    source: LookError::Busy,
                },
                Code::Unavailable,
            ),
            (
                CniError::Invalid(InvalidRequest::NoSandbox),
                Code::InvalidArgument,
            ),
            (
                add(AddError::NotReady { reason: reason() }),
                Code::Unavailable,
            ),
            (
                add(AddError::Deleted {
                    container_id: container_id(),
                }),
                Code::Unavailable,
            ),
            (
                add(AddError::Refused { reason: reason() }),
                Code::FailedPrecondition,
            ),
            (add(AddError::Kernel { reason: reason() }), Code::Internal),
            (
                check(CheckError::NotFound {
                    container_id: container_id(),
                }),
                Code::NotFound,
            ),
            (
                check(CheckError::NotReady { reason: reason() }),
                Code::Unavailable,
            ),
            (
                check(CheckError::Broken { reason: reason() }),
                Code::FailedPrecondition,
            ),
            (
                check(CheckError::Kernel { reason: reason() }),
                Code::Internal,
            ),
        ];
        for (error, code) in table {
            assert_eq!(error.status().code(), code, "{error}");
        }
    }
}
