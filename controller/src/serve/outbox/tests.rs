use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Delta, Grace, Outbox, Snapshot};
use crate::{
    index::{NodeChange, NodeState},
    model::{Intent, Pod, Revision, Wanted},
};

const AFTER: Duration = Duration::from_secs(3);
const GRACE: Grace = Grace {
    release_after: AFTER,
    unwritten_within: None,
};

fn intent(uid: &str, wanted: Wanted) -> Arc<Intent> {
    let pod = Pod {
        uid: uid.into(),
        namespace: "shop".into(),
        name: uid.into(),
        node: Some("a".into()),
        service_account: "default".into(),
        labels: [].into(),
        annotations: [].into(),
        host_network: false,
        completed: false,
        addresses: [].into(),
        host_ports: [].into(),
        static_uid: None,
        version: 0.into(),
    };
    Arc::new(Intent::new(Arc::new(pod), wanted, None))
}

fn state(pods: &[(&str, Wanted)]) -> NodeState {
    NodeState {
        pods: pods
            .iter()
            .map(|(uid, wanted)| ((*uid).into(), intent(uid, *wanted)))
            .collect(),
        namespaces: [].into(),
    }
}

fn change(pods: &[(&str, Option<Wanted>)]) -> NodeChange {
    let pods = pods.iter().map(|(uid, wanted)| {
        let intent = wanted.map(|wanted| intent(uid, wanted));
        ((*uid).into(), intent)
    });
    NodeChange {
        pods: pods.collect(),
        namespaces: [].into(),
    }
}

fn begin(pods: &[(&str, Wanted)], steered: &[&str], now: Instant) -> (Outbox, Snapshot) {
    let steered: HashSet<String> = steered.iter().map(|uid| (*uid).to_owned()).collect();
    Outbox::begin(state(pods), &steered, Revision::default(), GRACE, now)
}

fn words(pods: &[Arc<Intent>]) -> Vec<String> {
    let word = |i: &Arc<Intent>| format!("{} {}", i.pod.uid, i.wanted.word());
    pods.iter().map(word).collect()
}

fn next(outbox: &mut Outbox, now: Instant) -> Vec<String> {
    let Some(delta) = outbox.next(1000, now) else {
        return Vec::new();
    };
    let mut said = words(&delta.pods);
    said.extend(delta.removed_pods.iter().map(|uid| format!("{uid} gone")));
    said
}

fn apply(outbox: &mut Outbox, pods: &[(&str, Option<Wanted>)], now: Instant) {
    outbox.change(change(pods), Revision::default(), now);
}

#[test]
fn leaving_takes_its_time() {
    let start = Instant::now();
    let (mut outbox, snapshot) = begin(&[("1", Wanted::Captured)], &[], start);
    assert_eq!(words(&snapshot.pods), ["1 captured"]);
    apply(&mut outbox, &[("1", Some(Wanted::Nothing))], start);
    // The time runs from when the agent was told, not from when we knew.
    let told = start + Duration::from_secs(60);
    outbox.release(told);
    assert_eq!(next(&mut outbox, told), ["1 releasing"]);
    assert_eq!(outbox.next_release(), Some(told + AFTER));
    outbox.release(told + AFTER - Duration::from_millis(1));
    assert_eq!(next(&mut outbox, told), Vec::<String>::new());
    outbox.release(told + AFTER);
    assert_eq!(next(&mut outbox, told), ["1 nothing"]);
    assert_eq!(outbox.next_release(), None);
}

#[test]
fn what_is_written_goes_before_the_rules_do() {
    let start = Instant::now();
    let seconds = |n| start + Duration::from_secs(n);
    let grace = Grace {
        unwritten_within: Some(Duration::from_secs(10)),
        ..GRACE
    };
    let pods = state(&[("1", Wanted::Captured), ("2", Wanted::Captured)]);
    let (mut outbox, _) = Outbox::begin(pods, &[].into(), Revision::default(), grace, start);
    let leave = [("1", Some(Wanted::Nothing)), ("2", Some(Wanted::Nothing))];
    apply(&mut outbox, &leave, start);
    assert_eq!(next(&mut outbox, start), ["1 releasing", "2 releasing"]);
    // Nothing was taken back yet: only the longest wait counts.
    assert_eq!(outbox.next_release(), Some(seconds(10) + AFTER));
    assert!(outbox.unwritten("1", seconds(2)));
    assert!(!outbox.unwritten("1", seconds(3)), "known already");
    assert!(!outbox.unwritten("3", seconds(3)), "not a pod");
    // More news of it changes neither.
    apply(&mut outbox, &[("1", Some(Wanted::Unsupported))], seconds(3));
    assert_eq!(outbox.next_release(), Some(seconds(2) + AFTER));
    outbox.release(seconds(2) + AFTER);
    let said = next(&mut outbox, seconds(2) + AFTER);
    assert_eq!(said, ["1 unsupported"]);
    outbox.release(seconds(10) + AFTER);
    assert_eq!(next(&mut outbox, seconds(10) + AFTER), ["2 nothing"]);
}

#[test]
fn enrolled_again_while_leaving() {
    let now = Instant::now();
    let (mut outbox, _) = begin(&[("1", Wanted::Captured)], &[], now);
    apply(&mut outbox, &[("1", Some(Wanted::Nothing))], now);
    assert_eq!(next(&mut outbox, now), ["1 releasing"]);
    apply(&mut outbox, &[("1", Some(Wanted::Captured))], now);
    outbox.release(now + AFTER);
    assert_eq!(next(&mut outbox, now), ["1 captured"]);
    assert_eq!(outbox.next_release(), None);
}

#[test]
fn news_of_a_pod_that_leaves_does_not_keep_it() {
    let now = Instant::now();
    let (mut outbox, _) = begin(&[("1", Wanted::Captured)], &[], now);
    apply(&mut outbox, &[("1", Some(Wanted::Nothing))], now);
    next(&mut outbox, now);
    let later = now + AFTER / 2;
    apply(&mut outbox, &[("1", Some(Wanted::Unsupported))], later);
    assert_eq!(next(&mut outbox, later), ["1 releasing"]);
    assert_eq!(outbox.next_release(), Some(now + AFTER));
    outbox.release(now + AFTER);
    assert_eq!(next(&mut outbox, later), ["1 unsupported"]);
}

#[test]
fn who_is_gone_or_was_never_steered_needs_no_time() {
    let now = Instant::now();
    let pods = [("1", Wanted::Captured), ("2", Wanted::Unsupported)];
    let (mut outbox, _) = begin(&pods, &[], now);
    apply(
        &mut outbox,
        &[
            ("1", None),
            ("2", Some(Wanted::Nothing)),
            ("3", Some(Wanted::Nothing)),
        ],
        now,
    );
    assert_eq!(next(&mut outbox, now), ["2 nothing", "3 nothing", "1 gone"]);
}

#[test]
fn a_completed_pod_needs_none_either() {
    let now = Instant::now();
    let (mut outbox, _) = begin(&[("1", Wanted::Captured)], &[], now);
    let mut pod = (*intent("1", Wanted::Nothing).pod).clone();
    pod.completed = true;
    let completed = Intent::new(Arc::new(pod), Wanted::Nothing, None);
    let mut change = NodeChange::default();
    change.pods.insert("1".into(), Some(Arc::new(completed)));
    outbox.change(change, Revision::default(), now);
    assert_eq!(next(&mut outbox, now), ["1 nothing"]);
}

#[test]
fn what_the_agent_steers_is_released_first() {
    let now = Instant::now();
    let pods = [
        ("1", Wanted::Nothing),
        ("2", Wanted::Captured),
        ("3", Wanted::Nothing),
        ("4", Wanted::Proxy),
    ];
    let (mut outbox, snapshot) = begin(&pods, &["1", "2", "4", "unknown"], now);
    assert_eq!(
        words(&snapshot.pods),
        ["1 releasing", "2 captured", "3 nothing", "4 proxy"]
    );
    outbox.release(now + AFTER);
    assert_eq!(next(&mut outbox, now), ["1 nothing"]);
}

#[test]
fn deltas_are_cut_and_lose_nothing() {
    let now = Instant::now();
    let (mut outbox, _) = begin(&[], &[], now);
    let pods: Vec<_> = (0..25).map(|n| format!("{n:02}")).collect();
    let pods: Vec<_> = pods
        .iter()
        .map(|uid| (&**uid, Some(Wanted::Captured)))
        .collect();
    apply(&mut outbox, &pods, now);
    let sizes: Vec<_> = std::iter::from_fn(|| outbox.next(10, now))
        .map(|delta| (delta.pods.len(), delta.since.is_some()))
        .collect();
    assert_eq!(sizes, [(10, true), (10, true), (5, true)]);
}

fn follow(mirror: &mut BTreeMap<String, Wanted>, delta: Delta) {
    for intent in delta.pods {
        mirror.insert(intent.pod.uid.to_string(), intent.wanted);
    }
    for uid in delta.removed_pods {
        mirror.remove(&*uid);
    }
}

fn wanted() -> impl Strategy<Value = Option<Wanted>> {
    prop_oneof![
        Just(None),
        Just(Some(Wanted::Captured)),
        Just(Some(Wanted::Nothing)),
        Just(Some(Wanted::Unsupported)),
        Just(Some(Wanted::Proxy)),
    ]
}

proptest! {
    // A reader of any speed ends with the same state, holds no more than a key
    // each, and never sees a captured pod let go without a warning.
    #[test]
    fn coalescing_loses_nothing(
        steps in prop::collection::vec(("[1-4]", wanted(), any::<bool>(), 0u64..4), 1..40)
    ) {
        let mut now = Instant::now();
        let (mut outbox, _) = begin(&[], &[], now);
        let (mut latest, mut mirror) = (BTreeMap::new(), BTreeMap::new());
        for (uid, wanted, reads, seconds) in steps {
            now += Duration::from_secs(seconds);
            outbox.release(now);
            apply(&mut outbox, &[(&uid, wanted)], now);
            match wanted {
                Some(wanted) => latest.insert(uid, wanted),
                None => latest.remove(&uid),
            };
            prop_assert!(outbox.unsent() <= 4);
            if reads {
                let before = mirror.clone();
                follow(&mut mirror, outbox.next(1000, now).unwrap_or_default());
                for (uid, wanted) in &mirror {
                    if matches!(wanted, Wanted::Nothing | Wanted::Unsupported) {
                        prop_assert_ne!(before.get(uid), Some(&Wanted::Captured));
                    }
                }
            }
        }
        // Two rounds: the first may be the one that says releasing.
        for _ in 0..2 {
            follow(&mut mirror, outbox.next(1000, now).unwrap_or_default());
            now += AFTER;
            outbox.release(now);
        }
        follow(&mut mirror, outbox.next(1000, now).unwrap_or_default());
        prop_assert_eq!(mirror, latest);
        prop_assert_eq!(outbox.unsent(), 0);
    }
}
