//! A controller to talk to, and agents that do what a test says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use sluice_controller::{
    fleet::Fleet,
    index::Update,
    model::{Namespace, Pod, Revision},
    select::{ProxyRule, Rules},
    serve,
    source::Batch,
};
use sluice_mtls::{AcceptLimits, Reload, TlsFiles, connect, testing::TestCa};
use sluice_proto::{
    capture::v1::{
        Delta, Hello, PodIntent, SnapshotPart, StreamCaptureStateRequest,
        StreamCaptureStateResponse, Wanted,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message, stream_capture_state_response,
    },
    controller::v1::fleet_service_client::FleetServiceClient,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming, transport::Channel};

pub(crate) const TRUST_DOMAIN: &str = "cluster.local";
pub(crate) const RELEASE_AFTER: Duration = Duration::from_secs(2);
/// Ends a wait that is in vain: longer than `touch::SPREAD`, within which a
/// replica out of touch ends its streams.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type Client = CaptureDiscoveryServiceClient<Channel>;

pub(crate) struct Controller {
    pub fleet: Arc<Fleet>,
    pub stop: CancellationToken,
    pub ca: TestCa,
    pub dir: TempDir,
    pub serving: JoinHandle<Result<(), serve::ServeError>>,
    address: SocketAddr,
    revision: Mutex<Revision>,
}

impl Controller {
    /// In sync, and knows nothing.
    pub(crate) async fn start() -> Self {
        let controller = Self::start_cold().await;
        controller.tell(vec![]);
        controller
    }

    /// Not in sync yet.
    pub(crate) async fn start_cold() -> Self {
        let (ca, dir) = (TestCa::new(TRUST_DOMAIN), tempfile::tempdir().unwrap());
        let files = ca.write(dir.path(), "server", &uri("controller/main"));
        let tls = Reload::start(files, Duration::from_secs(1)).unwrap();
        let rules = Rules {
            proxy: ProxyRule {
                namespace: "istio-system".into(),
                service_account: "ztunnel".into(),
                labels: [("app".into(), "ztunnel".into())].into(),
            },
            excluded_namespaces: ["kube-system".into()].into(),
            ..Rules::default()
        };
        let fleet = Arc::new(Fleet::new(rules, RELEASE_AFTER));
        let stop = CancellationToken::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = AcceptLimits::default();
        let serving = serve::serve(
            listener,
            tls,
            None,
            limits,
            Arc::clone(&fleet),
            stop.clone(),
        );
        Self {
            serving: tokio::spawn(serving),
            fleet,
            stop,
            ca,
            dir,
            address,
            revision: Mutex::new(Revision {
                source: "test".into(),
                pods: 0,
                namespaces: 0,
            }),
        }
    }

    pub(crate) fn tell(&self, updates: Vec<Update>) {
        self.tell_with(updates, |_| {});
    }

    pub(crate) fn tell_with(&self, updates: Vec<Update>, change: impl FnOnce(&mut Batch)) {
        let mut revision = self.revision.lock().unwrap();
        revision.pods += 1;
        revision.namespaces += 1;
        let mut batch = Batch {
            updates,
            in_sync: true,
            ..Batch::nothing(revision.clone())
        };
        change(&mut batch);
        self.fleet.apply(batch);
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision.lock().unwrap().clone()
    }

    pub(crate) fn channel(&self, identity: &str) -> Channel {
        let name = identity.replace('/', "-");
        let files = self.ca.write(self.dir.path(), &name, &uri(identity));
        self.channel_with(files)
    }

    pub(crate) fn channel_with(&self, files: TlsFiles) -> Channel {
        let tls = Reload::start(files, Duration::from_secs(1)).unwrap();
        let endpoint = format!("https://{}", self.address);
        connect::channel(&endpoint, tls, connect::any_controller).unwrap()
    }

    pub(crate) fn client(&self, identity: &str) -> Client {
        Client::new(self.channel(identity)).max_decoding_message_size(16 << 20)
    }

    pub(crate) fn operator(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel("operator/alice"))
    }

    pub(crate) async fn agent(&self, node: &str) -> Agent {
        self.agent_with(node, Hello::default()).await
    }

    pub(crate) async fn agent_with(&self, node: &str, hello: Hello) -> Agent {
        Agent::open(self.client(&format!("node/{node}")), Message::Hello(hello)).await
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn uri(identity: &str) -> String {
    format!("spiffe://{TRUST_DOMAIN}/{identity}")
}

/// An agent's end of a stream.
pub(crate) struct Agent {
    pub out: mpsc::Sender<StreamCaptureStateRequest>,
    pub inbound: Streaming<StreamCaptureStateResponse>,
    sequence: u64,
}

impl Agent {
    pub(crate) async fn open(mut client: Client, first: Message) -> Self {
        let (out, requests) = mpsc::channel(8);
        let first = StreamCaptureStateRequest {
            message: Some(first),
        };
        out.send(first).await.unwrap();
        let requests = ReceiverStream::new(requests);
        let inbound = client.stream_capture_state(requests).await.unwrap();
        Self {
            out,
            inbound: inbound.into_inner(),
            sequence: 0,
        }
    }

    pub(crate) async fn send(&self, message: Message) {
        let message = Some(message);
        self.out
            .send(StreamCaptureStateRequest { message })
            .await
            .unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Result<StreamCaptureStateResponse, Status> {
        let response = timeout(PATIENCE, self.inbound.message()).await.unwrap()?;
        let response = response.expect("the stream goes on");
        self.sequence += 1;
        assert_eq!(response.sequence, self.sequence, "no gaps");
        Ok(response)
    }

    /// The whole snapshot, put together.
    pub(crate) async fn snapshot(&mut self) -> Result<SnapshotPart, Status> {
        let mut whole = SnapshotPart::default();
        loop {
            let response = self.receive().await?;
            let Some(stream_capture_state_response::Batch::Snapshot(part)) = response.batch else {
                panic!("not a snapshot: {response:?}");
            };
            assert!(part.pods.len() <= 1000);
            whole.pods.extend(part.pods);
            whole.namespaces.extend(part.namespaces);
            if let Some(end) = part.end {
                assert_eq!(end.total_pods as usize, whole.pods.len());
                assert_eq!(end.total_namespaces as usize, whole.namespaces.len());
                return Ok(whole);
            }
        }
    }

    pub(crate) async fn delta(&mut self) -> Delta {
        match self.receive().await.unwrap().batch {
            Some(stream_capture_state_response::Batch::Delta(delta)) => delta,
            other => panic!("not a delta: {other:?}"),
        }
    }

    /// Nothing comes for a while.
    pub(crate) async fn silence(&mut self) {
        let received = timeout(Duration::from_millis(200), self.inbound.message()).await;
        assert!(received.is_err(), "{received:?}");
    }

    /// How the stream ends, whatever comes before that.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match timeout(PATIENCE, self.inbound.message()).await.unwrap() {
                Ok(Some(_)) => {}
                Ok(None) => return Status::new(Code::Ok, ""),
                Err(status) => return status,
            }
        }
    }
}

/// `uid wanted`, in order.
pub(crate) fn words(pods: &[PodIntent]) -> Vec<String> {
    pods.iter()
        .map(|pod| {
            let wanted = match pod.wanted() {
                Wanted::Unspecified => "unspecified",
                Wanted::Nothing => "nothing",
                Wanted::Captured => "captured",
                Wanted::Releasing => "releasing",
                Wanted::Proxy => "proxy",
                Wanted::Unsupported => "unsupported",
            };
            format!("{} {wanted}", pod.uid)
        })
        .collect()
}

pub(crate) fn pod(uid: &str, node: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: format!("pod-{uid}").into(),
        node: Some(node.into()),
        service_account: "default".into(),
        labels: [].into(),
        annotations: [].into(),
        host_network: false,
        completed: false,
        addresses: [].into(),
        host_ports: [].into(),
        static_uid: None,
        version: 0.into(),
    }
}

pub(crate) fn put(uid: &str, node: &str) -> Update {
    Update::Pod(Arc::new(pod(uid, node)))
}

pub(crate) fn gone(uid: &str) -> Update {
    Update::PodGone(uid.into())
}

/// The namespace of all these pods.
pub(crate) fn shop(enrolled: bool) -> Update {
    let mode = if enrolled { "ambient" } else { "none" };
    Update::Namespace(Namespace {
        name: "shop".into(),
        labels: [("istio.io/dataplane-mode".into(), mode.into())].into(),
    })
}
