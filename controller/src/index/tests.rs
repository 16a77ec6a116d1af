use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{Changes, Index, NodeState, Question, Resolved, Update};
use crate::{
    model::{Namespace, Pod, Revision, Uid, Wanted},
    select::Rules,
};

fn pod(uid: &str, namespace: &str, name: &str, node: Option<&str>) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: namespace.into(),
        name: name.into(),
        node: node.map(Into::into),
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

fn namespace(name: &str, mode: Option<&str>) -> Namespace {
    let label = mode.map(|mode| ("istio.io/dataplane-mode".into(), mode.into()));
    Namespace {
        name: name.into(),
        labels: label.into_iter().collect(),
    }
}

fn apply(index: &mut Index, updates: Vec<Update>) -> Changes {
    index.apply(updates, Revision::default())
}

fn put(pod: Pod) -> Update {
    Update::Pod(Arc::new(pod))
}

#[test]
fn a_namespace_flip_touches_its_pods_and_no_others() {
    let mut index = Index::new(Rules::default());
    apply(
        &mut index,
        vec![
            put(pod("1", "shop", "web", Some("a"))),
            put(pod("2", "other", "web", Some("b"))),
            Update::Namespace(namespace("shop", None)),
        ],
    );
    let changes = apply(
        &mut index,
        vec![Update::Namespace(namespace("shop", Some("ambient")))],
    );
    assert_eq!(changes.len(), 1);
    let change = &changes["a"];
    assert_eq!(change.pods["1"].as_ref().unwrap().wanted, Wanted::Captured);
    assert_eq!(change.namespaces["shop"], Some(true));
    assert_eq!(index.count(Wanted::Captured), 1);
    assert_eq!(index.count(Wanted::Nothing), 1);
}

#[test]
fn the_same_again_changes_nothing() {
    let mut index = Index::new(Rules::default());
    let updates = || {
        vec![
            put(pod("1", "shop", "web", Some("a"))),
            Update::Namespace(namespace("shop", Some("ambient"))),
        ]
    };
    assert_eq!(apply(&mut index, updates()).len(), 1);
    assert_eq!(apply(&mut index, updates()), Changes::new());
}

#[test]
fn one_enrolled_pod_enrols_its_namespace_on_every_node() {
    let mut index = Index::new(Rules::default());
    apply(&mut index, vec![put(pod("1", "shop", "web", Some("a")))]);
    assert!(!index.node("a").namespaces["shop"]);
    let mut labelled = pod("2", "shop", "db", Some("b"));
    labelled
        .labels
        .insert("istio.io/dataplane-mode".into(), "ambient".into());
    let changes = apply(&mut index, vec![put(labelled)]);
    assert_eq!(changes["a"].namespaces["shop"], Some(true));
    let changes = apply(&mut index, vec![Update::PodGone("2".into())]);
    assert_eq!(changes["a"].namespaces["shop"], Some(false));
    assert_eq!(changes["b"].namespaces["shop"], None);
    assert_eq!(changes["b"].pods["2"], None);
}

#[test]
fn a_recreated_pod_replaces_its_namesake() {
    let mut index = Index::new(Rules::default());
    apply(&mut index, vec![put(pod("1", "shop", "web", Some("a")))]);
    let changes = apply(&mut index, vec![put(pod("2", "shop", "web", Some("a")))]);
    assert_eq!(changes["a"].pods["1"], None);
    assert!(changes["a"].pods["2"].is_some());
    // Late news of the old one harms nobody.
    assert_eq!(
        apply(&mut index, vec![Update::PodGone("1".into())]),
        Changes::new()
    );
}

#[test]
fn a_pod_without_a_node_is_told_to_nobody() {
    let mut index = Index::new(Rules::default());
    let changes = apply(&mut index, vec![put(pod("1", "shop", "web", None))]);
    assert_eq!(changes, Changes::new());
    let changes = apply(&mut index, vec![put(pod("1", "shop", "web", Some("a")))]);
    assert!(changes["a"].pods["1"].is_some());
    assert_eq!(changes["a"].namespaces["shop"], Some(false));
}

#[test]
fn a_pod_that_moves_leaves_the_old_node() {
    let mut index = Index::new(Rules::default());
    apply(&mut index, vec![put(pod("1", "shop", "web", Some("a")))]);
    let changes = apply(&mut index, vec![put(pod("1", "shop", "web", Some("b")))]);
    assert_eq!(changes["a"].pods["1"], None);
    assert_eq!(changes["a"].namespaces["shop"], None);
    assert!(changes["b"].pods["1"].is_some());
    assert_eq!(index.node("a"), NodeState::default());
}

#[test]
fn four_answers_about_one_pod() {
    let mut index = Index::new(Rules::default());
    let mut fixed = pod("mirror", "shop", "static", Some("a"));
    fixed.static_uid = Some("hash".into());
    // Somebody else's pod that claims the same hash, and sorts first.
    let mut claimed = pod("a-claim", "evil", "static", Some("b"));
    claimed.static_uid = Some("hash".into());
    apply(
        &mut index,
        vec![
            put(pod("1", "shop", "web", Some("a"))),
            put(fixed),
            put(claimed),
            put(pod("3", "shop", "unscheduled", None)),
        ],
    );
    let ask = |node, uid, namespace, name| {
        let question = Question {
            uid,
            namespace,
            name,
        };
        match index.resolve(node, question) {
            Resolved::Yours(intent) => format!("yours {}", intent.pod.uid),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(ask("a", "1", "", ""), "yours 1");
    assert_eq!(ask("b", "1", "", ""), "NotYours");
    assert_eq!(ask("a", "hash", "", ""), "yours mirror");
    assert_eq!(ask("b", "hash", "", ""), "yours a-claim");
    assert_eq!(ask("c", "hash", "", ""), "NotYours");
    assert_eq!(ask("a", "", "shop", "web"), "yours 1");
    assert_eq!(ask("b", "", "shop", "web"), "NotYours");
    assert_eq!(ask("a", "", "shop", "none"), "NotKnown");
    assert_eq!(ask("a", "", "", ""), "NotKnown");
    assert_eq!(ask("a", "new", "shop", "web"), "NotKnown");
    assert_eq!(ask("a", "3", "", ""), "NotYours");
}

// Few names, so that they collide.
fn update() -> impl Strategy<Value = Update> {
    let small = || prop::sample::select(vec!["1", "2", "3", "4"]);
    let node = prop::option::of(prop::sample::select(vec!["a", "b"]));
    let ns = || prop::sample::select(vec!["x", "y"]);
    let mode = || prop::option::of(prop::sample::select(vec!["ambient", "none"]));
    prop_oneof![
        4 => (small(), ns(), small(), node, mode(), any::<bool>(), prop::option::of(small())).prop_map(
            |(uid, namespace, name, node, mode, completed, static_uid)| {
                let mut made = pod(uid, namespace, name, node);
                made.completed = completed;
                made.static_uid = static_uid.map(Into::into);
                if let Some(mode) = mode {
                    made.labels.insert("istio.io/dataplane-mode".into(), mode.into());
                }
                put(made)
            }
        ),
        2 => small().prop_map(|uid| Update::PodGone(uid.into())),
        2 => (ns(), mode()).prop_map(|(name, mode)| Update::Namespace(namespace(name, mode))),
        1 => ns().prop_map(|name| Update::NamespaceGone(name.into())),
    ]
}

// What the updates leave, one after the other.
#[derive(Default)]
struct Model {
    pods: BTreeMap<Uid, Arc<Pod>>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
}

impl Model {
    fn apply(&mut self, update: Update) {
        match update {
            Update::Pod(pod) => {
                self.pods
                    .retain(|_, old| old.namespace != pod.namespace || old.name != pod.name);
                self.pods.insert(Arc::clone(&pod.uid), pod);
            }
            Update::PodGone(uid) => {
                self.pods.remove(&uid);
            }
            Update::Namespace(namespace) => {
                self.namespaces
                    .insert(Arc::clone(&namespace.name), namespace);
            }
            Update::NamespaceGone(name) => {
                self.namespaces.remove(&name);
            }
        }
    }

    fn index(&self) -> Index {
        let mut index = Index::new(Rules::default());
        let pods = self.pods.values().cloned().map(Update::Pod);
        let namespaces = self.namespaces.values().cloned().map(Update::Namespace);
        apply(&mut index, pods.chain(namespaces).collect());
        index
    }
}

fn follow(mirrors: &mut BTreeMap<Arc<str>, NodeState>, changes: Changes) {
    for (node, change) in changes {
        let mirror = mirrors.entry(node).or_default();
        for (uid, intent) in change.pods {
            match intent {
                Some(intent) => mirror.pods.insert(uid, intent),
                None => mirror.pods.remove(&uid),
            };
        }
        for (name, enrolled) in change.namespaces {
            match enrolled {
                Some(enrolled) => mirror.namespaces.insert(name, enrolled),
                None => mirror.namespaces.remove(&name),
            };
        }
    }
}

type Said = (Vec<(Uid, String)>, BTreeMap<Arc<str>, bool>);

fn said(state: &NodeState) -> Said {
    let pods = state.pods.iter();
    let pods = pods.map(|(uid, intent)| (Arc::clone(uid), intent.hash.to_string()));
    (pods.collect(), state.namespaces.clone())
}

proptest! {
    // Whatever the order and the batches: the index is what it would be if it
    // had been built from scratch, and so is whoever followed the changes.
    #[test]
    fn incremental_equals_from_scratch(
        batches in prop::collection::vec(prop::collection::vec(update(), 1..6), 1..12)
    ) {
        let mut index = Index::new(Rules::default());
        let mut model = Model::default();
        let mut mirrors = BTreeMap::new();
        for batch in batches {
            for update in batch.clone() {
                model.apply(update);
            }
            let changes = apply(&mut index, batch);
            follow(&mut mirrors, changes);
            let scratch = model.index();
            for node in ["a", "b"] {
                let expected = scratch.node(node);
                prop_assert_eq!(said(&index.node(node)), said(&expected));
                let mirror = mirrors.entry(node.into()).or_default();
                prop_assert_eq!(said(mirror), said(&expected));
            }
            for wanted in Wanted::ALL {
                prop_assert_eq!(index.count(wanted), scratch.count(wanted));
            }
            for uid in ["1", "2", "3", "4"] {
                let question = Question { uid, namespace: "", name: "" };
                for node in ["a", "b"] {
                    let kind = |r| matches!(r, Resolved::Yours(_));
                    prop_assert_eq!(
                        kind(index.resolve(node, question)),
                        kind(scratch.resolve(node, question))
                    );
                }
            }
        }
    }
}
