//! Which file's object counts when several tell of the same one: the first
//! file by name. Pure, and incremental by file.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::folder::problem;
use crate::{
    index::Update,
    model::{Name, Namespace, Pod, Uid},
    source::Problem,
};

/// An object, and where in its file it starts.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub line: u64,
    pub body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Pod(Arc<Pod>),
    Namespace(Namespace),
}

/// What there can be only one of.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Claim {
    Namespace(Name),
    Pod(Name, Arc<str>),
    Uid(Uid),
}

type File = Arc<str>;
/// File, and position in it.
type Place = (File, usize);

#[derive(Default)]
pub(super) struct Claims {
    files: HashMap<File, Vec<Object>>,
    /// Who claims it, first file first.
    claimed: HashMap<Claim, Vec<Place>>,
    contested: BTreeSet<Claim>,
    touched: HashSet<Claim>,
    pods: HashMap<Uid, Arc<Pod>>,
    namespaces: HashMap<Name, Namespace>,
}

impl Claims {
    /// True when objects of the file are known.
    pub(super) fn has(&self, file: &str) -> bool {
        self.files
            .get(file)
            .is_some_and(|objects| !objects.is_empty())
    }

    /// From now on the file says this.
    pub(super) fn set(&mut self, file: &File, objects: Vec<Object>) {
        for object in self.files.remove(file).unwrap_or_default() {
            for claim in claims_of(&object) {
                self.drop_claim(claim, file);
            }
        }
        for (position, object) in objects.iter().enumerate() {
            for claim in claims_of(object) {
                let places = self.claimed.entry(claim.clone()).or_default();
                places.push((Arc::clone(file), position));
                places.sort();
                if places.len() > 1 {
                    self.contested.insert(claim.clone());
                }
                self.touched.insert(claim);
            }
        }
        if !objects.is_empty() {
            self.files.insert(Arc::clone(file), objects);
        }
    }

    fn drop_claim(&mut self, claim: Claim, file: &File) {
        if let Some(places) = self.claimed.get_mut(&claim) {
            places.retain(|(owner, _)| owner != file);
            if places.len() < 2 {
                self.contested.remove(&claim);
            }
            if places.is_empty() {
                self.claimed.remove(&claim);
            }
        }
        self.touched.insert(claim);
    }

    /// What changed since it was last asked.
    pub(super) fn settle(&mut self) -> Vec<Update> {
        let touched = std::mem::take(&mut self.touched);
        let mut uids = HashSet::new();
        let mut updates = Vec::new();
        for claim in &touched {
            match claim {
                Claim::Namespace(name) => updates.extend(self.settle_namespace(name)),
                Claim::Uid(uid) => {
                    uids.insert(Arc::clone(uid));
                }
                // A name that is free again lets in those that were kept out.
                Claim::Pod(..) => {
                    let places = self.claimed.get(claim).into_iter().flatten();
                    let pods = places.filter_map(|place| self.pod(place));
                    uids.extend(pods.map(|pod| Arc::clone(&pod.uid)));
                }
            }
        }
        // Those that go first: a name may pass on to another uid.
        let (gone, rest): (Vec<_>, Vec<_>) = uids
            .into_iter()
            .filter_map(|uid| self.settle_pod(&uid))
            .partition(|update| matches!(update, Update::PodGone(_)));
        updates.extend(gone);
        updates.extend(rest);
        updates
    }

    fn settle_namespace(&mut self, name: &Name) -> Option<Update> {
        let now = self.first(&Claim::Namespace(Arc::clone(name)));
        let now = now.and_then(|place| match &self.object(place)?.body {
            Body::Namespace(namespace) => Some(namespace.clone()),
            Body::Pod(_) => None,
        });
        if now.as_ref() == self.namespaces.get(name) {
            return None;
        }
        Some(match now {
            Some(now) => {
                self.namespaces.insert(Arc::clone(name), now.clone());
                Update::Namespace(now)
            }
            None => {
                self.namespaces.remove(name);
                Update::NamespaceGone(Arc::clone(name))
            }
        })
    }

    // A pod counts when it is the first of its name and the first of its uid.
    fn settle_pod(&mut self, uid: &Uid) -> Option<Update> {
        let place = self.first(&Claim::Uid(Arc::clone(uid)));
        let now = place.and_then(|place| {
            let pod = self.pod(place)?;
            let name = Claim::Pod(Arc::clone(&pod.namespace), Arc::clone(&pod.name));
            (self.first(&name) == Some(place)).then(|| Arc::clone(pod))
        });
        if now.as_ref() == self.pods.get(uid) {
            return None;
        }
        Some(match now {
            Some(now) => {
                self.pods.insert(Arc::clone(uid), Arc::clone(&now));
                Update::Pod(now)
            }
            None => {
                self.pods.remove(uid);
                Update::PodGone(Arc::clone(uid))
            }
        })
    }

    /// Objects that are told of more than once.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.contested.iter().flat_map(move |claim| {
            let places = self.claimed.get(claim).into_iter().flatten();
            let first = self.first(claim);
            places
                .skip(1)
                .filter_map(move |place| self.problem(claim, place, first?))
        })
    }

    fn problem(&self, claim: &Claim, place: &Place, first: &Place) -> Option<Problem> {
        let what = match claim {
            Claim::Namespace(name) => format!("Namespace {name}"),
            Claim::Pod(namespace, name) => format!("Pod {namespace}/{name}"),
            Claim::Uid(uid) => {
                // A copy of a whole pod is one problem, not two.
                let (pod, winner) = (self.pod(place)?, self.pod(first)?);
                if pod.namespace == winner.namespace && pod.name == winner.name {
                    return None;
                }
                format!("a pod of uid {uid}")
            }
        };
        let winner = format!("{}:{}", first.0, self.object(first)?.line);
        let reason = format!("{what} is already at {winner}, which is used; remove one of them");
        Some(problem(&place.0, Some(self.object(place)?.line), reason))
    }

    fn first(&self, claim: &Claim) -> Option<&Place> {
        self.claimed.get(claim)?.first()
    }

    fn object(&self, (file, position): &Place) -> Option<&Object> {
        self.files.get(file)?.get(*position)
    }

    fn pod(&self, place: &Place) -> Option<&Arc<Pod>> {
        match &self.object(place)?.body {
            Body::Pod(pod) => Some(pod),
            Body::Namespace(_) => None,
        }
    }
}

fn claims_of(object: &Object) -> Vec<Claim> {
    match &object.body {
        Body::Namespace(namespace) => vec![Claim::Namespace(Arc::clone(&namespace.name))],
        Body::Pod(pod) => vec![
            Claim::Pod(Arc::clone(&pod.namespace), Arc::clone(&pod.name)),
            Claim::Uid(Arc::clone(&pod.uid)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::{Body, Claims, Object};
    use crate::{
        index::Update,
        model::{Namespace, Pod},
    };

    fn pod(uid: &str, name: &str) -> Object {
        let pod = Pod {
            uid: uid.into(),
            namespace: "x".into(),
            name: name.into(),
            node: None,
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
        Object {
            line: 1,
            body: Body::Pod(Arc::new(pod)),
        }
    }

    fn namespace(name: &str) -> Object {
        let name = name.into();
        let labels = [].into();
        Object {
            line: 1,
            body: Body::Namespace(Namespace { name, labels }),
        }
    }

    fn words(updates: &[Update]) -> Vec<String> {
        let mut words: Vec<_> = updates
            .iter()
            .map(|update| match update {
                Update::Pod(pod) => format!("+{} {}", pod.uid, pod.name),
                Update::PodGone(uid) => format!("-{uid}"),
                Update::Namespace(namespace) => format!("+ns {}", namespace.name),
                Update::NamespaceGone(name) => format!("-ns {name}"),
            })
            .collect();
        words.sort();
        words
    }

    #[test]
    fn the_first_file_wins_and_the_next_inherits() {
        let mut claims = Claims::default();
        claims.set(&"b".into(), vec![pod("2", "web")]);
        assert_eq!(words(&claims.settle()), ["+2 web"]);
        claims.set(&"a".into(), vec![pod("1", "web"), namespace("x")]);
        assert_eq!(words(&claims.settle()), ["+1 web", "+ns x", "-2"]);
        let problems: Vec<_> = claims.problems().map(|p| p.to_string()).collect();
        assert_eq!(
            problems,
            ["b:1: Pod x/web is already at a:1, which is used; remove one of them"]
        );
        claims.set(&"a".into(), vec![]);
        assert_eq!(words(&claims.settle()), ["+2 web", "-1", "-ns x"]);
        assert_eq!(claims.problems().count(), 0);
    }

    #[test]
    fn a_uid_is_used_once() {
        let mut claims = Claims::default();
        claims.set(&"a".into(), vec![pod("1", "web"), pod("1", "db")]);
        assert_eq!(words(&claims.settle()), ["+1 web"]);
        assert_eq!(claims.problems().count(), 1);
    }

    fn objects() -> impl Strategy<Value = Vec<Object>> {
        let pods = ("[12]", "[ab]").prop_map(|(uid, name)| pod(&uid, &name));
        let object = prop_oneof![3 => pods, 1 => "[xy]".prop_map(|name| namespace(&name))];
        prop::collection::vec(object, 0..3)
    }

    proptest! {
        // The order in which files come does not matter for what is in use.
        #[test]
        fn incremental_equals_from_scratch(steps in prop::collection::vec(("[abc]", objects()), 1..10)) {
            let mut claims = Claims::default();
            for (file, objects) in steps {
                claims.set(&file.as_str().into(), objects);
                claims.settle();
            }
            let mut scratch = Claims::default();
            for (file, objects) in &claims.files {
                scratch.set(file, objects.clone());
            }
            scratch.settle();
            prop_assert_eq!(&claims.pods, &scratch.pods);
            prop_assert_eq!(&claims.namespaces, &scratch.namespaces);
            prop_assert_eq!(&claims.contested, &scratch.contested);
        }
    }
}
