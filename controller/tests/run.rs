//! The whole controller on a folder: flags in, streams and endpoints out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail where they stand"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use clap::Parser as _;
use sluice_controller::{
    config::{Cli, Command, Config},
    run,
};
use sluice_mtls::{Reload, TlsFiles, connect, testing::TestCa};
use sluice_proto::{
    capture::v1::{
        Hello, StreamCaptureStateRequest, StreamCaptureStateResponse, Wanted,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message, stream_capture_state_response::Batch,
    },
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, transport::Channel};

/// Ends a wait that is in vain.
const PATIENCE: Duration = Duration::from_secs(60);
const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, uid: u1}
spec: {nodeName: node-a}
";

fn namespace(mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  \
         labels: {{istio.io/dataplane-mode: {mode}}}\n"
    )
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn config(folder: &Path, listen: SocketAddr, http: SocketAddr, tls: &TlsFiles) -> Config {
    let args = [
        format!("--directory={}", folder.display()),
        format!("--listen={listen}"),
        format!("--metrics-listen={http}"),
        format!("--tls-cert={}", tls.cert.display()),
        format!("--tls-key={}", tls.key.display()),
        format!("--tls-ca={}", tls.ca.display()),
        "--release-after=200ms".to_owned(),
    ];
    let verb = ["sluice-controller", "run"].map(str::to_owned);
    let cli = Cli::try_parse_from(verb.into_iter().chain(args)).unwrap();
    match cli.command {
        Command::Run(config) => *config,
        other => panic!("{other:?}"),
    }
}

fn get(http: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(http).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if check() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

async fn open(channel: Channel) -> Streaming<StreamCaptureStateResponse> {
    let hello = StreamCaptureStateRequest {
        message: Some(Message::Hello(Hello::default())),
    };
    let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
    let mut client = CaptureDiscoveryServiceClient::new(channel);
    client
        .stream_capture_state(requests)
        .await
        .unwrap()
        .into_inner()
}

// What is wanted of the pod in the next message.
async fn next(stream: &mut Streaming<StreamCaptureStateResponse>) -> Wanted {
    let message = timeout(PATIENCE, stream.message()).await;
    match message.unwrap().unwrap().unwrap().batch.unwrap() {
        Batch::Snapshot(part) => part.pods[0].wanted(),
        Batch::Delta(delta) => delta.pods[0].wanted(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_ends_in_a_stream() {
    let (ca, dir) = (TestCa::new("cluster.local"), tempfile::tempdir().unwrap());
    let folder = dir.path().join("pods");
    let issue = |name: &str| {
        let uri = format!("spiffe://cluster.local/{name}");
        ca.write(dir.path(), &name.replace('/', "-"), &uri)
    };
    let (listen, http) = (free_port(), free_port());
    let config = config(&folder, listen, http, &issue("controller/main"));
    let stop = CancellationToken::new();
    let running = tokio::spawn(run::run(config, stop.clone()));
    let channel = |name: &str| {
        let tls = Reload::start(issue(name), Duration::from_secs(10)).unwrap();
        connect::channel(&format!("https://{listen}"), tls, connect::any_controller).unwrap()
    };

    until("alive", || TcpStream::connect(http).is_ok()).await;
    assert!(get(http, "/healthz").starts_with("HTTP/1.1 200"));
    until("why not ready", || {
        let answer = get(http, "/readyz");
        answer.starts_with("HTTP/1.1 503") && answer.contains("the folder cannot be read")
    })
    .await;
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("web.yaml"), POD).unwrap();
    fs::write(folder.join("shop.yaml"), namespace("none")).unwrap();
    until("ready", || get(http, "/readyz").starts_with("HTTP/1.1 200")).await;

    let mut stream = open(channel("node/node-a")).await;
    assert_eq!(next(&mut stream).await, Wanted::Nothing);
    fs::write(folder.join("shop.yaml"), namespace("ambient")).unwrap();
    assert_eq!(next(&mut stream).await, Wanted::Captured);
    fs::write(folder.join("shop.yaml"), "kind: Namespace\nmetadata: [\n").unwrap();
    until("told", || {
        get(http, "/metrics").contains("sluice_controller_source_errors 1")
    })
    .await;
    let mut operator = FleetServiceClient::new(channel("operator/alice"));
    let nodes = operator.list_nodes(ListNodesRequest::default()).await;
    let nodes = nodes.unwrap().into_inner();
    assert!(
        nodes.source_errors[0].starts_with("shop.yaml:2: "),
        "{nodes:?}"
    );
    assert_eq!(nodes.nodes[0].enrolled, 1, "the last good one stays");
    fs::write(folder.join("shop.yaml"), namespace("none")).unwrap();
    assert_eq!(next(&mut stream).await, Wanted::Releasing);
    assert_eq!(next(&mut stream).await, Wanted::Nothing);

    stop.cancel();
    drop((stream, operator));
    let stopped = timeout(PATIENCE, running).await;
    stopped.unwrap().unwrap().unwrap();
}
