use std::time::Duration;

use proptest::prelude::*;
use sluice_proto::capture::v1::{NodeCondition, PodState, Reason};

use super::{
    LOST_AFTER, NodeCase, NodeDecision, NodeMemory, PodWrite, Reported, node_decision, pod_write,
};
use crate::{
    fleet::Uninstall,
    model::Wanted,
    writeback::{Condition, SeenNode, Ternary},
};

const NOW: &str = "2026-01-02T03:04:05Z";
const BEFORE: &str = "2025-01-02T03:04:05Z";

fn status(state: PodState, steered: bool, current: bool) -> Reported {
    Reported::Status {
        state,
        steered,
        current,
        reason: Reason::Unspecified,
        message: String::new(),
    }
}

// State, steered, and about what is wanted now.
fn said(word: &str) -> Reported {
    match word {
        "unknown" => Reported::Unknown,
        "absent" => Reported::Absent,
        "captured" => status(PodState::Captured, true, true),
        "captured before" => status(PodState::Captured, true, false),
        "pending, steered" => status(PodState::Pending, true, true),
        "pending" => status(PodState::Pending, false, true),
        "failed" => status(PodState::Failed, true, true),
        "released" => status(PodState::Released, false, true),
        other => panic!("{other}"),
    }
}

#[test]
fn annotations() {
    use PodWrite::{Leave, Remove, RemoveOwn, Set};
    use Wanted::{Captured, Nothing, Proxy, Releasing, Unsupported};
    let (yes, set) = (Some("enabled"), Set { force: false });
    let table = [
        (Captured, "captured", None, set),
        (Captured, "captured", yes, Leave),
        (Captured, "captured", Some("pending"), Set { force: true }),
        (Captured, "captured", Some("disabled"), Leave),
        // About an intent from before: not yet, and not any more either.
        (Captured, "captured before", None, Leave),
        (Captured, "captured before", yes, Leave),
        // The proxy restarts.
        (Captured, "pending, steered", yes, Leave),
        (Captured, "pending, steered", None, Leave),
        (Captured, "pending", yes, Remove),
        (Captured, "failed", yes, Remove),
        (Captured, "released", yes, Remove),
        (Captured, "unknown", yes, Leave),
        (Captured, "unknown", None, Leave),
        (Captured, "absent", yes, Remove),
        (Captured, "absent", None, Leave),
        (Releasing, "captured", yes, Remove),
        (Releasing, "captured", Some("disabled"), Leave),
        (Releasing, "captured", None, Leave),
        (Unsupported, "unknown", yes, Remove),
        // Whoever captured it, it may not have been us.
        (Nothing, "unknown", yes, RemoveOwn),
        (Nothing, "absent", Some("pending"), Leave),
        (Proxy, "absent", yes, RemoveOwn),
    ];
    for (wanted, word, written, expected) in table {
        let found = pod_write(wanted, &said(word), written, Uninstall::NotAsked);
        assert_eq!(found, expected, "{wanted:?} {word} {written:?}");
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop::sample::select(
        &[
            Wanted::Captured,
            Wanted::Releasing,
            Wanted::Nothing,
            Wanted::Unsupported,
            Wanted::Proxy,
        ][..],
    )
}

fn reported() -> impl Strategy<Value = Reported> {
    let state = prop::sample::select(
        &[
            PodState::Unspecified,
            PodState::Captured,
            PodState::Pending,
            PodState::Failed,
            PodState::Unsupported,
            PodState::Released,
        ][..],
    );
    let said = (state, any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| status(a, b, c));
    prop_oneof![Just(Reported::Unknown), Just(Reported::Absent), said]
}

fn written() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(
        &[
            None,
            Some("enabled"),
            Some("disabled"),
            Some("pending"),
            Some("x"),
        ][..],
    )
    .prop_map(|value| value.map(str::to_owned))
}

fn uninstall() -> impl Strategy<Value = Uninstall> {
    use Uninstall::{Asked, Finished, NotAsked};
    prop::sample::select(&[NotAsked, Asked, Finished][..])
}

fn after(write: PodWrite, written: Option<String>) -> Option<String> {
    match write {
        PodWrite::Leave => written,
        PodWrite::Set { .. } => Some("enabled".into()),
        PodWrite::Remove | PodWrite::RemoveOwn => None,
    }
}

proptest! {
    #[test]
    fn a_users_word_stands(wanted in wanted(), reported in reported(), uninstall in uninstall()) {
        let write = pod_write(wanted, &reported, Some("disabled"), uninstall);
        prop_assert_eq!(write, PodWrite::Leave);
    }

    #[test]
    fn only_what_is_read_back_is_called_captured(
        wanted in wanted(), reported in reported(), written in written(), uninstall in uninstall(),
    ) {
        let write = pod_write(wanted, &reported, written.as_deref(), uninstall);
        if matches!(write, PodWrite::Set { .. }) {
            prop_assert_eq!(wanted, Wanted::Captured);
            prop_assert_eq!(&reported, &status(PodState::Captured, true, true));
        }
        // Wherever the rules may go, or are gone, it is not called captured.
        let may_go = wanted != Wanted::Captured
            || matches!(reported, Reported::Absent | Reported::Status { steered: false, .. });
        if may_go && uninstall != Uninstall::Finished {
            let left = after(write, written);
            prop_assert_ne!(left.as_deref(), Some("enabled"));
        }
    }

    #[test]
    fn once_is_enough(
        wanted in wanted(), reported in reported(), written in written(), uninstall in uninstall(),
    ) {
        let first = pod_write(wanted, &reported, written.as_deref(), uninstall);
        let written = after(first, written);
        let second = pod_write(wanted, &reported, written.as_deref(), uninstall);
        prop_assert_eq!(second, PodWrite::Leave);
    }
}

fn reports(capture_ready: bool) -> NodeCase {
    NodeCase {
        token: Some("a/1".into()),
        reported: Some(NodeCondition {
            capture_ready,
            message: "m".into(),
            left: false,
        }),
        uninstall: Uninstall::NotAsked,
    }
}

fn seen(claim: Option<&str>, status: Ternary) -> SeenNode {
    SeenNode {
        uid: "u".into(),
        revision: 7,
        condition: Some(Condition {
            status,
            reason: "r".into(),
            message: "m".into(),
            last_transition: BEFORE.into(),
        }),
        claim: claim.map(str::to_owned),
        tainted: false,
    }
}

fn decide(case: &NodeCase, memory: NodeMemory<'_>, seen: &SeenNode) -> NodeDecision {
    node_decision(case, memory, Some(seen), NOW)
}

fn claimed(revision: u64) -> NodeMemory<'static> {
    NodeMemory {
        claimed: Some(("a/1", revision)),
        lost_for: None,
    }
}

// What the node is like when the decision has been carried out.
fn carried_out(decision: NodeDecision, node: &SeenNode) -> SeenNode {
    let NodeDecision::Write {
        condition, claim, ..
    } = decision
    else {
        panic!("{decision:?}");
    };
    SeenNode {
        condition: Some(condition),
        claim,
        revision: node.revision + 1,
        ..node.clone()
    }
}

#[test]
fn the_claim_comes_with_the_condition_and_once() {
    let mut silent = reports(true);
    silent.reported = None;
    let theirs = seen(Some("b/1"), Ternary::True);
    let first = NodeMemory::default();
    assert_eq!(decide(&silent, first, &theirs), NodeDecision::Leave);
    let decision = decide(&reports(true), first, &theirs);
    assert!(matches!(
        decision,
        NodeDecision::Write { guarded: false, .. }
    ));
    let node = carried_out(decision, &theirs);
    assert_eq!(node.claim.as_deref(), Some("a/1"));
    // The status is what it was: since then.
    assert_eq!(node.condition.as_ref().unwrap().last_transition, BEFORE);
    assert_eq!(
        decide(&reports(true), claimed(8), &node),
        NodeDecision::Leave
    );
    let decision = decide(&reports(false), claimed(8), &node);
    assert!(matches!(
        decision,
        NodeDecision::Write { guarded: true, .. }
    ));
    let node = carried_out(decision, &node);
    assert_eq!(node.condition.as_ref().unwrap().status, Ternary::False);
    assert_eq!(node.condition.as_ref().unwrap().last_transition, NOW);
    assert_eq!(
        decide(&reports(false), claimed(9), &node),
        NodeDecision::Leave
    );
}

#[test]
fn who_is_overtaken_says_nothing_more() {
    let theirs = seen(Some("b/1"), Ternary::True);
    for ready in [true, false] {
        let decision = decide(&reports(ready), claimed(6), &theirs);
        assert_eq!(decision, NodeDecision::Overtaken);
    }
    // That claim is older than ours: the watch is behind.
    let decision = decide(&reports(true), claimed(8), &theirs);
    assert!(matches!(
        decision,
        NodeDecision::Write { guarded: true, .. }
    ));
    // Taken for gone by others, who have claimed nothing.
    let unknown = seen(None, Ternary::Unknown);
    let decision = decide(&reports(true), claimed(6), &unknown);
    assert!(matches!(
        decision,
        NodeDecision::Write { guarded: true, .. }
    ));
}

#[test]
fn lost_by_everybody() {
    let case = NodeCase::default();
    let lost = |seconds| NodeMemory {
        claimed: None,
        lost_for: Some(Duration::from_secs(seconds)),
    };
    let node = seen(Some("a/1"), Ternary::True);
    assert_eq!(
        decide(&case, NodeMemory::default(), &node),
        NodeDecision::Leave
    );
    assert_eq!(
        decide(&case, lost(10), &node),
        NodeDecision::Wait(LOST_AFTER - Duration::from_secs(10))
    );
    let decision = decide(&case, lost(30), &node);
    assert!(matches!(
        decision,
        NodeDecision::Write { guarded: true, .. }
    ));
    let node = carried_out(decision, &node);
    assert_eq!(node.claim, None);
    let condition = node.condition.as_ref().unwrap();
    assert_eq!(condition.status, Ternary::Unknown);
    assert_eq!(condition.last_transition, NOW);
    assert_eq!(decide(&case, lost(60), &node), NodeDecision::Leave);
    // Never had to do with us.
    let stranger = SeenNode::default();
    assert_eq!(decide(&case, lost(60), &stranger), NodeDecision::Leave);
}

#[test]
fn the_taint_goes_when_the_node_can_capture() {
    let node = carried_out(
        decide(
            &reports(true),
            NodeMemory::default(),
            &seen(None, Ternary::False),
        ),
        &seen(None, Ternary::False),
    );
    let tainted = SeenNode {
        tainted: true,
        ..node.clone()
    };
    assert_eq!(
        decide(&reports(true), claimed(8), &tainted),
        NodeDecision::Untaint
    );
    assert_eq!(
        decide(&reports(true), claimed(8), &node),
        NodeDecision::Leave
    );
    let cannot = SeenNode {
        tainted: true,
        ..carried_out(decide(&reports(false), claimed(8), &node), &node)
    };
    assert_eq!(
        decide(&reports(false), claimed(9), &cannot),
        NodeDecision::Leave
    );
}

#[test]
fn a_node_that_left() {
    let mut case = reports(false);
    case.uninstall = Uninstall::Asked;
    case.reported.as_mut().unwrap().left = true;
    let node = seen(Some("a/1"), Ternary::True);
    let after = carried_out(decide(&case, claimed(7), &node), &node);
    let condition = after.condition.as_ref().unwrap();
    assert_eq!(
        (condition.status, condition.reason.as_str()),
        (Ternary::False, "Left")
    );
    case.uninstall = Uninstall::Finished;
    assert_eq!(decide(&case, claimed(7), &node), NodeDecision::Leave);
}
