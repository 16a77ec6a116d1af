//! An API server in memory, with revisions and preconditions as the real one.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::watch;

use crate::{
    model::Pod,
    select::REDIRECTION,
    writeback::{Api, ApiError, NodeWrite, PodRef, SeenNode, SeenPod, Ternary, events::Event},
};

#[derive(Debug, Default)]
pub(super) struct FakeApi {
    state: Mutex<State>,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    pods: BTreeMap<String, Pod>,
    /// Whose annotation it is.
    ours: HashSet<String>,
    nodes: BTreeMap<String, SeenNode>,
    /// What was written, in order.
    log: Vec<String>,
    attempts: HashMap<&'static str, usize>,
    failing: HashSet<String>,
    events: Vec<Event>,
}

impl FakeApi {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn begin(&self, verb: &'static str) -> Result<MutexGuard<'_, State>, ApiError> {
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        let mut state = self.state();
        *state.attempts.entry(verb).or_default() += 1;
        if state.failing.contains(verb) {
            return Err(ApiError::Unreachable {
                verb,
                what: "it".into(),
                source: "fails".into(),
            });
        }
        Ok(state)
    }

    pub(super) fn hold(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    pub(super) fn fail(&self, verb: &str, fail: bool) {
        let failing = &mut self.state().failing;
        if fail {
            failing.insert(verb.to_owned());
        } else {
            failing.remove(verb);
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.state().revision
    }

    pub(super) fn put_pod(&self, mut pod: Pod) {
        let mut state = self.state();
        state.revision += 1;
        pod.version = state.revision.into();
        state.pods.insert(pod.uid.to_string(), pod);
    }

    pub(super) fn put_node(&self, name: &str, mut node: SeenNode) {
        let mut state = self.state();
        state.revision += 1;
        node.revision = state.revision;
        state.nodes.insert(name.to_owned(), node);
    }

    /// As a user does.
    pub(super) fn write_annotation(&self, uid: &str, value: Option<&str>) {
        let mut state = self.state();
        state.ours.remove(uid);
        state.annotate(uid, value);
    }

    pub(super) fn annotation(&self, uid: &str) -> Option<String> {
        self.state().pods[uid]
            .annotations
            .get(REDIRECTION)
            .map(ToString::to_string)
    }

    pub(super) fn condition(&self, node: &str) -> Option<Ternary> {
        let state = self.state();
        let condition = state.nodes[node].condition.as_ref();
        condition.map(|condition| condition.status)
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.state().pods.values().cloned().map(Arc::new).collect()
    }

    pub(super) fn nodes(&self) -> BTreeMap<String, SeenNode> {
        self.state().nodes.clone()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    pub(super) fn events(&self) -> Vec<String> {
        let events = &self.state().events;
        events.iter().map(Event::name).collect()
    }

    pub(super) fn attempts(&self, verb: &str) -> usize {
        self.state().attempts.get(verb).copied().unwrap_or_default()
    }
}

impl State {
    fn annotate(&mut self, uid: &str, value: Option<&str>) -> SeenPod {
        self.revision += 1;
        let pod = self.pods.get_mut(uid).unwrap();
        pod.version = self.revision.into();
        match value {
            Some(value) => pod.annotations.insert(REDIRECTION.into(), value.into()),
            None => pod.annotations.remove(REDIRECTION),
        };
        seen(pod)
    }

    fn check(&self, pod: &PodRef, revision: Option<u64>) -> Result<SeenPod, ApiError> {
        let what = || pod.name.clone();
        let found = self
            .pods
            .get(&pod.uid)
            .ok_or_else(|| ApiError::Gone { what: what() })?;
        if revision.is_some_and(|revision| revision != found.version.get()) {
            return Err(ApiError::Conflict { what: what() });
        }
        Ok(seen(found))
    }
}

fn seen(pod: &Pod) -> SeenPod {
    SeenPod {
        revision: pod.version.get(),
        annotation: pod.annotations.get(REDIRECTION).map(ToString::to_string),
    }
}

impl Api for FakeApi {
    async fn pod(&self, pod: &PodRef) -> Result<Option<SeenPod>, ApiError> {
        Ok(self.begin("look").await?.pods.get(&pod.uid).map(seen))
    }

    async fn annotate(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
        force: bool,
    ) -> Result<SeenPod, ApiError> {
        let mut state = self.begin("annotate").await?;
        let found = state.check(pod, revision)?;
        if found.annotation.is_some_and(|value| value != "enabled") && !force {
            return Err(ApiError::Conflict {
                what: pod.name.clone(),
            });
        }
        state.log.push(format!("annotate {}", pod.uid));
        state.ours.insert(pod.uid.clone());
        Ok(state.annotate(&pod.uid, Some("enabled")))
    }

    async fn remove_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> Result<SeenPod, ApiError> {
        let mut state = self.begin("remove").await?;
        let found = state.check(pod, revision)?;
        if found.annotation.as_deref() != Some("enabled") {
            return Err(ApiError::Conflict {
                what: pod.name.clone(),
            });
        }
        state.log.push(format!("remove {}", pod.uid));
        Ok(state.annotate(&pod.uid, None))
    }

    async fn remove_own_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> Result<SeenPod, ApiError> {
        let mut state = self.begin("remove").await?;
        let found = state.check(pod, revision)?;
        if !state.ours.remove(&pod.uid) {
            return Ok(found);
        }
        state.log.push(format!("remove own {}", pod.uid));
        Ok(state.annotate(&pod.uid, None))
    }

    async fn node(&self, name: &str) -> Result<Option<SeenNode>, ApiError> {
        Ok(self.begin("look").await?.nodes.get(name).cloned())
    }

    async fn set_condition(&self, name: &str, write: &NodeWrite) -> Result<SeenNode, ApiError> {
        let mut state = self.begin("condition").await?;
        state.revision += 1;
        let revision = state.revision;
        let node = state.nodes.get_mut(name).unwrap();
        if write
            .revision
            .is_some_and(|revision| revision != node.revision)
        {
            return Err(ApiError::Conflict {
                what: name.to_owned(),
            });
        }
        node.revision = revision;
        node.condition = Some(write.condition.clone());
        node.claim.clone_from(&write.claim);
        let node = node.clone();
        let word = write.condition.status.word();
        state.log.push(format!("condition {name} {word}"));
        Ok(node)
    }

    async fn remove_taint(&self, name: &str) -> Result<SeenNode, ApiError> {
        let mut state = self.begin("untaint").await?;
        state.revision += 1;
        let revision = state.revision;
        let node = state.nodes.get_mut(name).unwrap();
        node.revision = revision;
        node.tainted = false;
        Ok(node.clone())
    }

    async fn event(&self, event: &Event) -> Result<(), ApiError> {
        self.begin("event").await?.events.push(event.clone());
        Ok(())
    }
}
