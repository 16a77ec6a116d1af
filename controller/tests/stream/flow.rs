//! What an agent is told, and when.

use std::{sync::Arc, time::Duration};

use sluice_controller::{index::Update, source::Batch};
use sluice_proto::capture::v1::{Hello, Resolution, ResolvePodRequest, SourceRevision};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::harness::{Controller, RELEASE_AFTER, gone, pod, put, shop, words};

#[tokio::test]
async fn a_snapshot_then_what_changes() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a"), put("2", "b"), shop(true)]);
    let mut agent = controller.agent("a").await;
    let snapshot = agent.snapshot().await.unwrap();
    assert_eq!(words(&snapshot.pods), ["1 captured"]);
    assert_eq!(snapshot.namespaces.len(), 1);
    assert!(snapshot.namespaces[0].enrolled);

    // Nothing of other nodes.
    controller.tell(vec![put("3", "b")]);
    agent.silence().await;
    controller.tell(vec![put("4", "a")]);
    let delta = agent.delta().await;
    assert_eq!(words(&delta.pods), ["4 captured"]);
    assert!(delta.namespaces.is_empty());
    controller.tell(vec![gone("4"), gone("1")]);
    let delta = agent.delta().await;
    assert_eq!(delta.removed_pod_uids, ["1", "4"]);
    assert_eq!(delta.removed_namespaces, ["shop"]);
}

#[tokio::test]
async fn large_states_come_in_parts() {
    let controller = Controller::start().await;
    let pods = (0..2500).map(|n| put(&n.to_string(), "a"));
    controller.tell(pods.collect());
    let mut agent = controller.agent("a").await;
    assert_eq!(agent.snapshot().await.unwrap().pods.len(), 2500);
    controller.tell(vec![shop(true)]);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 2500 {
        sizes.push(agent.delta().await.pods.len());
    }
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[tokio::test]
async fn not_before_the_source_is_in_sync() {
    let controller = Controller::start_cold().await;
    let part = |batch: &mut Batch| batch.in_sync = false;
    controller.tell_with(vec![put("1", "a")], part);
    let mut agent = controller.agent("a").await;
    assert_eq!(agent.end().await.code(), Code::Unavailable);
    assert!(controller.fleet.ready().is_err());
    controller.tell(vec![put("2", "a")]);
    let mut agent = controller.agent("a").await;
    assert_eq!(agent.snapshot().await.unwrap().pods.len(), 2);
    assert!(controller.fleet.ready().is_ok());
}

fn newest(source: &str, pods: u64) -> Hello {
    Hello {
        newest: Some(SourceRevision {
            source: source.into(),
            pods,
            namespaces: 0,
        }),
        ..Hello::default()
    }
}

#[tokio::test]
async fn never_older_than_what_the_agent_has_seen() {
    let controller = Controller::start().await;
    let now = controller.revision().pods;
    for hello in [newest("test", now), newest("another", now + 100)] {
        let mut agent = controller.agent_with("a", hello).await;
        agent.snapshot().await.unwrap();
    }
    // Behind, and catching up in time.
    let mut agent = controller.agent_with("a", newest("test", now + 1)).await;
    sleep(Duration::from_millis(300)).await;
    controller.tell(vec![put("1", "a")]);
    assert_eq!(agent.snapshot().await.unwrap().pods.len(), 1);
    // Behind for good.
    let mut agent = controller.agent_with("a", newest("test", now + 100)).await;
    let refused = agent.end().await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("behind"), "{refused:?}");
}

#[tokio::test]
async fn a_second_stream_replaces_the_first() {
    let controller = Controller::start().await;
    let mut first = controller.agent("a").await;
    first.snapshot().await.unwrap();
    let mut other = controller.agent("b").await;
    other.snapshot().await.unwrap();
    let mut second = controller.agent("a").await;
    second.snapshot().await.unwrap();
    assert_eq!(first.end().await.code(), Code::Aborted);
    controller.tell(vec![put("1", "a"), put("2", "b")]);
    assert_eq!(second.delta().await.pods.len(), 1);
    assert_eq!(other.delta().await.pods.len(), 1);
    // The first one's end did not take the second one along.
    assert!(controller.fleet.node("a").unwrap().stream.is_some());
}

#[tokio::test]
async fn releasing_before_nothing() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a"), put("2", "a"), shop(true)]);
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller.tell(vec![shop(false)]);
    let told = Instant::now();
    let delta = agent.delta().await;
    assert_eq!(words(&delta.pods), ["1 releasing", "2 releasing"]);
    assert!(!delta.namespaces[0].enrolled);

    let mut client = controller.client("node/a");
    let ask = ResolvePodRequest {
        uid: "1".into(),
        ..ResolvePodRequest::default()
    };
    let answer = client.resolve_pod(ask).await.unwrap().into_inner();
    assert_eq!(
        answer.resolution(),
        Resolution::Enrolled,
        "until it is let go"
    );

    // One is deleted meanwhile: nothing to wait for.
    controller.tell(vec![gone("2")]);
    assert_eq!(agent.delta().await.removed_pod_uids, ["2"]);
    assert_eq!(words(&agent.delta().await.pods), ["1 nothing"]);
    assert!(told.elapsed() >= RELEASE_AFTER);
    agent.silence().await;
}

#[tokio::test]
async fn back_before_it_left() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a"), shop(true)]);
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller.tell(vec![shop(false)]);
    assert_eq!(words(&agent.delta().await.pods), ["1 releasing"]);
    controller.tell(vec![shop(true)]);
    assert_eq!(words(&agent.delta().await.pods), ["1 captured"]);
    sleep(RELEASE_AFTER).await;
    agent.silence().await;
}

fn steering(uid: &str) -> Hello {
    Hello {
        steered_uids: vec![uid.to_owned()],
        ..Hello::default()
    }
}

#[tokio::test]
async fn what_the_agent_still_steers_is_released_first() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a"), put("2", "a"), shop(false)]);
    let mut agent = controller.agent_with("a", steering("1")).await;
    let snapshot = agent.snapshot().await.unwrap();
    assert_eq!(words(&snapshot.pods), ["1 releasing", "2 nothing"]);
    assert_eq!(words(&agent.delta().await.pods), ["1 nothing"]);
}

#[tokio::test]
async fn nothing_is_let_go_of_because_a_file_could_not_be_read() {
    let controller = Controller::start().await;
    let unread = |batch: &mut Batch| batch.never_read = ["broken.yaml".to_owned()].into();
    // The namespace may be in the broken file, too.
    controller.tell_with(vec![put("1", "a")], unread);
    for uid in ["1", "unknown"] {
        let mut agent = controller.agent_with("a", steering(uid)).await;
        let refused = agent.end().await;
        assert_eq!(refused.code(), Code::Unavailable, "{uid}");
        assert!(refused.message().contains("broken.yaml"), "{refused:?}");
    }
    // Nobody else is kept waiting.
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    controller.tell_with(vec![shop(true)], unread);
    let mut agent = controller.agent_with("a", steering("1")).await;
    assert_eq!(words(&agent.snapshot().await.unwrap().pods), ["1 captured"]);
}

// Large enough that a few hundred of them fill every buffer on the way.
fn bulky(uid: &str, round: u16) -> Update {
    let mut pod = pod(uid, "a");
    pod.host_ports = (round..round + 200).collect();
    Update::Pod(Arc::new(pod))
}

#[tokio::test]
async fn a_slow_reader_is_told_the_latest_once() {
    const ROUNDS: u16 = 2000;
    let controller = Controller::start().await;
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
    for round in 1..=ROUNDS {
        controller.tell((0..10).map(|n| bulky(&n.to_string(), round)).collect());
        if round % 50 == 0 {
            // As much as fits goes out.
            sleep(Duration::from_millis(2)).await;
        }
    }
    let (mut messages, mut last) = (0, Vec::<u32>::new());
    while last.first() != Some(&u32::from(ROUNDS)) {
        let delta = agent.delta().await;
        messages += 1;
        assert_eq!(delta.pods.len(), 10);
        last = delta.pods[0].host_ports.clone();
    }
    assert!(messages < u32::from(ROUNDS), "merged: {messages} messages");
    agent.silence().await;
}
