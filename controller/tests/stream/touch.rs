//! A replica that has lost touch with its source.

use std::time::{Duration, Instant};

use sluice_controller::{model::Revision, source::Batch};
use sluice_proto::capture::v1::{Hello, ResolvePodRequest, SourceRevision};
use tonic::Code;

use crate::harness::{Controller, put, shop};

fn lost(seconds: u64) -> impl FnOnce(&mut Batch) {
    move |batch| batch.out_of_touch = Some(Instant::now() - Duration::from_secs(seconds))
}

fn ask(uid: &str) -> ResolvePodRequest {
    ResolvePodRequest {
        uid: uid.into(),
        ..ResolvePodRequest::default()
    }
}

#[tokio::test]
async fn sends_agents_elsewhere_for_a_while() {
    let controller = Controller::start().await;
    controller.tell_with(vec![put("1", "a"), shop(true)], lost(5));
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    assert!(controller.fleet.ready().is_ok(), "not yet");

    controller.tell_with(vec![], lost(30));
    assert!(controller.fleet.ready().is_err());
    let mut agent = controller.agent("a").await;
    let refused = agent.end().await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("lost touch"), "{refused:?}");
    // What it knows it says; of what it does not, another may know.
    let mut client = controller.client("node/a");
    client.resolve_pod(ask("1")).await.unwrap();
    let unknown = client.resolve_pod(ask("2")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);

    // Nobody else has taken it in: better this than nothing.
    controller.tell_with(vec![], lost(100));
    let mut agent = controller.agent("a").await;
    assert_eq!(agent.snapshot().await.unwrap().pods.len(), 1);
    assert!(controller.fleet.ready().is_err());

    controller.tell(vec![]);
    assert!(controller.fleet.ready().is_ok());
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
}

#[tokio::test]
async fn ends_the_streams_it_has() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a")]);
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller.tell_with(vec![], |batch| {
        let almost = Duration::from_millis(9_500);
        batch.out_of_touch = Some(Instant::now() - almost);
    });
    let ended = loop {
        match agent.receive().await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("lost touch"), "{ended:?}");
}

// The newest change that is known here is older than what the agent has seen,
// and all the same nothing is missing: the agent is told so in its own terms.
#[tokio::test]
async fn what_is_reached_counts_and_not_what_changed_last() {
    let controller = Controller::start().await;
    let seen = controller.revision().pods + 50;
    controller.tell_with(vec![put("1", "a")], |batch| batch.reached.pods = seen);
    let hello = |pods| Hello {
        newest: Some(SourceRevision {
            source: "test".into(),
            pods,
            namespaces: 0,
        }),
        ..Hello::default()
    };
    let mut agent = controller.agent_with("a", hello(seen + 1)).await;
    assert_eq!(agent.end().await.code(), Code::Unavailable);

    let mut agent = controller.agent_with("a", hello(seen)).await;
    let first = agent.receive().await.unwrap();
    assert_eq!(first.revision.unwrap().pods, seen);
    // A change that is older than that does not take the agent back.
    let reached = Revision {
        pods: seen,
        ..controller.revision()
    };
    controller.tell_with(vec![put("2", "a")], |batch| batch.reached = reached);
    let next = agent.receive().await.unwrap();
    assert_eq!(next.revision.unwrap().pods, seen);
}
