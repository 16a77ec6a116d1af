//! A controller that says what the test tells it to.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sluice_mtls::{AcceptLimits, Caller, Identity, Reload, accept};
use sluice_proto::capture::v1::{
    self as proto,
    capture_discovery_service_server::{CaptureDiscoveryService, CaptureDiscoveryServiceServer},
    stream_capture_state_request::Message,
    stream_capture_state_response::Batch,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(60);

/// Serves over mutual TLS until it is dropped.
pub(crate) struct FakeController {
    pub(crate) address: SocketAddr,
    streams: mpsc::Receiver<FakeStream>,
    task: JoinHandle<()>,
}

impl Drop for FakeController {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One agent's stream, as the controller sees it.
pub(crate) struct FakeStream {
    pub(crate) node: String,
    pub(crate) hello: proto::Hello,
    inbound: Streaming<proto::StreamCaptureStateRequest>,
    outbound: mpsc::Sender<Result<proto::StreamCaptureStateResponse, Status>>,
    /// Status reports that came while something else was waited for.
    pub(crate) reports: Vec<proto::StatusReport>,
    sequence: u64,
}

/// What a controller answers to every stream.
#[derive(Clone)]
pub(crate) enum Mood {
    Serving,
    Refusing(Status),
}

impl FakeController {
    pub(crate) async fn start(reload: Arc<Reload>, mood: Mood) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), reload, mood).await
    }

    pub(crate) async fn start_at(address: SocketAddr, reload: Arc<Reload>, mood: Mood) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (streams_in, streams) = mpsc::channel(16);
        let service = Service {
            streams: streams_in,
            mood,
        };
        let router = accept::server().add_service(CaptureDiscoveryServiceServer::new(service));
        let incoming = accept::incoming(listener, reload, AcceptLimits::default());
        let task = tokio::spawn(async move {
            router.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            address,
            streams,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The next stream that an agent opens.
    pub(crate) async fn stream(&mut self) -> FakeStream {
        timeout(PATIENCE, self.streams.recv())
            .await
            .expect("a stream")
            .unwrap()
    }

    /// Whether no stream is opened for a while.
    pub(crate) async fn is_left_alone(&mut self, how_long: Duration) -> bool {
        timeout(how_long, self.streams.recv()).await.is_err()
    }
}

impl FakeStream {
    /// Sends a batch with the next number.
    pub(crate) async fn send(&mut self, source: &str, pods: u64, batch: Batch) {
        self.sequence += 1;
        let message = proto::StreamCaptureStateResponse {
            sequence: self.sequence,
            revision: Some(proto::SourceRevision {
                source: source.into(),
                pods,
                namespaces: 1,
            }),
            batch: Some(batch),
            node: None,
        };
        self.outbound.send(Ok(message)).await.unwrap();
    }

    /// The agent's next answer to a batch.
    pub(crate) async fn stored(&mut self) -> proto::Stored {
        loop {
            match self.next().await {
                Message::Stored(stored) => return stored,
                Message::Status(report) => self.reports.push(report),
                Message::Hello(_) => panic!("a second hello"),
            }
        }
    }

    /// The agent's next report.
    pub(crate) async fn report(&mut self) -> proto::StatusReport {
        if !self.reports.is_empty() {
            return self.reports.remove(0);
        }
        loop {
            if let Message::Status(report) = self.next().await {
                return report;
            }
        }
    }

    /// The first report that speaks of this pod.
    pub(crate) async fn report_of(&mut self, uid: &str) -> proto::StatusReport {
        loop {
            let report = self.report().await;
            if report.pods.iter().any(|pod| pod.uid == uid) {
                return report;
            }
        }
    }

    /// Ends the stream with this status.
    pub(crate) async fn end(self, status: Status) {
        let _ = self.outbound.send(Err(status)).await;
    }

    async fn next(&mut self) -> Message {
        let received = timeout(PATIENCE, self.inbound.message())
            .await
            .expect("a message");
        received.unwrap().expect("an open stream").message.unwrap()
    }
}

struct Service {
    streams: mpsc::Sender<FakeStream>,
    mood: Mood,
}

#[tonic::async_trait]
impl CaptureDiscoveryService for Service {
    type StreamCaptureStateStream =
        Pin<Box<dyn Stream<Item = Result<proto::StreamCaptureStateResponse, Status>> + Send>>;

    async fn stream_capture_state(
        &self,
        request: Request<Streaming<proto::StreamCaptureStateRequest>>,
    ) -> Result<Response<Self::StreamCaptureStateStream>, Status> {
        if let Mood::Refusing(status) = &self.mood {
            return Err(status.clone());
        }
        let caller = request.extensions().get::<Caller>().unwrap();
        let peer = caller.peer(SystemTime::now()).unwrap();
        let Identity::Node(node) = peer.identity.clone() else {
            return Err(Status::permission_denied("not a node"));
        };
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|first| first.message);
        let Some(Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (outbound, messages) = mpsc::channel(16);
        let stream = FakeStream {
            node,
            hello,
            inbound,
            outbound,
            reports: Vec::new(),
            sequence: 0,
        };
        let _ = self.streams.send(stream).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn resolve_pod(
        &self,
        request: Request<proto::ResolvePodRequest>,
    ) -> Result<Response<proto::ResolvePodResponse>, Status> {
        let asked = request.into_inner();
        let (resolution, pod) = match asked.uid.as_str() {
            "u1" => (proto::Resolution::Enrolled, Some(pod("u1"))),
            "bad" => (proto::Resolution::Enrolled, None),
            _ => (proto::Resolution::NotKnown, None),
        };
        Ok(Response::new(proto::ResolvePodResponse {
            resolution: resolution.into(),
            pod,
        }))
    }
}

/// A pod that is to be captured and has no sandbox yet.
pub(crate) fn pod(uid: &str) -> proto::PodIntent {
    proto::PodIntent {
        uid: uid.into(),
        namespace: "default".into(),
        name: format!("pod-{uid}"),
        wanted: proto::Wanted::Captured.into(),
        intent_hash: format!("hash-{uid}"),
        ..proto::PodIntent::default()
    }
}

/// A snapshot in one part that says it has `total` pods.
pub(crate) fn snapshot(uids: &[&str], total: u32) -> Batch {
    Batch::Snapshot(proto::SnapshotPart {
        pods: uids.iter().map(|uid| pod(uid)).collect(),
        namespaces: vec![],
        end: Some(proto::SnapshotEnd {
            total_pods: total,
            total_namespaces: 0,
        }),
    })
}

/// A delta that adds pods.
pub(crate) fn delta(uids: &[&str]) -> Batch {
    Batch::Delta(proto::Delta {
        pods: uids.iter().map(|uid| pod(uid)).collect(),
        ..proto::Delta::default()
    })
}
