//! Who may use the agent's services, and what they say.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sluice_agent::{
    ops::{
        cli,
        node::NodeService,
        serve::{self, CAPTURE},
    },
    status::{Event, EventKind},
};
use sluice_mtls::connect;
use sluice_ops::unix;
use sluice_proto::agent::v1::{
    self as proto, cni_service_client::CniServiceClient, cni_service_server::CniService,
    node_service_client::NodeServiceClient,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    ask::{dial, health, services_v1, services_v1alpha},
    controller::{FakeController, Mood, snapshot},
    node::{Node, Setup},
};

/// A pod's creation is none of this test's business.
struct NoCni;

#[tonic::async_trait]
impl CniService for NoCni {
    async fn add_pod(
        &self,
        _: Request<proto::AddPodRequest>,
    ) -> Result<Response<proto::AddPodResponse>, Status> {
        Err(Status::unavailable("no proxy"))
    }

    async fn del_pod(
        &self,
        _: Request<proto::DelPodRequest>,
    ) -> Result<Response<proto::DelPodResponse>, Status> {
        Ok(Response::new(proto::DelPodResponse {}))
    }

    async fn check_pod(
        &self,
        _: Request<proto::CheckPodRequest>,
    ) -> Result<Response<proto::CheckPodResponse>, Status> {
        Err(Status::not_found("never added"))
    }

    async fn status(
        &self,
        _: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        Ok(Response::new(proto::StatusResponse {}))
    }

    async fn gc(
        &self,
        _: Request<proto::GcRequest>,
    ) -> Result<Response<proto::GcResponse>, Status> {
        Ok(Response::new(proto::GcResponse { forgotten: 0 }))
    }
}

/// An agent that knows pod `u1`.
async fn agent(setup: &Setup) -> (Node, FakeController) {
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);
    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    stream.stored().await;
    stream.report_of("u1").await;
    // Kept open by the channel inside the controller's task.
    std::mem::forget(stream);
    (node, controller)
}

fn service(node: &Node) -> NodeService {
    NodeService::new("node-a", node.capture.clone(), node.control.link())
}

async fn remote(setup: &Setup, node: &Node) -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let reload = setup.identity("node", "node-a");
    let stop = CancellationToken::new();
    let listener = serve::listen(any).await.unwrap();
    let address = listener.local_addr().unwrap();
    serve::remote(listener, reload, service(node), node.capture.status(), stop).unwrap();
    address
}

fn channel(setup: &Setup, address: SocketAddr, kind: &str) -> Channel {
    let identity = setup.identity(kind, "somebody");
    connect::channel(&format!("https://{address}"), identity, connect::any_node).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_and_others_may_not() {
    let setup = Setup::new();
    let (node, _controller) = agent(&setup).await;
    let address = remote(&setup, &node).await;

    let operator = channel(&setup, address, "operator");
    let mut client = NodeServiceClient::new(operator.clone());
    let status = client
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.node_name, "node-a");
    assert!(status.controller.unwrap().connected);
    client.resync(proto::ResyncRequest {}).await.unwrap();
    assert!(
        services_v1(operator)
            .await
            .unwrap()
            .contains(&"sluice.agent.v1.NodeService".into())
    );

    for kind in ["node", "controller"] {
        let other = channel(&setup, address, kind);
        let mut client = NodeServiceClient::new(other.clone());
        let denied = client
            .get_status(proto::GetStatusRequest {})
            .await
            .unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        assert!(denied.message().contains("it is for operators"), "{denied}");
        let denied = services_v1(other.clone()).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
        let denied = health(other, CAPTURE).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied);
    }

    // What is for the container runtime is not there at all.
    let mut cni = CniServiceClient::new(channel(&setup, address, "operator"));
    let missing = cni
        .del_pod(proto::DelPodRequest::default())
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::Unimplemented);
}

/// Takes any server, and has no certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_no_connection() {
    let setup = Setup::new();
    let node = setup.agent(vec!["https://127.0.0.1:9".into()]);
    let address = remote(&setup, &node).await;

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    // In TLS 1.3 the client believes to be done before the server has judged it.
    if let Ok(mut tls) = connected {
        let _ = tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let error = tls.read(&mut [0; 16]).await.unwrap_err().to_string();
        assert!(error.contains("CertificateRequired"), "{error}");
    }
}

/// Serves on the agent's socket.
fn local(setup: &Setup, node: &Node) -> PathBuf {
    let socket = setup.dir.path().join("run/agent.sock");
    let incoming = unix::bind(&socket).unwrap();
    let stop = CancellationToken::new();
    serve::local(incoming, NoCni, service(node), node.capture.status(), stop).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn root_finds_every_service_on_the_socket() {
    let setup = Setup::new();
    let (node, _controller) = agent(&setup).await;
    let channel = dial(&local(&setup, &node));

    let listed = services_v1(channel.clone()).await.unwrap();
    for service in ["sluice.agent.v1.NodeService", "sluice.agent.v1.CniService"] {
        assert!(listed.contains(&service.into()), "{listed:?}");
    }
    assert_eq!(services_v1alpha(channel.clone()).await.unwrap(), listed);
    assert_eq!(
        health(channel.clone(), "").await.unwrap(),
        ServingStatus::Serving
    );
    // No proxy is known to this agent.
    assert_eq!(
        health(channel.clone(), CAPTURE).await.unwrap(),
        ServingStatus::NotServing
    );
    let mut cni = CniServiceClient::new(channel);
    cni.del_pod(proto::DelPodRequest::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_service_speaks_of_pods_and_events() {
    let setup = Setup::new();
    let (node, _controller) = agent(&setup).await;
    let mut client = NodeServiceClient::new(dial(&local(&setup, &node)));

    let pods = client
        .list_pods(proto::ListPodsRequest {})
        .await
        .unwrap()
        .into_inner()
        .pods;
    assert_eq!((pods.len(), pods[0].uid.as_str()), (1, "u1"));
    let ask = |pod: &str| proto::ExplainPodRequest { pod: pod.into() };
    let missing = client.explain_pod(ask("no/such")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let explained = client
        .explain_pod(ask("default/pod-u1"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(explained.pod.unwrap().uid, "u1");

    let watching = client.watch_events(proto::WatchEventsRequest {}).await;
    let mut events = watching.unwrap().into_inner();
    node.capture.publish(Event {
        at: SystemTime::now(),
        kind: EventKind::Repair,
        pod: None,
        message: "mended".into(),
    });
    assert_eq!(events.next().await.unwrap().unwrap().message, "mended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_what_the_service_says() {
    let setup = Setup::new();
    let (node, _controller) = agent(&setup).await;
    let socket = local(&setup, &node);

    let text = cli::status(&socket, false).await.unwrap();
    assert!(text.contains("node-a") && text.contains("pod-u1"), "{text}");
    let explained = cli::explain(&socket, "u1", true).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(json["pod"]["name"], "pod-u1");
    let missing = cli::explain(&socket, "nobody", false)
        .await
        .unwrap_err()
        .to_string();
    assert!(missing.contains("sluice-agent status"), "{missing}");
}

/// Set for the copy of this test that runs as somebody else.
const AS_NOBODY: &str = "SLUICE_TEST_SOCKET";

#[tokio::test(flavor = "multi_thread")]
async fn others_than_root_are_refused_on_the_socket() {
    if let Some(socket) = std::env::var_os(AS_NOBODY) {
        return call_as_nobody(Path::new(&socket)).await;
    }
    let setup = Setup::new();
    let node = setup.agent(vec!["https://127.0.0.1:9".into()]);
    let socket = local(&setup, &node);
    assert_eq!(
        fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(socket.parent().unwrap())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );

    // Doors open, so that only the credentials are left to stop the caller.
    for (path, mode) in [
        (setup.dir.path(), 0o755),
        (socket.parent().unwrap(), 0o755),
        (&socket, 0o666),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let myself = setup.dir.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &myself).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "another user needs another process"
    )]
    let mut command = Command::new(myself);
    command
        .args([
            "--exact",
            "services::others_than_root_are_refused_on_the_socket",
            "--nocapture",
        ])
        .env(AS_NOBODY, &socket)
        .current_dir("/")
        .uid(65_534)
        .gid(65_534);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{output:?}"
    );
}

async fn call_as_nobody(socket: &Path) {
    let channel = dial(socket);
    let mut node = NodeServiceClient::new(channel.clone());
    let denied = node
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("65534"), "{denied}");
    let mut cni = CniServiceClient::new(channel.clone());
    let denied = cni
        .del_pod(proto::DelPodRequest::default())
        .await
        .unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert_eq!(
        services_v1(channel).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}
