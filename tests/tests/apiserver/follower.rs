//! Listens to a source, and keeps what it tells as an agent's controller would.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sluice_controller::{
    index::Update,
    model::{Namespace, Pod, Relevant},
    source::{
        Batch, Source as _,
        kubernetes::{Kubernetes, connect},
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// However busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Follower {
    batches: mpsc::Receiver<Batch>,
    _stop: tokio_util::sync::DropGuard,
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
    pub(crate) namespaces: BTreeMap<String, Namespace>,
    /// Whose end was told, by `namespace/name`.
    pub(crate) gone: Vec<String>,
    /// Updates told so far.
    pub(crate) updates: usize,
    pub(crate) last: Batch,
}

impl Follower {
    /// Follows through this kubeconfig.
    pub(crate) async fn start(kubeconfig: &Path) -> Self {
        let client = connect(Some(kubeconfig)).await.unwrap();
        let (sink, batches) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let source = Kubernetes::new(client, Relevant::new(["app".to_owned()]));
        tokio::spawn(source.run(sink, stop.clone()));
        Self {
            batches,
            _stop: stop.drop_guard(),
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            gone: Vec::new(),
            updates: 0,
            last: Batch::nothing(Default::default()),
        }
    }

    /// The same, until everything has been told once.
    pub(crate) async fn in_sync(kubeconfig: &Path) -> Self {
        let mut follower = Self::start(kubeconfig).await;
        follower.until("in sync", |f| f.last.in_sync).await;
        follower
    }

    /// Takes in batches until it is so.
    pub(crate) async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !so(self) {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(batch) = timeout(left, self.batches.recv()).await else {
                panic!("not {what} within {LIMIT:?}: {self:#?}");
            };
            self.take(batch.expect("the source goes on"));
        }
    }

    fn take(&mut self, batch: Batch) {
        assert!(
            !batch.revision.is_behind(&self.last.revision)
                && !batch.reached.is_behind(&self.last.reached),
            "{batch:?} after {self:?}"
        );
        assert!(!batch.reached.is_behind(&batch.revision));
        assert!(batch.in_sync || !self.last.in_sync);
        self.updates += batch.updates.len();
        for update in &batch.updates {
            match update {
                Update::Pod(pod) => {
                    self.pods.insert(pod.uid.to_string(), Arc::clone(pod));
                }
                Update::PodGone(uid) => {
                    let pod = self.pods.remove(&**uid).expect("it was there");
                    self.gone.push(format!("{}/{}", pod.namespace, pod.name));
                }
                Update::Namespace(namespace) => {
                    let name = namespace.name.to_string();
                    self.namespaces.insert(name, namespace.clone());
                }
                Update::NamespaceGone(name) => {
                    self.namespaces.remove(&**name).expect("it was there");
                }
            }
        }
        self.last = batch;
    }

    pub(crate) fn names(&self, namespace: &str) -> Vec<String> {
        let pods = self.pods.values();
        let pods = pods.filter(|pod| *pod.namespace == *namespace);
        let mut names: Vec<_> = pods.map(|pod| pod.name.to_string()).collect();
        names.sort();
        names
    }

    pub(crate) fn pod(&self, name: &str) -> Option<&Pod> {
        let mut pods = self.pods.values();
        pods.find(|pod| *pod.name == *name).map(|pod| &**pod)
    }

    pub(crate) fn problems(&self) -> String {
        let problems = self.last.problems.iter().map(ToString::to_string);
        problems.collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower")
            .field("pods", &self.pods.len())
            .field("namespaces", &self.namespaces.keys())
            .field("gone", &self.gone)
            .field("revision", &self.last.revision)
            .field("reached", &self.last.reached)
            .field("in_sync", &self.last.in_sync)
            .field("out_of_touch", &self.last.out_of_touch)
            .field("problems", &self.last.problems)
            .finish_non_exhaustive()
    }
}
