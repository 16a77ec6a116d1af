//! A controller that issues, and a stand-in for the API server.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use rcgen::{CertificateParams, KeyPair};
use sluice_controller::{
    fleet::Fleet,
    issuer::{
        Signer,
        admit::{AUDIENCE, Rules},
        authority::Kept,
        review::{Placed, Reviewer, Unreachable},
        service::Service,
    },
    model::Revision,
    select::{self, ProxyRule},
    serve,
    source::Batch,
};
use sluice_mtls::{AcceptLimits, Held, Reload, TlsFiles, connect};
use sluice_proto::{
    capture::v1::{
        Hello, StreamCaptureStateRequest, StreamCaptureStateResponse,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message,
    },
    identity::v1::{
        IssueNodeCertificateRequest, IssueNodeCertificateResponse,
        identity_service_client::IdentityServiceClient,
    },
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, async_trait, transport::Channel};

const SLOW: Duration = Duration::from_secs(3600);

/// What the stand-in says about every token.
#[derive(Clone)]
pub(crate) enum Answer {
    Says(Box<TokenReviewStatus>),
    Gone,
}

impl Answer {
    pub(crate) fn agent_on(node: &str) -> Self {
        Self::agent(&[("node-name", node)], |_| {})
    }

    pub(crate) fn agent_without_node() -> Self {
        Self::agent(&[], |_| {})
    }

    pub(crate) fn agent(
        more: &[(&str, &str)],
        change: impl FnOnce(&mut TokenReviewStatus),
    ) -> Self {
        let bound = [("pod-name", "agent-x"), ("pod-uid", "u1")];
        let extra: BTreeMap<_, _> = bound
            .iter()
            .chain(more)
            .map(|(key, value)| {
                let key = format!("authentication.kubernetes.io/{key}");
                (key, vec![(*value).to_owned()])
            })
            .collect();
        let mut status = TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.into()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:sluice-system:sluice-agent".into()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
        };
        change(&mut status);
        Self::Says(Box::new(status))
    }
}

struct Said {
    answer: Mutex<Answer>,
    pods: Mutex<BTreeMap<String, Placed>>,
    reviews: AtomicUsize,
}

/// Stands in for the API server's TokenReview and pods.
#[derive(Clone)]
struct FakeTokenReview(Arc<Said>);

#[async_trait]
impl Reviewer for FakeTokenReview {
    async fn review(&self, _token: &str) -> Result<TokenReviewStatus, Unreachable> {
        self.0.reviews.fetch_add(1, Ordering::SeqCst);
        match &*self.0.answer.lock().unwrap() {
            Answer::Says(status) => Ok((**status).clone()),
            Answer::Gone => Err(Unreachable::Slow { what: "token" }),
        }
    }

    async fn pod(&self, name: &str) -> Result<Option<Placed>, Unreachable> {
        Ok(self.0.pods.lock().unwrap().get(name).cloned())
    }
}

pub(crate) struct Issuing {
    pub(crate) lifetime: Duration,
    pub(crate) signer: Arc<Signer>,
    pub(crate) own: Arc<Reload>,
    pub(crate) kept: Kept,
    said: Arc<Said>,
    address: SocketAddr,
    dir: TempDir,
    stop: CancellationToken,
}

impl Drop for Issuing {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Issuing {
    pub(crate) async fn start(answer: Answer) -> Self {
        Self::start_for(answer, Duration::from_secs(600)).await
    }

    pub(crate) async fn start_for(answer: Answer, lifetime: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::generate("td", SystemTime::now()).unwrap();
        let own = Reload::start_held(files(&dir, "own"), SLOW);
        let signer = Signer::new("td".into(), "c-0".into(), lifetime, Arc::clone(&own));
        let signer = Arc::new(signer);
        signer.take(kept.clone(), "the test").unwrap();
        let said = Arc::new(Said {
            answer: Mutex::new(answer),
            pods: Mutex::default(),
            reviews: AtomicUsize::new(0),
        });
        let rules = Rules {
            namespace: "sluice-system".into(),
            service_account: "sluice-agent".into(),
        };
        let reviewer = FakeTokenReview(Arc::clone(&said));
        let service = Service::new(Arc::clone(&signer), rules, reviewer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve::serve(
            listener,
            Arc::clone(&own),
            Some(service),
            AcceptLimits::default(),
            fleet(),
            stop.clone(),
        ));
        let issuing = Self {
            lifetime,
            signer,
            own,
            kept,
            said,
            address,
            dir,
            stop,
        };
        issuing.trust(&issuing.kept.cert);
        issuing
    }

    pub(crate) fn trust(&self, bundle: &[u8]) {
        fs::write(self.dir.path().join("trust.crt"), bundle).unwrap();
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.said.answer.lock().unwrap() = answer;
    }

    pub(crate) fn place(&self, pod: &str, uid: &str, node: Option<&str>) {
        let placed = Placed {
            uid: uid.into(),
            node: node.map(str::to_owned),
        };
        self.said.pods.lock().unwrap().insert(pod.into(), placed);
    }

    pub(crate) fn reviews(&self) -> usize {
        self.said.reviews.load(Ordering::SeqCst)
    }

    /// A channel without a certificate.
    pub(crate) fn stranger(&self) -> Channel {
        connect::anonymous_channel(
            &format!("https://{}", self.address),
            self.dir.path().join("trust.crt"),
            "td".into(),
            connect::any_controller,
        )
        .unwrap()
    }

    pub(crate) fn channel(&self, reload: Arc<Reload>) -> Channel {
        let endpoint = format!("https://{}", self.address);
        connect::channel(&endpoint, reload, connect::any_controller).unwrap()
    }

    /// What was issued, ready to connect with.
    pub(crate) fn held(&self, issued: &IssueNodeCertificateResponse, key: &str) -> Arc<Reload> {
        let reload = Reload::start_held(files(&self.dir, "trust.crt"), SLOW);
        let cert = pem(&issued.certificates[0]);
        let pair = Some((cert.into_bytes(), key.as_bytes().to_vec()));
        let authorities = None;
        reload.hold(Held { pair, authorities }).unwrap();
        reload
    }

    pub(crate) async fn issue(
        &self,
        token: &str,
    ) -> Result<(IssueNodeCertificateResponse, String), Status> {
        let key = KeyPair::generate().unwrap();
        let issued = self.ask(request(&key, token)).await?;
        Ok((issued, key.serialize_pem()))
    }

    pub(crate) async fn ask(
        &self,
        request: IssueNodeCertificateRequest,
    ) -> Result<IssueNodeCertificateResponse, Status> {
        let mut client = IdentityServiceClient::new(self.stranger());
        let answer = client.issue_node_certificate(request).await?;
        Ok(answer.into_inner())
    }
}

pub(crate) fn request(key: &KeyPair, token: &str) -> IssueNodeCertificateRequest {
    let params = CertificateParams::default();
    IssueNodeCertificateRequest {
        signing_request: params.serialize_request(key).unwrap().der().to_vec(),
        token: token.into(),
        node_name: String::new(),
    }
}

/// The stream of whoever the channel's certificate names.
pub(crate) async fn open(
    channel: Channel,
) -> Result<Streaming<StreamCaptureStateResponse>, Status> {
    let hello = StreamCaptureStateRequest {
        message: Some(Message::Hello(Hello::default())),
    };
    // And then nothing, but the agent stays.
    let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut client = CaptureDiscoveryServiceClient::new(channel);
    Ok(client.stream_capture_state(requests).await?.into_inner())
}

fn fleet() -> Arc<Fleet> {
    let rules = select::Rules {
        proxy: ProxyRule {
            namespace: "istio-system".into(),
            service_account: "ztunnel".into(),
            labels: [].into(),
        },
        excluded_namespaces: [].into(),
        enablement: select::Selectors::default(),
    };
    let fleet = Arc::new(Fleet::new(rules, Duration::from_secs(1)));
    fleet.apply(Batch {
        in_sync: true,
        ..Batch::nothing(Revision {
            source: "test".into(),
            pods: 1,
            namespaces: 1,
        })
    });
    fleet
}

fn files(dir: &TempDir, ca: &str) -> TlsFiles {
    TlsFiles {
        cert: "issued".into(),
        key: "issued".into(),
        ca: dir.path().join(ca),
        crl: None,
        trust_domain: "td".into(),
    }
}

fn pem(der: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64(der).as_bytes().chunks(64) {
        writeln!(text, "{}", str::from_utf8(line).unwrap()).unwrap();
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn base64(bytes: &[u8]) -> String {
    let json = serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap();
    json.as_str().unwrap().to_owned()
}
