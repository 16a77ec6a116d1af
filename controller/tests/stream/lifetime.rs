//! Streams end when they have to, and not before.

use std::time::{Duration, SystemTime};

use sluice_mtls::TlsFiles;
use sluice_proto::capture::v1::ResolvePodRequest;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::harness::{Agent, Client, Controller, PATIENCE, put, uri};

#[tokio::test]
async fn a_controller_that_stops_says_so() {
    let mut controller = Controller::start().await;
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller.stop.cancel();
    let ended = agent.end().await;
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("stopping"), "{ended:?}");
    drop(agent);
    let stopped = timeout(PATIENCE, &mut controller.serving).await;
    stopped.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_its_certificate() {
    let controller = Controller::start().await;
    let mut files = controller
        .ca
        .write(controller.dir.path(), "short", &uri("node/a"));
    let expiry = SystemTime::now() + Duration::from_secs(5);
    let (cert, key) = controller.ca.issue_with(&[&uri("node/a")], |params| {
        params.not_after = expiry.into();
    });
    files = TlsFiles {
        cert: write(&controller, "c", &cert),
        key: write(&controller, "k", &key),
        ..files
    };
    let mut client = Client::new(controller.channel_with(files));
    let hello = Default::default();
    let hello = sluice_proto::capture::v1::stream_capture_state_request::Message::Hello(hello);
    let mut agent = Agent::open(client.clone(), hello).await;
    agent.snapshot().await.unwrap();
    let ended = agent.end().await;
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("expired"), "{ended:?}");
    assert!(SystemTime::now() + Duration::from_secs(1) >= expiry);
    // The same connection is worth nothing any more, and soon gone.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let refused = client.resolve_pod(ResolvePodRequest::default()).await;
        match refused.unwrap_err().code() {
            Code::Unauthenticated => sleep(Duration::from_millis(200)).await,
            // Connecting again fails in the handshake.
            Code::Unavailable | Code::Unknown => break,
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < deadline);
    }
}

fn write(controller: &Controller, name: &str, contents: &str) -> std::path::PathBuf {
    let path = controller.dir.path().join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

#[tokio::test]
async fn a_new_certificate_of_the_controller_disturbs_nobody() {
    let controller = Controller::start().await;
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller
        .ca
        .write(controller.dir.path(), "server", &uri("controller/renewed"));
    sleep(Duration::from_millis(1500)).await;
    controller.tell(vec![put("1", "a")]);
    assert_eq!(agent.delta().await.pods.len(), 1);
    let mut fresh = controller.agent("b").await;
    fresh.snapshot().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_up_is_forgotten() {
    let controller = Controller::start().await;
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    assert!(controller.fleet.node("a").is_some());
    drop(agent);
    let deadline = Instant::now() + PATIENCE;
    while controller.fleet.node("a").is_some() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}
