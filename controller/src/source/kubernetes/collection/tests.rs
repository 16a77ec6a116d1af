use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use proptest::prelude::*;

use super::{Change, Collection, Unbelievable};
use crate::{model::Versioned, source::kubernetes::convert::Object};

impl Versioned for String {
    fn seen_at(&self, _: u64) {}
}

type Known = Collection<u8, String>;

fn object(key: u8, version: u64, body: &str) -> Object<u8, String> {
    Object {
        key,
        version,
        body: body.to_owned(),
        left_out: Vec::new(),
    }
}

fn listed(version: u64, objects: &[(u8, u64, &str)]) -> Known {
    let mut known = Known::default();
    let objects = objects.iter();
    let objects = objects.map(|(key, at, body)| object(*key, *at, body));
    known.listed(objects.collect(), version).unwrap();
    known
}

#[test]
fn a_new_list_tells_only_what_differs() {
    let mut known = listed(10, &[(1, 5, "a"), (2, 6, "b"), (3, 7, "c")]);
    let list = vec![object(1, 5, "a"), object(3, 12, "d"), object(4, 13, "e")];
    let changes = known.listed(list, 20).unwrap();
    let (gone, is): (Vec<_>, Vec<_>) = changes
        .into_iter()
        .partition(|change| matches!(change, Change::Gone(_)));
    assert_eq!(gone, [Change::Gone(2)]);
    assert_eq!(is, [Change::Is("d".into()), Change::Is("e".into())]);
    assert_eq!((known.newest(), known.reached()), (13, 20));
}

#[test]
fn an_empty_list_removes_nothing() {
    let mut known = listed(10, &[(1, 5, "a")]);
    let refused = known.listed(Vec::new(), 20);
    assert_eq!(refused, Err(Unbelievable::Empty { known: 1 }));
    assert_eq!(known.reached(), 10);
    // It was there all the time.
    assert_eq!(known.listed(vec![object(1, 5, "a")], 20), Ok(vec![]));
    assert_eq!(
        Known::default().listed(Vec::new(), 20),
        Ok(vec![]),
        "at the start"
    );
}

#[test]
fn an_older_list_is_not_believed() {
    let mut known = listed(10, &[(1, 5, "a")]);
    known.bookmark(30);
    let older = known.listed(vec![object(2, 6, "b")], 29);
    let (listed, seen) = (29, 30);
    assert_eq!(older, Err(Unbelievable::Older { listed, seen }));
    assert_eq!(known.listed(vec![object(1, 5, "a")], 30), Ok(vec![]));
}

#[test]
fn events() {
    let mut known = listed(10, &[(1, 5, "a")]);
    assert_eq!(
        known.changed(object(1, 11, "a")),
        None,
        "nothing that matters"
    );
    assert_eq!(
        known.changed(object(2, 12, "b")),
        Some(Change::Is("b".into()))
    );
    assert_eq!(known.gone(&1, 13), Some(Change::Gone(1)));
    assert_eq!(known.gone(&1, 13), None, "once");
    assert_eq!((known.newest(), known.reached()), (13, 13));
    known.bookmark(40);
    assert_eq!((known.newest(), known.reached()), (13, 40));
}

#[test]
fn what_is_left_out_is_told_as_long_as_it_is() {
    let mut known = Known::default();
    let mut odd = object(1, 5, "a");
    odd.left_out.push("why".into());
    known.changed(odd.clone());
    let told: Vec<_> = known
        .odd()
        .map(|(body, why)| (body.clone(), why.len()))
        .collect();
    assert_eq!(told, [("a".to_owned(), 1)]);
    known.changed(object(1, 6, "a"));
    assert_eq!(known.odd().count(), 0);
    known.changed(odd);
    known.gone(&1, 7);
    assert_eq!(known.odd().count(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    List(BTreeMap<u8, String>),
    Is(u8, String),
    Gone(u8),
    Bookmark,
}

fn step() -> impl Strategy<Value = Step> {
    let body = || "[ab]";
    prop_oneof![
        prop::collection::btree_map(0..6u8, body(), 0..6).prop_map(Step::List),
        (0..6u8, body()).prop_map(|(key, body)| Step::Is(key, body)),
        (0..6u8).prop_map(Step::Gone),
        Just(Step::Bookmark),
    ]
}

proptest! {
    // Whatever happens in whatever order: those who take in the changes know
    // what the API server knows, a list never takes away what is in it, and
    // numbers never go back.
    #[test]
    fn changes_lead_to_what_is(steps in prop::collection::vec(step(), 0..40)) {
        let mut known = Known::default();
        let mut truth: BTreeMap<u8, String> = BTreeMap::new();
        let mut told: BTreeMap<u8, String> = BTreeMap::new();
        // Bodies do not name their keys here, so keep the key in the body.
        let body = |key: u8, text: &str| format!("{key}{text}");
        for (version, step) in (1u64..).zip(steps) {
            let before = (known.newest(), known.reached());
            let changes = match step {
                Step::List(list) => {
                    let objects = list.iter();
                    let objects = objects.map(|(key, text)| object(*key, version, &body(*key, text)));
                    let empty = list.is_empty() && !truth.is_empty();
                    match known.listed(objects.collect(), version) {
                        Ok(changes) => {
                            prop_assert!(!empty);
                            let there: BTreeSet<u8> = list.keys().copied().collect();
                            for change in &changes {
                                prop_assert!(!matches!(change, Change::Gone(key) if there.contains(key)));
                            }
                            truth = list.iter().map(|(key, text)| (*key, body(*key, text))).collect();
                            changes
                        }
                        Err(_) => {
                            prop_assert!(empty);
                            vec![]
                        }
                    }
                }
                Step::Is(key, text) => {
                    truth.insert(key, body(key, &text));
                    known.changed(object(key, version, &body(key, &text))).into_iter().collect()
                }
                Step::Gone(key) => {
                    truth.remove(&key);
                    known.gone(&key, version).into_iter().collect()
                }
                Step::Bookmark => {
                    known.bookmark(version);
                    vec![]
                }
            };
            for change in changes {
                match change {
                    Change::Is(body) => {
                        let key = body.as_bytes()[0] - b'0';
                        prop_assert_ne!(told.insert(key, body.clone()), Some(body), "no news");
                    }
                    Change::Gone(key) => prop_assert!(told.remove(&key).is_some()),
                }
            }
            prop_assert_eq!(&told, &truth);
            prop_assert!(known.newest() >= before.0 && known.reached() >= before.1);
            prop_assert!(known.newest() <= known.reached());
        }
    }
}

#[derive(Clone, Debug)]
struct At(Arc<AtomicU64>);

impl PartialEq for At {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for At {}

impl Versioned for At {
    fn seen_at(&self, version: u64) {
        self.0.store(version, Ordering::Relaxed);
    }
}

#[test]
fn a_version_that_is_no_news_is_still_the_newest() {
    let object = |version: u64| Object {
        key: 1,
        version,
        body: At(Arc::new(version.into())),
        left_out: Vec::new(),
    };
    let mut known = Collection::default();
    let told = known.listed(vec![object(5)], 10).unwrap();
    let [Change::Is(told)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(known.changed(object(17)), None);
    assert_eq!(told.0.load(Ordering::Relaxed), 17);
}
