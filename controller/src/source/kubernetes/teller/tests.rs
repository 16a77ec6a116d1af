use std::time::{Duration, Instant};

use super::{News, Teller, Trouble};
use crate::source::kubernetes::{Kind as _, Namespaces, Pods};

fn news(collection: &'static str, newest: u64, reached: u64) -> News {
    News {
        collection,
        updates: Vec::new(),
        newest,
        reached,
        complete: true,
        trouble: None,
        odd: Vec::new(),
    }
}

fn trouble(seconds_ago: u64) -> Trouble {
    Trouble {
        since: Instant::now() - Duration::from_secs(seconds_ago),
        tries: 3,
        reason: "no answer".into(),
    }
}

#[test]
fn in_sync_once_both_are_listed() {
    let mut teller = Teller::new("c".into(), 1);
    let first = teller.batch(vec![news(Pods::NAME, 5, 9)]);
    assert!(!first.in_sync);
    let both = teller.batch(vec![news(Namespaces::NAME, 3, 8)]);
    assert!(both.in_sync);
    assert_eq!(&*both.revision.source, "kubernetes:c");
    assert_eq!((both.revision.pods, both.revision.namespaces), (5, 3));
    assert_eq!((both.reached.pods, both.reached.namespaces), (9, 8));
    assert!(both.problems.is_empty() && both.out_of_touch.is_none());
}

#[test]
fn out_of_touch_since_the_oldest_trouble() {
    let mut teller = Teller::new("c".into(), 1);
    let (old, new) = (trouble(90), trouble(10));
    let mut pods = news(Pods::NAME, 5, 9);
    pods.trouble = Some(new.clone());
    teller.answers(Some(old.clone()));
    let batch = teller.batch(vec![pods, news(Namespaces::NAME, 3, 8)]);
    assert!(batch.in_sync, "what was known stays");
    assert_eq!(batch.out_of_touch, Some(old.since));
    assert_eq!(batch.problems.len(), 2);
    assert!(
        batch.problems[0].reason.contains("3 tries failed"),
        "{:?}",
        batch.problems
    );
    teller.answers(None);
    assert_eq!(teller.batch(Vec::new()).out_of_touch, Some(new.since));
    assert_eq!(
        teller.batch(vec![news(Pods::NAME, 5, 9)]).out_of_touch,
        None
    );
}

#[test]
fn versions_that_are_no_numbers_compare_with_nothing() {
    let mut teller = Teller::new("c".into(), 7);
    teller.batch(vec![news(Namespaces::NAME, 0, 0)]);
    let first = teller.batch(vec![news(Pods::NAME, 0, 0)]);
    let second = teller.batch(vec![news(Pods::NAME, 0, 0)]);
    assert_ne!(&*first.revision.source, "kubernetes:c");
    assert_eq!(first.revision.source, second.revision.source);
    assert!(first.revision.is_behind(&second.revision));
    assert_eq!(second.problems.len(), 1);
    let other = Teller::new("c".into(), 8).batch(vec![news(Pods::NAME, 0, 0)]);
    assert_ne!(other.revision.source, second.revision.source);
}
