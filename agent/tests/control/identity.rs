//! The node's certificate from an issuer, here one that says what the test
//! tells it to.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use sluice_agent::identity::{self, Options, Standing};
use sluice_mtls::{AcceptLimits, Caller, Reload, accept};
use sluice_proto::identity::v1::{
    IssueNodeCertificateRequest, IssueNodeCertificateResponse,
    identity_service_server::{IdentityService, IdentityServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tonic::{Request, Response, Status};

use crate::node::Setup;

const PATIENCE: Duration = Duration::from_secs(60);

/// What it has been asked.
struct Asked {
    token: String,
    has_certificate: bool,
}

struct FakeIssuer {
    setup: Arc<Setup>,
    answer: Arc<Mutex<Result<(&'static str, Duration), Status>>>,
    asked: mpsc::UnboundedSender<Asked>,
}

#[tonic::async_trait]
impl IdentityService for FakeIssuer {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap();
        let has_certificate = caller.peer(SystemTime::now()).is_ok();
        let request = request.into_inner();
        let token = request.token;
        let _ = self.asked.send(Asked {
            token,
            has_certificate,
        });
        let (node, lifetime) = self.answer.lock().unwrap().clone()?;
        let uri = format!("spiffe://cluster.local/node/{node}");
        let ca = &self.setup.ca;
        Ok(Response::new(IssueNodeCertificateResponse {
            certificates: vec![ca.sign(&request.signing_request, &uri, lifetime)],
            ..IssueNodeCertificateResponse::default()
        }))
    }
}

struct World {
    setup: Arc<Setup>,
    answer: Arc<Mutex<Result<(&'static str, Duration), Status>>>,
    asked: mpsc::UnboundedReceiver<Asked>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    async fn start(node: &'static str, lifetime: Duration) -> Self {
        let setup = Arc::new(Setup::new());
        let (sender, asked) = mpsc::unbounded_channel();
        let answer = Arc::new(Mutex::new(Ok((node, lifetime))));
        let issuer = FakeIssuer {
            setup: Arc::clone(&setup),
            answer: Arc::clone(&answer),
            asked: sender,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = AcceptLimits {
            max_anonymous: 8,
            ..AcceptLimits::default()
        };
        let incoming = accept::incoming(listener, setup.identity("controller", "c0"), limits);
        let router = accept::server().add_service(IdentityServiceServer::new(issuer));
        let task = tokio::spawn(async move {
            router.serve_with_incoming(incoming).await.unwrap();
        });
        fs::write(setup.dir.path().join("trust.crt"), setup.ca.ca_pem()).unwrap();
        let world = Self {
            setup,
            answer,
            asked,
            address,
            task,
        };
        fs::write(world.token(), "first\n").unwrap();
        world
    }

    fn token(&self) -> PathBuf {
        self.setup.dir.path().join("token")
    }

    fn agent(&self) -> (Arc<Reload>, watch::Receiver<Standing>) {
        identity::start(Options {
            node_name: "node-a".into(),
            controllers: vec![format!("https://{}", self.address)],
            token_file: self.token(),
            trust: self.setup.dir.path().join("trust.crt"),
            crl: None,
            trust_domain: "cluster.local".into(),
            state_dir: self.setup.dir.path().to_owned(),
        })
    }

    async fn next(&mut self) -> Asked {
        let asked = timeout(PATIENCE, self.asked.recv()).await;
        asked.unwrap().unwrap()
    }
}

async fn until(seen: &mut watch::Receiver<Standing>, holds: impl FnMut(&Standing) -> bool) {
    let found = timeout(PATIENCE, seen.wait_for(holds)).await.is_ok();
    assert!(found, "{:?}", seen.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_kept_and_renewed_with_the_newest_token() {
    let mut world = World::start("node-a", Duration::from_secs(6)).await;
    let (reload, mut seen) = world.agent();
    let first = world.next().await;
    assert_eq!(
        (first.token.as_str(), first.has_certificate),
        ("first", false)
    );
    until(&mut seen, |standing| standing.not_after.is_some()).await;
    let old = seen.borrow().not_after;
    assert_eq!(reload.identity().unwrap().to_string(), "node/node-a");
    let file = world.setup.dir.path().join("node.pem");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&file).unwrap();

    fs::write(world.token(), "second").unwrap();
    let renewed = world.next().await;
    assert_eq!(
        (renewed.token.as_str(), renewed.has_certificate),
        ("second", true)
    );
    until(&mut seen, |standing| standing.not_after > old).await;
    assert_eq!(reload.not_after(), seen.borrow().not_after);
    assert!(fs::read(&file).unwrap() != before, "a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_while_nobody_answers_uses_what_was_kept() {
    let mut world = World::start("node-a", Duration::from_secs(600)).await;
    let (reload, mut seen) = world.agent();
    world.next().await;
    until(&mut seen, |standing| standing.not_after.is_some()).await;
    let kept = reload.not_after();
    drop((reload, seen));
    *world.answer.lock().unwrap() = Err(Status::unavailable("the API server is gone"));
    let (reload, mut seen) = world.agent();
    until(&mut seen, |standing| standing.not_after == kept).await;
    assert_eq!(reload.not_after(), kept);
    assert_eq!(seen.borrow().ready(SystemTime::now()), Ok(()));

    // Nobody who believes another authority would take it.
    drop((reload, seen));
    let other = sluice_mtls::testing::TestCa::new("elsewhere");
    fs::write(world.setup.dir.path().join("trust.crt"), other.ca_pem()).unwrap();
    let (reload, _seen) = world.agent();
    let mut expiry = reload.expiry();
    let _ = timeout(PATIENCE, expiry.wait_for(Option::is_some)).await;
    assert!(!reload.is_vouched_for());
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_none_is_said() {
    let world = World::start("node-b", Duration::from_secs(600)).await;
    fs::remove_file(world.token()).unwrap();
    let (reload, mut seen) = world.agent();
    until(&mut seen, |standing| {
        standing.last_error.contains("--token-file")
    })
    .await;
    let reason = seen.borrow().ready(SystemTime::now()).unwrap_err();
    assert!(reason.contains("no certificate"), "{reason}");
    // A certificate of another node is not taken.
    fs::write(world.token(), "token").unwrap();
    until(&mut seen, |standing| {
        standing.last_error.contains("node/node-b")
    })
    .await;
    assert_eq!(reload.identity(), None);
    *world.answer.lock().unwrap() = Err(Status::unauthenticated("token has expired"));
    until(&mut seen, |standing| {
        standing.last_error.contains("token has expired")
    })
    .await;
    *world.answer.lock().unwrap() = Ok(("node-a", Duration::from_secs(600)));
    until(&mut seen, |standing| standing.last_error.is_empty()).await;
    assert!(reload.is_vouched_for());
}
