//! Both sides over real connections: who gets in, who does not, and what a
//! hostile client can cost.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rcgen::date_time_ymd;
use rustls::{
    ClientConfig,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use sluice_mtls::{
    AcceptLimits, Caller, Identity, Peer, Reload, TlsFiles, accept, connect, testing::TestCa,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsConnector;
use tonic::{Code, Request, Status, service::InterceptorLayer};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[path = "connections/anonymous.rs"]
mod anonymous;
#[path = "connections/held.rs"]
mod held;
#[path = "connections/revoked.rs"]
mod revoked;

const SLOW: Duration = Duration::from_secs(3600);

struct Served {
    dir: TempDir,
    ca: TestCa,
    address: SocketAddr,
    reload: Arc<Reload>,
    peers: mpsc::UnboundedReceiver<Peer>,
}

impl Served {
    async fn start(limits: AcceptLimits) -> Self {
        Self::start_as(limits, "spiffe://td/controller/c0").await
    }

    async fn start_as(limits: AcceptLimits, uri: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new("td");
        let files = ca.write(dir.path(), "server", uri);
        Self::start_with(limits, dir, ca, files).await
    }

    async fn start_with(limits: AcceptLimits, dir: TempDir, ca: TestCa, files: TlsFiles) -> Self {
        let reload = Reload::start(files, SLOW).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, peers) = mpsc::unbounded_channel();
        let (_, health) = tonic_health::server::health_reporter();
        let notes = InterceptorLayer::new(move |request: Request<()>| {
            let caller = request.extensions().get::<Caller>();
            let caller = caller.ok_or_else(|| Status::internal("no caller"))?;
            match caller.peer(SystemTime::now()) {
                Ok(peer) => sender
                    .send(peer.clone())
                    .map_err(|_| Status::internal("gone"))?,
                Err(stranger) => return Err(Status::unauthenticated(stranger.to_string())),
            }
            Ok(request)
        });
        let incoming = accept::incoming(listener, Arc::clone(&reload), limits);
        tokio::spawn(
            accept::server()
                .layer(notes)
                .add_service(health)
                .serve_with_incoming(incoming),
        );
        Self {
            dir,
            ca,
            address,
            reload,
            peers,
        }
    }

    fn client(&self, ca: &TestCa, uri: &str) -> HealthClient<tonic::transport::Channel> {
        let files = ca.write(self.dir.path(), "client", uri);
        // Trusts the server even where the server does not trust it.
        fs::write(&files.ca, self.ca.ca_pem()).unwrap();
        let reload = Reload::start(files, SLOW).unwrap();
        let endpoint = format!("https://{}", self.address);
        HealthClient::new(connect::channel(&endpoint, reload, connect::any_controller).unwrap())
    }

    /// A TLS client of any shape: what it can read after the handshake.
    async fn raw(&self, config: ClientConfig) -> std::io::Result<usize> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::from(self.address.ip());
        let mut tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await?;
        let mut buffer = [0; 64];
        tls.read(&mut buffer).await
    }

    fn raw_config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        pair: Option<(String, String)>,
    ) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer));
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
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
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

async fn check(client: &mut HealthClient<tonic::transport::Channel>) -> Result<(), Status> {
    client.check(HealthCheckRequest::default()).await.map(drop)
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[tokio::test]
async fn the_service_knows_who_calls() {
    let mut served = Served::start(AcceptLimits::default()).await;
    let mut client = served.client(&served.ca, "spiffe://td/node/worker-1");
    check(&mut client).await.unwrap();
    let peer = served.peers.recv().await.unwrap();
    assert_eq!(peer.identity, Identity::Node("worker-1".into()));
    assert!(peer.address.ip().is_loopback());
    assert!(peer.not_after > SystemTime::now());
}

#[tokio::test]
async fn strangers_are_refused_in_the_handshake() {
    let served = Served::start(AcceptLimits::default()).await;
    let node = "spiffe://td/node/a";
    let expired = served.ca.issue_with(&[node], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let early = served.ca.issue_with(&[node], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
    });
    let server_only = served.ca.issue_with(&[node], |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (who, pair) in [
        ("no certificate", None),
        ("another authority", Some(TestCa::new("td").issue(node))),
        (
            "another trust domain",
            Some(served.ca.issue("spiffe://other/node/a")),
        ),
        (
            "two URI names",
            Some(served.ca.issue_with(&[node, "spiffe://td/node/b"], |_| {})),
        ),
        ("no URI name", Some(served.ca.issue_with(&[], |_| {}))),
        (
            "an unknown kind",
            Some(served.ca.issue("spiffe://td/ns/default/sa/default")),
        ),
        ("expired", Some(expired)),
        ("not valid yet", Some(early)),
        ("not for clients", Some(server_only)),
    ] {
        let read = served.raw(served.raw_config(TLS13, pair)).await;
        assert!(!matches!(read, Ok(1..)), "{who} got in");
    }
    let (cert, key) = served.ca.issue(node);
    let read = served
        .raw(served.raw_config(TLS13, Some((cert, key))))
        .await;
    assert!(matches!(read, Ok(1..)), "the control client: {read:?}");
}

#[tokio::test]
async fn tls_1_2_and_http_1_are_refused() {
    let served = Served::start(AcceptLimits::default()).await;
    let pair = || Some(served.ca.issue("spiffe://td/node/a"));
    let error = served
        .raw(served.raw_config(&[&rustls::version::TLS12], pair()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let mut http1 = served.raw_config(TLS13, pair());
    http1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(!matches!(served.raw(http1).await, Ok(1..)));
    let mut none = served.raw_config(TLS13, pair());
    none.alpn_protocols.clear();
    assert!(!matches!(served.raw(none).await, Ok(1..)));
}

#[tokio::test]
async fn nothing_is_resumed() {
    let served = Served::start(AcceptLimits::default()).await;
    let config = served.raw_config(TLS13, Some(served.ca.issue("spiffe://td/node/a")));
    let config = Arc::new(config);
    for _ in 0..3 {
        let tcp = TcpStream::connect(served.address).await.unwrap();
        let name = ServerName::from(served.address.ip());
        let mut tls = TlsConnector::from(Arc::clone(&config))
            .connect(name, tcp)
            .await
            .unwrap();
        let mut buffer = [0; 64];
        // The server's SETTINGS: a ticket would have come before them.
        assert!(tls.read(&mut buffer).await.unwrap() > 0);
        let (_, session) = tls.get_ref();
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn a_client_takes_only_the_server_it_expects() {
    for uri in ["spiffe://td/node/a", "spiffe://td/operator/o"] {
        let served = Served::start_as(AcceptLimits::default(), uri).await;
        let mut client = served.client(&served.ca, "spiffe://td/node/a");
        let status = check(&mut client).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        let chain = chain(&status);
        assert!(chain.contains("not whom we meant to reach"), "{chain}");
    }
    let served = Served::start(AcceptLimits::default()).await;
    let stranger = TestCa::new("td");
    let files = stranger.write(served.dir.path(), "stranger", "spiffe://td/node/a");
    let reload = Reload::start(files, SLOW).unwrap();
    let endpoint = format!("https://{}", served.address);
    let channel = connect::channel(&endpoint, reload, connect::any_controller).unwrap();
    let status = check(&mut HealthClient::new(channel)).await.unwrap_err();
    assert!(
        chain(&status).contains("invalid peer certificate"),
        "{}",
        chain(&status)
    );
}

fn chain(status: &Status) -> String {
    let mut text = status.to_string();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_new_certificate_drops_no_open_connection() {
    let mut served = Served::start(AcceptLimits::default()).await;
    let mut open = served.client(&served.ca, "spiffe://td/node/a");
    check(&mut open).await.unwrap();
    let first = served.peers.recv().await.unwrap();

    // The same files as `start` wrote, from a new authority: nobody with an old
    // certificate could connect now.
    let fresh = TestCa::new("td");
    fresh.write(served.dir.path(), "server", "spiffe://td/controller/c1");
    assert!(served.reload.look().unwrap());

    check(&mut open).await.unwrap();
    let second = served.peers.recv().await.unwrap();
    assert_eq!(first.address, second.address, "the same connection");

    let mut late = served.client(&served.ca, "spiffe://td/node/b");
    check(&mut late).await.unwrap_err();
    let files = fresh.write(served.dir.path(), "new", "spiffe://td/node/c");
    let reload = Reload::start(files, SLOW).unwrap();
    let endpoint = format!("https://{}", served.address);
    let channel = connect::channel(&endpoint, reload, connect::any_controller).unwrap();
    check(&mut HealthClient::new(channel)).await.unwrap();
}

#[tokio::test]
async fn silent_clients_are_dropped_and_hold_nobody_up() {
    let limits = AcceptLimits {
        handshake_deadline: Duration::from_secs(3),
        max_half_open: 8,
        ..AcceptLimits::default()
    };
    let served = Served::start(limits).await;
    let begin = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let mut honest = served.client(&served.ca, "spiffe://td/node/a");
    check(&mut honest).await.unwrap();
    assert!(
        begin.elapsed() < limits.handshake_deadline,
        "it waited for the silent ones"
    );
    for mut stream in silent {
        assert!(matches!(stream.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn one_handshake_too_many_drops_the_oldest() {
    let limits = AcceptLimits {
        handshake_deadline: SLOW,
        max_half_open: 3,
        ..AcceptLimits::default()
    };
    let served = Served::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let mut honest = served.client(&served.ca, "spiffe://td/node/a");
    check(&mut honest).await.unwrap();
    assert!(matches!(silent[0].read(&mut [0; 1]).await, Ok(0) | Err(_)));
    for late in &mut silent[1..] {
        let mut buffer = [0; 1];
        let read = tokio::time::timeout(Duration::from_millis(50), late.read(&mut buffer));
        assert!(read.await.is_err(), "only the oldest goes");
    }
}

#[tokio::test]
async fn an_open_connection_is_no_half_open_one() {
    let limits = AcceptLimits {
        handshake_deadline: SLOW,
        max_half_open: 1,
        ..AcceptLimits::default()
    };
    let served = Served::start(limits).await;
    let mut clients: Vec<_> = ["a", "b", "c"]
        .map(|name| served.client(&served.ca, &format!("spiffe://td/node/{name}")))
        .into();
    for _ in 0..2 {
        for client in &mut clients {
            check(client).await.unwrap();
        }
    }
}
