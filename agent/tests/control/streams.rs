//! Streams: what is taken, what is refused, and what happens afterwards.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sluice_agent::{
    control::resolve::{Resolution, ResolveError},
    desired::Origin,
};
use sluice_proto::capture::v1::{
    PodState, RejectionReason, SnapshotPart, stream_capture_state_response::Batch,
};
use tonic::Status;

use crate::{
    controller::{FakeController, Mood, delta, pod, snapshot},
    kernel::FakeKernel,
    node::Setup,
};

#[tokio::test(flavor = "multi_thread")]
async fn follows_and_answers_once_the_state_is_on_disk() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);

    let mut stream = controller.stream().await;
    assert_eq!(
        (stream.node.as_str(), stream.hello.node_name.as_str()),
        ("node-a", "node-a")
    );
    assert_eq!(stream.hello.newest, None);
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    let stored = stream.stored().await;
    assert_eq!((stored.sequence, stored.rejection), (1, None));
    assert!(setup.dir.path().join("desired.pb").exists());
    assert_eq!(node.wants(|_| true).await.origin, Origin::Controller);

    stream.send("s", 6, delta(&["u2"])).await;
    assert_eq!(stream.stored().await.sequence, 2);
    assert_eq!(node.uids(), ["u1", "u2"]);
    assert!(node.control.link().borrow().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kernel_that_takes_its_time_does_not_hold_up_the_stream() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let kernel = FakeKernel::default();
    let stuck = Arc::clone(&kernel.stuck);
    stuck.store(true, Ordering::SeqCst);
    let node = setup.agent_on(kernel, vec![controller.endpoint()]);

    let mut stream = controller.stream().await;
    stream.send("s", 1, snapshot(&["u1"], 1)).await;
    assert_eq!(stream.stored().await.sequence, 1);
    for revision in 2..20 {
        stream.send("s", revision, delta(&["u2"])).await;
        assert_eq!(stream.stored().await.sequence, revision);
    }
    assert!(node.capture.status().borrow().pods.is_empty());
    // What is true follows once it is known.
    stuck.store(false, Ordering::SeqCst);
    stream.report_of("u2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_sent_in_full_after_a_reconnect_and_then_by_change() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let _node = setup.agent(vec![controller.endpoint()]);

    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    stream.stored().await;
    let report = stream.report().await;
    assert!(report.full);
    if report.pods.is_empty() {
        // The engine had not looked yet.
        stream.report_of("u1").await;
    }
    stream.send("s", 6, delta(&["u2"])).await;
    stream.stored().await;
    let report = stream.report_of("u2").await;
    assert!(!report.full);
    assert_eq!(report.pods.len(), 1);
    assert_eq!(report.pods[0].intent_hash, "hash-u2");
    assert_eq!(report.pods[0].state(), PodState::Pending);
    stream.end(Status::unavailable("moving")).await;

    let mut stream = controller.stream().await;
    assert_eq!(stream.hello.newest.clone().unwrap().pods, 6);
    stream.send("s", 6, snapshot(&["u1", "u2"], 2)).await;
    let report = stream.report().await;
    assert!(report.full && report.node.is_some());
    assert_eq!(report.pods.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_is_refused_also_after_a_restart() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);
    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    assert_eq!(stream.stored().await.rejection, None);
    drop((node, stream));

    let node = setup.agent(vec![controller.endpoint()]);
    assert_eq!(node.wants(|_| true).await.origin, Origin::Disk);
    let mut stream = controller.stream().await;
    assert_eq!(stream.hello.newest.clone().unwrap().pods, 5);
    stream.send("s", 4, snapshot(&[], 0)).await;
    let rejection = stream.stored().await.rejection.unwrap();
    assert_eq!(rejection.reason(), RejectionReason::Older);
    assert_eq!(node.uids(), ["u1"]);

    // Another source is another world: it replaces, whatever its numbers.
    let mut stream = controller.stream().await;
    stream.send("rebuilt", 1, snapshot(&["u9"], 1)).await;
    assert_eq!(stream.stored().await.rejection, None);
    assert_eq!(node.uids(), ["u9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_does_not_count() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);
    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    stream.stored().await;

    // A part without an end, and then the stream breaks.
    let part = SnapshotPart {
        pods: vec![pod("u2")],
        ..SnapshotPart::default()
    };
    stream.send("s", 6, Batch::Snapshot(part)).await;
    assert_eq!(stream.stored().await.rejection, None);
    assert_eq!(node.uids(), ["u1"]);
    stream.end(Status::unavailable("gone")).await;

    let mut stream = controller.stream().await;
    stream.send("s", 6, snapshot(&["u2"], 2)).await;
    let rejection = stream.stored().await.rejection.unwrap();
    assert_eq!(rejection.reason(), RejectionReason::Incomplete);

    let mut stream = controller.stream().await;
    stream.send("s", 6, delta(&["u2"])).await;
    let rejection = stream.stored().await.rejection.unwrap();
    assert_eq!(rejection.reason(), RejectionReason::Incomplete);
    assert_eq!(node.uids(), ["u1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_and_survived() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);
    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    stream.stored().await;

    let mut large = pod("u2");
    large.message = "x".repeat(5 << 20);
    let part = SnapshotPart {
        pods: vec![large],
        ..SnapshotPart::default()
    };
    stream.send("s", 6, Batch::Snapshot(part)).await;
    let stored = stream.stored().await;
    assert_eq!(stored.sequence, 2);
    assert_eq!(stored.rejection.unwrap().reason(), RejectionReason::Invalid);

    let mut stream = controller.stream().await;
    let mut odd = pod("u2");
    odd.addresses = vec!["not an address".into()];
    let part = SnapshotPart {
        pods: vec![odd],
        ..SnapshotPart::default()
    };
    stream.send("s", 6, Batch::Snapshot(part)).await;
    let rejection = stream.stored().await.rejection.unwrap();
    assert_eq!(rejection.reason(), RejectionReason::Invalid);
    assert!(rejection.message.contains("u2"), "{}", rejection.message);
    assert_eq!(node.uids(), ["u1"]);

    let mut stream = controller.stream().await;
    stream.send("s", 6, snapshot(&["u2"], 1)).await;
    assert_eq!(stream.stored().await.rejection, None);
    assert_eq!(node.uids(), ["u2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_replica_is_left_for_another() {
    let setup = Setup::new();
    let behind = Mood::Refusing(Status::unavailable("this replica is behind"));
    let first = FakeController::start(setup.identity("controller", "c0"), behind).await;
    let mut second = FakeController::start(setup.identity("controller", "c1"), Mood::Serving).await;
    let nobody = "https://127.0.0.1:9".into();
    let node = setup.agent(vec![first.endpoint(), nobody, second.endpoint()]);
    let mut stream = second.stream().await;
    stream.send("s", 5, snapshot(&[], 0)).await;
    let mut link = node.control.link();
    let link = link.wait_for(|link| link.connected).await.unwrap();
    assert_eq!(link.endpoint, second.endpoint());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_controller_is_followed() {
    let setup = Setup::new();
    let mut impostor = FakeController::start(setup.identity("node", "node-b"), Mood::Serving).await;
    let node = setup.agent(vec![impostor.endpoint()]);
    assert!(impostor.is_left_alone(Duration::from_secs(2)).await);
    assert!(!node.control.link().borrow().last_error.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_costs_no_stream() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let _node = setup.agent(vec![controller.endpoint()]);
    let mut stream = controller.stream().await;
    stream.send("s", 5, snapshot(&["u1"], 1)).await;
    stream.stored().await;
    setup.files("node", "node-a");
    assert!(controller.is_left_alone(Duration::from_millis(500)).await);
    stream.send("s", 6, delta(&["u2"])).await;
    assert_eq!(stream.stored().await.sequence, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_pods_are_asked_about_beside_the_stream() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let node = setup.agent(vec![controller.endpoint()]);
    let _stream = controller.stream().await;
    let resolver = node.control.resolver();
    let ask = async |uid| {
        resolver
            .resolve(uid, "default", "x", Duration::from_secs(60))
            .await
    };
    assert!(matches!(ask("u1").await.unwrap(), Resolution::Enrolled(_)));
    assert_eq!(ask("u7").await.unwrap(), Resolution::NotKnown);
    assert!(ask("bad").await.is_err());

    let alone = setup.agent(vec!["https://127.0.0.1:9".into()]);
    let resolver = alone.control.resolver();
    let unanswered = resolver
        .resolve("u1", "default", "x", Duration::from_secs(60))
        .await;
    assert!(matches!(unanswered, Err(ResolveError::NotConnected)));
}
