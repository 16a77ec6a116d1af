//! The issuer over real TLS, with a stand-in for the API server: who gets a
//! certificate, and what callers without one may reach.

#![expect(clippy::unwrap_used, reason = "tests fail where they stand")]

#[path = "issuer/harness.rs"]
mod harness;
#[path = "issuer/refused.rs"]
mod refused;
#[path = "issuer/rotation.rs"]
mod rotation;

use std::time::{Duration, SystemTime};

use harness::{Answer, Issuing, open};
use sluice_mtls::Identity;
use sluice_proto::{
    capture::v1::{
        ResolvePodRequest, capture_discovery_service_client::CaptureDiscoveryServiceClient,
    },
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
};

#[tokio::test]
async fn a_good_token_opens_the_stream_of_its_node() {
    let issuing = Issuing::start(Answer::agent_on("worker-1")).await;
    let (issued, key) = issuing.issue("token").await.unwrap();
    let leaf = &issued.certificates[0];
    let identity = Identity::of_certificate("td", leaf).unwrap();
    assert_eq!(identity, Identity::Node("worker-1".into()));
    let not_after = SystemTime::try_from(issued.not_after.unwrap()).unwrap();
    assert!(not_after <= SystemTime::now() + issuing.lifetime);
    assert_eq!(issued.authorities.len(), 1);

    let channel = issuing.channel(issuing.held(&issued, &key));
    let mut stream = open(channel).await.unwrap();
    let first = stream.message().await.unwrap();
    assert!(first.is_some(), "a snapshot");
}

#[tokio::test]
async fn without_a_certificate_only_that_and_health_are_reached() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    let channel = issuing.stranger();
    let code = |status: tonic::Status| status.code();
    let nobody = Some(Code::Unauthenticated);
    let mut capture = CaptureDiscoveryServiceClient::new(channel.clone());
    let refused = capture.resolve_pod(ResolvePodRequest::default()).await;
    assert_eq!(refused.err().map(code), nobody);
    let refused = capture.stream_capture_state(tokio_stream::empty()).await;
    assert_eq!(refused.err().map(code), nobody);
    let mut fleet = FleetServiceClient::new(channel.clone());
    let refused = fleet.list_nodes(ListNodesRequest::default()).await;
    assert_eq!(refused.err().map(code), nobody);
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let asked = tokio_stream::once(ServerReflectionRequest::default());
    let refused = reflection.server_reflection_info(asked).await;
    assert_eq!(refused.err().map(code), nobody);
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_review_is_remembered_for_a_moment() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    for _ in 0..3 {
        issuing.issue("one").await.unwrap();
    }
    assert_eq!(issuing.reviews(), 1);
    issuing.issue("another").await.unwrap();
    assert_eq!(issuing.reviews(), 2);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_no_refusal() {
    let issuing = Issuing::start(Answer::Gone).await;
    let refused = issuing.issue("token").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    // And not remembered.
    issuing.answer(Answer::agent_on("a"));
    issuing.issue("token").await.unwrap();
}

#[tokio::test]
async fn a_pod_is_looked_up_when_the_token_does_not_name_its_node() {
    let issuing = Issuing::start(Answer::agent_without_node()).await;
    issuing.place("agent-x", "u1", Some("worker-2"));
    let (issued, _) = issuing.issue("token").await.unwrap();
    let identity = Identity::of_certificate("td", &issued.certificates[0]).unwrap();
    assert_eq!(identity, Identity::Node("worker-2".into()));
}

#[tokio::test]
async fn a_flood_is_cut_off_before_it_costs_anything() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    let (issued, key) = issuing.issue("honest").await.unwrap();
    let mut stream = open(issuing.channel(issuing.held(&issued, &key)))
        .await
        .unwrap();
    stream.message().await.unwrap();
    let mut exhausted = 0;
    for number in 0..200 {
        let answer = issuing.issue(&format!("flood {number}")).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        exhausted += usize::from(code == Code::ResourceExhausted);
    }
    assert!(exhausted > 150, "{exhausted}");
    assert!(issuing.reviews() < 50, "{}", issuing.reviews());
    // The stream that is open has not noticed.
    let silent = tokio::time::timeout(Duration::from_millis(100), stream.message()).await;
    assert!(silent.is_err(), "{silent:?}");
}
