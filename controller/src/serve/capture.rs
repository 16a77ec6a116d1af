//! `CaptureDiscoveryService`.

use std::sync::Arc;

use sluice_proto::capture::v1::{
    Resolution, ResolvePodRequest, ResolvePodResponse, StreamCaptureStateRequest,
    StreamCaptureStateResponse, capture_discovery_service_server::CaptureDiscoveryService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{caller, session::Session, wire};
use crate::{
    fleet::{Fleet, NotNow},
    index::{Question, Resolved},
    ops::metrics as recorded,
};

pub(super) struct Capture {
    fleet: Arc<Fleet>,
    sessions: TaskTracker,
    stop: CancellationToken,
}

impl Capture {
    pub(super) fn new(fleet: Arc<Fleet>, sessions: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            fleet,
            sessions,
            stop,
        }
    }
}

#[async_trait]
impl CaptureDiscoveryService for Capture {
    type StreamCaptureStateStream = ReceiverStream<Result<StreamCaptureStateResponse, Status>>;

    async fn stream_capture_state(
        &self,
        request: Request<Streaming<StreamCaptureStateRequest>>,
    ) -> Result<Response<Self::StreamCaptureStateStream>, Status> {
        let (node, good) =
            caller::node(&request).inspect_err(|status| recorded::stream_end(status.code()))?;
        // One message on its way; whatever happens meanwhile is merged in the
        // outbox.
        let (out, responses) = mpsc::channel(1);
        let session = Session::new(
            Arc::clone(&self.fleet),
            node,
            good,
            request.into_inner(),
            out,
        );
        self.sessions.spawn(session.run(self.stop.clone()));
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn resolve_pod(
        &self,
        request: Request<ResolvePodRequest>,
    ) -> Result<Response<ResolvePodResponse>, Status> {
        let (node, _) = caller::node(&request)?;
        let asked = request.get_ref();
        let question = Question {
            uid: &asked.uid,
            namespace: &asked.namespace,
            name: &asked.name,
        };
        if asked.uid.is_empty() && (asked.namespace.is_empty() || asked.name.is_empty()) {
            return Err(Status::invalid_argument(
                "ResolvePod needs a uid, or a namespace and a name",
            ));
        }
        let resolved = self.fleet.resolve(&node, question);
        let (resolution, pod) = match resolved.map_err(|why| not_now(&why))? {
            Resolved::Yours(intent) if intent.wanted.is_enrolled() => {
                (Resolution::Enrolled, Some(wire::pod(&intent)))
            }
            Resolved::Yours(intent) => (Resolution::NotEnrolled, Some(wire::pod(&intent))),
            Resolved::NotYours => (Resolution::NotYours, None),
            Resolved::NotKnown => (Resolution::NotKnown, None),
        };
        recorded::resolve(word(resolution));
        Ok(Response::new(ResolvePodResponse {
            resolution: resolution.into(),
            pod,
        }))
    }
}

/// Whatever keeps this replica from serving a node, another may not have.
pub(super) fn not_now(why: &NotNow) -> Status {
    Status::unavailable(why.to_string())
}

fn word(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Unspecified => "unspecified",
        Resolution::Enrolled => "enrolled",
        Resolution::NotEnrolled => "not_enrolled",
        Resolution::NotKnown => "not_known",
        Resolution::NotYours => "not_yours",
    }
}
