//! Asks the controller about one pod, beside the stream.

use std::time::Duration;

use sluice_proto::capture::v1::{
    self as proto, capture_discovery_service_client::CaptureDiscoveryServiceClient,
};
use tokio::{sync::watch, time};
use tonic::{Code, Request, transport::Channel};

use super::decode::{self, InvalidState};
use crate::{desired::Intent, error::chain};

/// The connection in use is given this long to come about.
const CONNECT: Duration = Duration::from_millis(500);

/// What the controller says of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution {
    Enrolled(Intent),
    NotEnrolled(Intent),
    NotKnown,
    NotYours,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("no controller is connected")]
    NotConnected,
    #[error("the controller has not answered within {0:?}")]
    Deadline(Duration),
    #[error("the controller answered {code:?}: {message}")]
    Refused { code: Code, message: String },
    #[error("the controller's answer is not usable")]
    Invalid(#[from] InvalidState),
    #[error("the controller's answer names no resolution this agent knows; update the agent")]
    Unknown,
}

/// Asks over whatever connection the stream uses.
#[derive(Clone, Debug)]
pub struct Resolver {
    channel: watch::Receiver<Option<Channel>>,
}

impl Resolver {
    pub(super) fn new(channel: watch::Receiver<Option<Channel>>) -> Self {
        Self { channel }
    }

    /// By the uid that the runtime knows, or by namespace and name where that
    /// is empty.
    pub async fn resolve(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
        deadline: Duration,
    ) -> Result<Resolution, ResolveError> {
        let asking = self.ask(proto::ResolvePodRequest {
            uid: uid.into(),
            namespace: namespace.into(),
            name: name.into(),
        });
        time::timeout(deadline, asking)
            .await
            .map_err(|_| ResolveError::Deadline(deadline))?
    }

    async fn ask(&self, request: proto::ResolvePodRequest) -> Result<Resolution, ResolveError> {
        let mut client = CaptureDiscoveryServiceClient::new(self.connected().await?);
        let answered = client.resolve_pod(Request::new(request)).await;
        let answer = answered.map_err(|status| ResolveError::Refused {
            code: status.code(),
            message: std::error::Error::source(&status)
                .map_or_else(|| status.message().to_owned(), chain),
        })?;
        answer_of(answer.into_inner())
    }

    async fn connected(&self) -> Result<Channel, ResolveError> {
        let mut channel = self.channel.clone();
        let waiting = channel.wait_for(Option::is_some);
        let found = time::timeout(CONNECT, waiting).await;
        let channel = found
            .ok()
            .and_then(Result::ok)
            .and_then(|channel| channel.clone());
        channel.ok_or(ResolveError::NotConnected)
    }
}

fn answer_of(answer: proto::ResolvePodResponse) -> Result<Resolution, ResolveError> {
    let resolution = answer.resolution();
    let intent = || match answer.pod {
        Some(pod) => Ok(decode::intent(pod)?),
        None => Err(ResolveError::Unknown),
    };
    match resolution {
        proto::Resolution::Enrolled => Ok(Resolution::Enrolled(intent()?)),
        proto::Resolution::NotEnrolled => Ok(Resolution::NotEnrolled(intent()?)),
        proto::Resolution::NotKnown => Ok(Resolution::NotKnown),
        proto::Resolution::NotYours => Ok(Resolution::NotYours),
        proto::Resolution::Unspecified => Err(ResolveError::Unknown),
    }
}
