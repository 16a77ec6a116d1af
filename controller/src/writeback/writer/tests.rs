//! The writer on an API server that a test can hold, fail and change.

mod fake;

use std::{sync::Arc, time::Duration};

use fake::FakeApi;
use sluice_proto::capture::v1::{NodeCondition, PodState, PodStatus, StatusReport};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::{Limits, Writer};
use crate::{
    fleet::{Fleet, Greeting, Stream, Uninstall},
    index::Update,
    model::{Name, Namespace, Pod, Revision},
    select::Rules,
    serve::Snapshot,
    source::Batch,
    writeback::{Board, Replicas, SeenNode, Ternary},
};

const AFTER: Duration = Duration::from_secs(3);
const WITHIN: Duration = Duration::from_secs(10);

/// One replica, on an API server that others may share.
struct Replica {
    api: Arc<FakeApi>,
    fleet: Arc<Fleet>,
    board: Arc<Board>,
    replicas: Arc<Replicas>,
    stop: CancellationToken,
}

impl Replica {
    fn start(api: &Arc<FakeApi>, instance: &str) -> Self {
        let board = Arc::new(Board::new(instance));
        let fleet = Fleet::new(Rules::default(), AFTER).written_back(Arc::clone(&board), WITHIN);
        let fleet = Arc::new(fleet);
        fleet.set_uninstall(Uninstall::NotAsked);
        let replicas = Arc::new(Replicas::new(instance));
        let stop = CancellationToken::new();
        let writer = Writer::new(
            Arc::clone(api),
            Arc::clone(&fleet),
            Arc::clone(&board),
            Arc::clone(&replicas),
            Limits::default(),
        );
        tokio::spawn(writer.run(stop.clone()));
        let replica = Self {
            api: Arc::clone(api),
            fleet,
            board,
            replicas,
            stop,
        };
        replica.source(vec![]);
        replica
    }

    fn source(&self, updates: Vec<Update>) {
        let revision = Revision {
            source: "test".into(),
            pods: self.api.revision(),
            namespaces: 1,
        };
        self.fleet.apply(Batch {
            updates,
            in_sync: true,
            ..Batch::nothing(revision)
        });
    }

    /// Its watches see everything there is.
    fn catch_up(&self) {
        self.source(self.api.pods().into_iter().map(Update::Pod).collect());
        for (name, node) in self.api.nodes() {
            self.board.see_node(&name, node);
        }
    }

    fn label(&self, mode: &str) {
        self.source(vec![Update::Namespace(Namespace {
            name: "shop".into(),
            labels: [("istio.io/dataplane-mode".into(), mode.into())].into(),
        })]);
    }

    fn join(&self) -> (Arc<Stream>, Snapshot) {
        self.fleet.join(&node(), &Greeting::default()).unwrap()
    }

    // Everything on the node is as it is wanted.
    fn report(&self, stream: &Stream, uid: &str, state: PodState) {
        let hash = stream.said(uid).map(|said| said.hash.to_string());
        let report = StatusReport {
            full: true,
            pods: vec![PodStatus {
                uid: uid.into(),
                intent_hash: hash.unwrap_or_default(),
                state: state.into(),
                steered: state == PodState::Captured,
                message: "m".into(),
                ..PodStatus::default()
            }],
            node: Some(ready(true)),
        };
        self.fleet.report(&node(), stream, report).unwrap();
    }

    /// Captured, annotated, and seen to be.
    async fn captured(&self) -> Arc<Stream> {
        self.catch_up();
        self.label("ambient");
        let (stream, _) = self.join();
        self.report(&stream, "1", PodState::Captured);
        settle().await;
        assert_eq!(self.api.annotation("1").as_deref(), Some("enabled"));
        self.catch_up();
        stream
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn node() -> Name {
    "a".into()
}

fn ready(capture_ready: bool) -> NodeCondition {
    NodeCondition {
        capture_ready,
        message: String::new(),
        left: false,
    }
}

fn pod(uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: format!("pod-{uid}").into(),
        node: Some(node()),
        service_account: "default".into(),
        labels: [].into(),
        annotations: [].into(),
        host_network: false,
        completed: false,
        addresses: [].into(),
        host_ports: [].into(),
        static_uid: None,
        version: 0.into(),
    }
}

fn cluster() -> Arc<FakeApi> {
    let api = Arc::new(FakeApi::default());
    api.put_pod(pod("1"));
    api.put_node("a", SeenNode::default());
    api
}

// Time stands still until every task waits.
async fn settle() {
    time::sleep(Duration::from_millis(50)).await;
}

async fn pass(seconds: u64) {
    time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn captured_and_left() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    let stream = replica.captured().await;
    assert_eq!(api.log(), ["condition a True", "annotate 1"]);
    // Nothing changes: nothing is written, whatever is said again.
    for _ in 0..100 {
        replica.report(&stream, "1", PodState::Captured);
        replica.catch_up();
    }
    pass(1000).await;
    assert_eq!(api.log().len(), 2);
    // It leaves: first the annotation, then the time for peers.
    replica.label("none");
    let _ = stream.next(10);
    settle().await;
    assert_eq!(api.log()[2..], ["remove 1"]);
    let left = stream.next_release().unwrap();
    let limit = std::time::Instant::now() + AFTER;
    assert!(left <= limit, "not the longest wait");
}

#[tokio::test(start_paused = true)]
async fn a_release_waits_for_the_annotation_and_not_for_ever() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    let stream = replica.captured().await;
    api.fail("remove", true);
    replica.label("none");
    let _ = stream.next(10);
    pass(5).await;
    let until = stream.next_release().unwrap();
    let now = std::time::Instant::now();
    assert!(until > now + AFTER && until <= now + AFTER + WITHIN);
    assert!(api.attempts("remove") < 20, "{}", api.attempts("remove"));
    api.fail("remove", false);
    pass(30).await;
    assert_eq!(api.annotation("1"), None);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_says_disabled_at_the_same_moment_wins() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    replica.catch_up();
    replica.label("ambient");
    let (stream, _) = replica.join();
    // Between our look and our write, and our watch has not told us.
    api.write_annotation("1", Some("disabled"));
    replica.report(&stream, "1", PodState::Captured);
    pass(60).await;
    assert_eq!(api.annotation("1").as_deref(), Some("disabled"));
    assert!(api.attempts("annotate") < 5, "{}", api.attempts("annotate"));
    // And when it leaves, too.
    replica.catch_up();
    let _ = stream.next(10);
    pass(60).await;
    assert_eq!(api.annotation("1").as_deref(), Some("disabled"));
}

#[tokio::test(start_paused = true)]
async fn a_label_that_flips_every_second_costs_little() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    let stream = replica.captured().await;
    for second in 0..600 {
        replica.label(if second % 2 == 0 { "none" } else { "ambient" });
        let _ = stream.next(10);
        replica.report(&stream, "1", PodState::Captured);
        pass(1).await;
        replica.catch_up();
    }
    assert!(api.log().len() < 60, "{}", api.log().len());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_statuses_costs_little() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    let stream = replica.captured().await;
    for n in 0..10_000 {
        let state = [PodState::Captured, PodState::Failed][n % 2];
        replica.report(&stream, "1", state);
        let report = StatusReport {
            node: Some(ready(n % 3 == 0)),
            ..StatusReport::default()
        };
        replica.fleet.report(&node(), &stream, report).unwrap();
        time::sleep(Duration::from_millis(10)).await;
    }
    assert!(api.log().len() < 60, "{:?}", api.log());
    assert_eq!(api.events().len(), 3, "{:?}", api.events());
}

#[tokio::test(start_paused = true)]
async fn a_stream_moves() {
    let api = cluster();
    let (one, two) = (Replica::start(&api, "a-1"), Replica::start(&api, "a-2"));
    let old = one.captured().await;
    two.catch_up();
    two.label("ambient");
    let (new, _) = two.join();
    two.report(&new, "1", PodState::Captured);
    settle().await;
    // Only the claim is another one's: the condition says the same.
    assert_eq!(api.log()[2..], ["condition a True"]);
    // The first has not noticed, and its watches are behind. What it believes is old: it says nothing.
    pass(6).await;
    one.label("none");
    one.report(&old, "1", PodState::Released);
    let _ = old.next(10);
    pass(5).await;
    assert_eq!(api.annotation("1").as_deref(), Some("enabled"));
    // It has looked first, and its stream ends.
    time::timeout(Duration::from_secs(60), old.replaced())
        .await
        .unwrap();
    one.fleet.leave(&node(), &old);
    let written = api.log();
    one.catch_up();
    pass(600).await;
    assert_eq!(api.log(), written);
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_go_with_the_stream() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    replica.catch_up();
    replica.label("ambient");
    let (stream, _) = replica.join();
    api.hold(true);
    replica.report(&stream, "1", PodState::Captured);
    settle().await;
    replica.fleet.leave(&node(), &stream);
    settle().await;
    api.hold(false);
    pass(600).await;
    assert_eq!(api.log(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn nobody_has_the_stream() {
    let api = cluster();
    let replica = Replica::start(&api, "a-1");
    let stream = replica.captured().await;
    replica.fleet.leave(&node(), &stream);
    pass(25).await;
    assert_eq!(api.condition("a"), Some(Ternary::True));
    pass(10).await;
    assert_eq!(api.condition("a"), Some(Ternary::Unknown));
    assert_eq!(
        api.annotation("1").as_deref(),
        Some("enabled"),
        "it still is"
    );
    let written = api.log();
    pass(600).await;
    assert_eq!(api.log(), written);
    // And comes back.
    let (stream, _) = replica.join();
    replica.report(&stream, "1", PodState::Captured);
    pass(5).await;
    assert_eq!(api.condition("a"), Some(Ternary::True));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_gone_leaves_nothing_true_behind() {
    let api = cluster();
    let one = Replica::start(&api, "a-1");
    let _stream = one.captured().await;
    let two = Replica::start(&api, "a-2");
    two.replicas.set_in_sync();
    for beat in 0..20 {
        two.replicas.see("a-2", &beat.to_string(), Instant::now());
        if beat == 0 {
            two.replicas.see("a-1", "0", Instant::now());
            two.catch_up();
        }
        pass(5).await;
        if beat < 6 {
            assert_eq!(api.condition("a"), Some(Ternary::True), "it runs");
        }
    }
    assert_eq!(api.condition("a"), Some(Ternary::Unknown));
    // It was only cut off, and still has the stream.
    one.catch_up();
    pass(5).await;
    assert_eq!(api.condition("a"), Some(Ternary::True));
}

#[tokio::test(start_paused = true)]
async fn the_taint_goes() {
    let api = Arc::new(FakeApi::default());
    api.put_pod(pod("1"));
    api.put_node(
        "a",
        SeenNode {
            tainted: true,
            ..SeenNode::default()
        },
    );
    let replica = Replica::start(&api, "a-1");
    let _stream = replica.captured().await;
    assert!(!api.nodes()["a"].tainted);
}
