//! An agent that says as much as it can.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use sluice_proto::capture::v1::{
    Hello, NodeCondition, PodState, PodStatus, StatusReport, StreamCaptureStateRequest,
    stream_capture_state_request::Message,
};
use sluice_tests::{
    cluster::{
        Cluster, SETTLE,
        caller::{self, AUDIENCE, Claim, Issued},
        sluice::{AGENT, NAMESPACE},
    },
    lab::{netns::Netns, wait},
};

use super::super::{
    quiet,
    shop::{self, SHOP},
    upgrade::{assert_arrived, newcomer},
};

/// Pods in a report: of nobody, but one.
const PODS: u64 = 2000;
/// Reports that must have been sent before it counts as a flood: 60 MB of them.
const ENOUGH: u64 = 150;
/// A replica may be this much larger afterwards.
const MORE_KIB: u64 = 32 << 10;
/// Writes about the pod and the node that it lies about: in all, and per second.
const WRITES: u64 = 20;
const WRITES_PER_SECOND: u64 = 2;

/// A client with nb's own certificate says that b2 is captured, and is not, and is,
/// along with thousands of pods that nobody knows, as fast as it can. na's pods
/// start and are captured meanwhile; the replicas do not grow; the API server is
/// written to now and then; and nb's real agent has the last word.
pub(in super::super) fn flood(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let memory = || {
        let replicas = cluster.controllers().into_iter();
        replicas
            .map(|pod| (cluster.resident_kib(NAMESPACE, &pod), pod))
            .collect::<Vec<_>>()
    };
    let before = memory();
    let (mark, start) = (cluster.audit_mark(), Instant::now());
    let token = cluster.token(NAMESPACE, AGENT, AUDIENCE, Some(&cluster.agent_of("nb")));
    let caller = cluster.caller("nb");
    let issued = caller
        .issue(Claim {
            token,
            ..Claim::default()
        })
        .expect("a certificate");
    let uid = cluster.get(&["-n", SHOP, "pod", "b2"])["metadata"]["uid"].clone();
    let uid = uid.as_str().unwrap_or_default().to_owned();
    let flood = Flood::start(&cluster.node("nb").netns, caller.at(), issued, uid);
    let many = wait::until(2 * SETTLE, || flood.sent() > ENOUGH);
    assert!(many, "only {} reports were taken", flood.sent());
    newcomer(cluster);
    assert_arrived(cluster);
    let during = memory();
    eprintln!(
        "flood: {} reports; {before:?} -> {during:?} KiB",
        flood.sent()
    );
    drop(flood);
    assert_eq!(before.len(), during.len());
    for ((before, pod), (during, _)) in before.iter().zip(&during) {
        assert!(
            *during < before + MORE_KIB,
            "{pod}: {before} -> {during} KiB"
        );
    }
    let lies: Vec<String> = cluster
        .audited(mark)
        .iter()
        .filter(|one| one.is_write() && (one.name == "b2" || one.name == "nb"))
        .map(|one| one.line())
        .collect();
    let most = WRITES + WRITES_PER_SECOND * start.elapsed().as_secs();
    assert!((lies.len() as u64) < most, "more than {most}: {lies:#?}");
    cluster.wait_captured(SHOP, &["b2"]);
    cluster.wait_capture_ready();
    quiet::holder(cluster, "nb");
}

/// A client that floods until it is dropped.
struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(netns: &Netns, at: SocketAddr, issued: Issued, uid: String) -> Self {
        let (sent, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counter, until) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = netns.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                // The real agent takes its stream back again and again.
                while !until.load(Ordering::SeqCst) {
                    once(at, &issued, &uid, &counter, &until).await;
                }
            });
        });
        Self {
            sent,
            stop,
            thread: Some(thread),
        }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One stream, to its end.
async fn once(
    at: SocketAddr,
    issued: &Issued,
    uid: &str,
    sent: &Arc<AtomicU64>,
    stop: &Arc<AtomicBool>,
) {
    let hello = Message::Hello(Hello::default());
    let (uid, sent, stop) = (uid.to_owned(), Arc::clone(sent), Arc::clone(stop));
    let going = Arc::clone(&stop);
    let reports = stream::repeat_with(move || {
        let number = sent.fetch_add(1, Ordering::SeqCst);
        Message::Status(report(&uid, number))
    });
    let messages = stream::iter([hello])
        .chain(reports)
        .map(|message| StreamCaptureStateRequest {
            message: Some(message),
        })
        .take_while(move |_| std::future::ready(!going.load(Ordering::SeqCst)));
    if let Ok(mut answers) = caller::open(issued.channel(at), messages).await {
        while !stop.load(Ordering::SeqCst) {
            let next = tokio::time::timeout(Duration::from_secs(1), answers.message());
            match next.await {
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(_) => return,
            }
        }
    }
}

fn report(uid: &str, number: u64) -> StatusReport {
    let nobody = (0..PODS).map(|pod| PodStatus {
        uid: format!("{number}-{pod}"),
        message: "x".repeat(200),
        ..PodStatus::default()
    });
    let lie = PodStatus {
        uid: uid.into(),
        state: if number.is_multiple_of(2) {
            PodState::Failed
        } else {
            PodState::Captured
        }
        .into(),
        steered: number % 2 == 1,
        ..PodStatus::default()
    };
    StatusReport {
        full: false,
        pods: nobody.chain([lie]).collect(),
        node: Some(NodeCondition {
            capture_ready: number.is_multiple_of(2),
            message: format!("lie number {number}"),
            left: false,
        }),
    }
}
