use proptest::prelude::*;
use proto::stream_capture_state_response::Batch;

use super::*;

fn pod(uid: &str) -> proto::PodIntent {
    proto::PodIntent {
        uid: uid.into(),
        namespace: "default".into(),
        name: format!("pod-{}", uid.len()),
        wanted: proto::Wanted::Captured.into(),
        intent_hash: "h".into(),
        addresses: vec!["10.0.0.4".into(), "fd00::4".into()],
        ..proto::PodIntent::default()
    }
}

fn revision(pods: u64) -> Option<proto::SourceRevision> {
    Some(proto::SourceRevision {
        source: "cluster".into(),
        pods,
        namespaces: 1,
    })
}

fn message(sequence: u64, pods: u64, batch: Batch) -> proto::StreamCaptureStateResponse {
    proto::StreamCaptureStateResponse {
        sequence,
        revision: revision(pods),
        batch: Some(batch),
        node: None,
    }
}

fn part(uids: &[&str], total: Option<u32>) -> Batch {
    Batch::Snapshot(proto::SnapshotPart {
        pods: uids.iter().map(|uid| pod(uid)).collect(),
        namespaces: vec![],
        end: total.map(|total_pods| proto::SnapshotEnd {
            total_pods,
            total_namespaces: 0,
        }),
    })
}

fn delta(pods: &[&str], removed: &[&str]) -> Batch {
    Batch::Delta(proto::Delta {
        pods: pods.iter().map(|uid| pod(uid)).collect(),
        removed_pod_uids: removed.iter().map(ToString::to_string).collect(),
        ..proto::Delta::default()
    })
}

fn uids(assembler: &Assembler) -> Vec<&str> {
    let held = assembler.held().expect("a state");
    held.pods.keys().map(PodUid::as_str).collect()
}

fn holding_a() -> Assembler {
    let mut assembler = Assembler::new(None);
    assembler
        .take(message(1, 5, part(&["a"], Some(1))))
        .unwrap();
    assembler
}

#[test]
fn a_snapshot_counts_when_its_last_part_has_arrived() {
    let mut assembler = Assembler::new(None);
    assert_eq!(
        assembler.take(message(1, 5, part(&["a"], None))).unwrap(),
        Taken::Part
    );
    assert!(assembler.held().is_none());
    assembler
        .take(message(2, 5, part(&["b"], Some(2))))
        .unwrap();
    assert_eq!(uids(&assembler), ["a", "b"]);
}

#[test]
fn leaving_is_told_in_a_snapshot_or_a_delta_and_stays_until_it_is_withdrawn() {
    let told = |message, leave| proto::StreamCaptureStateResponse {
        node: Some(proto::NodeIntent { leave }),
        ..message
    };
    let mut assembler = holding_a();
    let leaves = |assembler: &Assembler| assembler.held().unwrap().leave;
    assert!(!leaves(&assembler));
    assembler
        .take(told(message(2, 6, delta(&[], &[])), true))
        .unwrap();
    assert!(leaves(&assembler));
    assembler.take(message(3, 7, delta(&["b"], &[]))).unwrap();
    assert!(leaves(&assembler));
    // A replica that does not know of it says nothing.
    assembler.restart();
    assembler
        .take(message(1, 7, part(&["a"], Some(1))))
        .unwrap();
    assert!(leaves(&assembler));
    assembler.restart();
    assembler
        .take(told(message(1, 7, part(&["a"], Some(1))), false))
        .unwrap();
    assert!(!leaves(&assembler));
}

#[test]
fn deltas_follow() {
    let mut assembler = holding_a();
    assembler
        .take(message(2, 6, delta(&["b"], &["a"])))
        .unwrap();
    assembler
        .take(message(3, 6, delta(&[], &["never-seen"])))
        .unwrap();
    assert_eq!(uids(&assembler), ["b"]);
    assert_eq!(assembler.newest().unwrap().pods, 6);
}

/// Takes the message, which must be refused, and nothing may have changed.
fn refused(mut assembler: Assembler, message: proto::StreamCaptureStateResponse) -> Rejected {
    let before = assembler.held().cloned();
    let rejected = assembler.take(message).unwrap_err();
    assert_eq!(assembler.held().cloned(), before);
    assert_eq!(
        assembler.take(self::message(3, 9, part(&[], Some(0)))),
        Err(Rejected::Lost)
    );
    rejected
}

#[test]
fn what_is_not_whole_is_refused() {
    let gap = refused(holding_a(), message(3, 6, delta(&["b"], &[])));
    insta::assert_snapshot!(gap, @"message 3 came where 2 was expected");
    let early = refused(Assembler::new(None), message(1, 6, delta(&["b"], &[])));
    insta::assert_snapshot!(early, @"a delta came before a complete snapshot");
    let truncated = refused(holding_a(), message(2, 6, part(&["b"], Some(2))));
    insta::assert_snapshot!(truncated, @"the snapshot ends with 1 pods and 0 namespaces, and says it has 2 and 0");
    let mut interrupted = holding_a();
    interrupted.take(message(2, 6, part(&["b"], None))).unwrap();
    assert_eq!(
        interrupted.take(message(3, 6, delta(&[], &[]))),
        Err(Rejected::EarlyDelta)
    );
    for rejected in [gap, early, truncated] {
        assert_eq!(rejected.reason(), proto::RejectionReason::Incomplete);
    }
}

#[test]
fn what_is_older_is_refused_also_after_a_restart() {
    let older = refused(holding_a(), message(2, 4, delta(&["b"], &[])));
    insta::assert_snapshot!(older, @"revision pods 4, namespaces 1 is older than pods 5, namespaces 1, which this node already holds");
    assert_eq!(older.reason(), proto::RejectionReason::Older);

    let restarted = Assembler::new(holding_a().held().cloned());
    let older = refused(restarted, message(1, 4, part(&[], Some(0))));
    assert_eq!(older.reason(), proto::RejectionReason::Older);
}

#[test]
fn another_source_replaces() {
    let mut assembler = holding_a();
    assembler.restart();
    let mut other = message(1, 1, part(&["z"], Some(1)));
    other.revision.as_mut().unwrap().source = "rebuilt".into();
    assembler.take(other).unwrap();
    assert_eq!(uids(&assembler), ["z"]);
}

#[test]
fn another_source_needs_a_snapshot() {
    let mut other = message(2, 9, delta(&["z"], &[]));
    other.revision.as_mut().unwrap().source = "rebuilt".into();
    let rejected = refused(holding_a(), other);
    insta::assert_snapshot!(rejected, @r#"the revision's source changed from "cluster" to "rebuilt" without a snapshot"#);
}

#[test]
fn a_stream_owes_a_snapshot() {
    let mut assembler = holding_a();
    assembler.restart();
    let rejected = refused(assembler, message(1, 6, delta(&["b"], &[])));
    assert_eq!(rejected, Rejected::EarlyDelta);
}

#[test]
fn a_key_occurs_once() {
    let twice = refused(
        Assembler::new(None),
        message(1, 5, part(&["a", "a"], Some(2))),
    );
    insta::assert_snapshot!(twice, @"pod a is in the state twice");
    let both = refused(holding_a(), message(2, 6, delta(&["a"], &["a"])));
    insta::assert_snapshot!(both, @"pod a is in the state twice");
    assert_eq!(both.reason(), proto::RejectionReason::Invalid);
}

#[test]
fn a_state_is_bounded() {
    let names: Vec<_> = (0..=MOST_PODS).map(|number| format!("p{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let rejected = refused(holding_a(), message(2, 6, delta(&names, &[])));
    insta::assert_snapshot!(rejected, @"the state has more than 10000 pods");
}

fn batches() -> impl Strategy<Value = Batch> {
    let names = || proptest::collection::vec("[a-d]", 0..4);
    prop_oneof![
        (names(), proptest::option::of(0u32..5)).prop_map(|(uids, total)| {
            part(&uids.iter().map(String::as_str).collect::<Vec<_>>(), total)
        }),
        (names(), names()).prop_map(|(uids, gone)| {
            let uids: Vec<_> = uids.iter().map(String::as_str).collect();
            delta(&uids, &gone.iter().map(String::as_str).collect::<Vec<_>>())
        }),
    ]
}

proptest! {
    #[test]
    fn the_last_good_state_stays(
        steps in proptest::collection::vec((batches(), 0u64..4, 0u64..9, any::<bool>()), 0..30),
    ) {
        let mut assembler = holding_a();
        let mut sequence = 1;
        for (batch, skip, pods, restart) in steps {
            if restart {
                assembler.restart();
                sequence = 0;
            }
            sequence += 1 + skip / 3;
            let before = assembler.held().cloned();
            match assembler.take(message(sequence, pods, batch)) {
                Ok(Taken::State(state)) => {
                    prop_assert_eq!(assembler.held(), Some(&state));
                    let (before, state) = (before.unwrap(), state);
                    prop_assert!(before.revision.as_ref().unwrap().pods <= state.revision.as_ref().unwrap().pods);
                }
                Ok(Taken::Part) | Err(_) => prop_assert_eq!(assembler.held().cloned(), before),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        use prost::Message as _;
        if let Ok(message) = proto::StreamCaptureStateResponse::decode(bytes.as_slice()) {
            let mut assembler = holding_a();
            let before = assembler.held().cloned();
            if assembler.take(message).is_err() {
                prop_assert_eq!(assembler.held().cloned(), before);
            }
        }
    }
}
