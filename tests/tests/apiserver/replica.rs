//! A controller's replica in this process, and the history of what is written.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use sluice_controller::{
    fleet::{Fleet, Greeting, Stream},
    run,
    select::Rules,
    source::kubernetes::{Kubernetes, connect},
    writeback::{Limits, STARTUP_TAINT, Settings, WriteBack},
};
use sluice_proto::capture::v1::{NodeCondition, PodState, PodStatus, StatusReport};
use sluice_tests::apiserver::ApiServer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";
pub(crate) const OURS: &str = "sluice-system";
const LIMIT: Duration = Duration::from_secs(120);
const RELEASE_AFTER: Duration = Duration::from_millis(500);

/// Tries again until it is so.
pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The cluster: node `node-a`, namespace `shop` (ambient), and ours.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        let server = ApiServer::start();
        let client = connect(Some(&server.kubeconfig())).await.unwrap();
        let world = Self { server, client };
        world.namespace(OURS, json!({})).await;
        world
            .namespace("shop", json!({"istio.io/dataplane-mode": "ambient"}))
            .await;
        let taint = json!({"key": STARTUP_TAINT, "effect": "NoSchedule"});
        let node = json!({"metadata": {"name": "node-a"}, "spec": {"taints": [taint]}});
        let node = serde_json::from_value(node).unwrap();
        world
            .nodes()
            .create(&PostParams::default(), &node)
            .await
            .unwrap();
        world
    }

    async fn namespace(&self, name: &str, labels: Value) {
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        let namespace: Namespace = serde_json::from_value(namespace).unwrap();
        let api = Api::all(self.client.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "shop")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    /// A pod on the node; its uid.
    pub(crate) async fn pod(&self, name: &str) -> String {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": "node-a",
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        let pod = self
            .pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap();
        pod.uid().unwrap()
    }

    /// As a user does.
    pub(crate) async fn write_annotation(&self, name: &str, value: Option<&str>) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REDIRECTION: value}}}));
        let params = PatchParams::default();
        self.pods().patch(name, &params, &patch).await.unwrap();
    }

    pub(crate) async fn label(&self, mode: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"labels": {"istio.io/dataplane-mode": mode}}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        api.patch("shop", &params, &patch).await.unwrap();
    }

    pub(crate) async fn annotation(&self, name: &str) -> Option<String> {
        annotation(&self.pods().get(name).await.unwrap())
    }

    pub(crate) async fn annotated(&self, name: &str, value: Option<&str>) {
        until(&format!("{name} is {value:?}"), async || {
            (self.annotation(name).await.as_deref() == value).then_some(())
        })
        .await;
    }

    /// Status and reason of the node's condition.
    pub(crate) async fn condition(&self) -> Option<(String, String)> {
        condition(&self.nodes().get("node-a").await.unwrap())
    }

    pub(crate) async fn conditioned(&self, status: &str, reason: &str) {
        let wanted = Some((status.to_owned(), reason.to_owned()));
        until(&format!("condition {wanted:?}"), async || {
            (self.condition().await == wanted).then_some(())
        })
        .await;
    }

    pub(crate) async fn taints(&self) -> Vec<String> {
        let spec = self.nodes().get("node-a").await.unwrap().spec;
        let taints = spec.and_then(|spec| spec.taints).unwrap_or_default();
        taints.into_iter().map(|taint| taint.key).collect()
    }
}

fn annotation(pod: &Pod) -> Option<String> {
    pod.annotations().get(REDIRECTION).cloned()
}

fn condition(node: &Node) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ours = conditions.iter().find(|c| c.type_ == "CaptureReady")?;
    Some((ours.status.clone(), ours.reason.clone().unwrap_or_default()))
}

/// A replica, following the API server and writing back.
pub(crate) struct Replica {
    pub(crate) fleet: Arc<Fleet>,
    stop: CancellationToken,
}

impl Replica {
    pub(crate) async fn start(world: &World) -> Self {
        let client = connect(Some(&world.server.kubeconfig())).await.unwrap();
        let rules = Rules::default();
        let source = Kubernetes::new(client.clone(), rules.relevant());
        let settings = Settings {
            namespace: OURS.into(),
            startup_taint: STARTUP_TAINT.into(),
            limits: Limits::default(),
        };
        let back = WriteBack::new(client, settings);
        let fleet = back.attach(Fleet::new(rules, RELEASE_AFTER));
        let stop = CancellationToken::new();
        back.start(Arc::clone(&fleet), &stop);
        run::follow(source, Arc::clone(&fleet), stop.clone());
        let replica = Self { fleet, stop };
        until("ready", async || replica.fleet.ready().ok()).await;
        replica
    }

    /// The agent of `node-a` comes here.
    pub(crate) async fn join(&self) -> Agent {
        let node = "node-a".into();
        let stream = until("served", async || {
            Some(self.fleet.join(&node, &Greeting::default()).ok()?.0)
        })
        .await;
        Agent {
            fleet: Arc::clone(&self.fleet),
            stream,
        }
    }

    /// It knows what is wanted of the pod.
    pub(crate) async fn knows(&self, uid: &str) {
        until("known", async || self.fleet.pod(uid)).await;
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An agent without a node: it says what a test wants it to.
pub(crate) struct Agent {
    fleet: Arc<Fleet>,
    pub(crate) stream: Arc<Stream>,
}

impl Agent {
    /// Of what is wanted now.
    pub(crate) fn report(&self, pods: &[(&str, PodState)], node: NodeCondition) {
        // Whatever waits is read.
        while self.stream.next(1000).is_some() {}
        let status = |(uid, state): &(&str, PodState)| PodStatus {
            uid: (*uid).into(),
            intent_hash: self
                .stream
                .said(uid)
                .map(|i| i.hash.to_string())
                .unwrap_or_default(),
            state: (*state).into(),
            steered: *state == PodState::Captured,
            message: "as the test says".into(),
            ..PodStatus::default()
        };
        let report = StatusReport {
            full: true,
            pods: pods.iter().map(status).collect(),
            node: Some(node),
        };
        let node = "node-a".into();
        self.fleet.report(&node, &self.stream, report).unwrap();
    }

    /// Is told to steer the pod, or not any more.
    pub(crate) async fn told(&self, uid: &str, steer: bool) {
        until("told", async || {
            self.stream.release();
            while self.stream.next(1000).is_some() {}
            let said = self.stream.said(uid)?;
            (said.wanted.is_steered() == steer).then_some(())
        })
        .await;
    }

    pub(crate) fn leave(self) {
        self.fleet.leave(&"node-a".into(), &self.stream);
    }
}

pub(crate) fn ready() -> NodeCondition {
    NodeCondition {
        capture_ready: true,
        ..NodeCondition::default()
    }
}

/// Status and reason.
type Condition = Option<(String, String)>;

/// Every value that the pod's annotation and the node's condition ever had.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) annotations: Arc<Mutex<Vec<Option<String>>>>,
    pub(crate) conditions: Arc<Mutex<Vec<Condition>>>,
}

impl History {
    pub(crate) async fn follow(world: &World, pod: &str) -> Self {
        let history = Self::default();
        let name = watcher::Config::default().fields(&format!("metadata.name={pod}"));
        let mut pods = watcher(world.pods(), name).boxed();
        let mut nodes = watcher(world.nodes(), watcher::Config::default()).boxed();
        let annotations = Arc::clone(&history.annotations);
        tokio::spawn(async move {
            // Ends with the API server.
            while let Some(Ok(event)) = pods.next().await {
                if let Event::InitApply(pod) | Event::Apply(pod) = event {
                    note(&annotations, annotation(&pod));
                }
            }
        });
        let conditions = Arc::clone(&history.conditions);
        tokio::spawn(async move {
            // Ends with the API server.
            while let Some(Ok(event)) = nodes.next().await {
                if let Event::InitApply(node) | Event::Apply(node) = event {
                    note(&conditions, condition(&node));
                }
            }
        });
        until("followed", async || {
            let begun = !history.annotations.lock().unwrap().is_empty();
            let both = begun && !history.conditions.lock().unwrap().is_empty();
            both.then_some(())
        })
        .await;
        history
    }
}

impl History {
    /// How often it was `disabled`.
    pub(crate) fn disabled(&self) -> usize {
        let values = self.annotations.lock().unwrap();
        let disabled = values.iter().flatten().filter(|value| *value == "disabled");
        disabled.count()
    }
}

fn note<T: PartialEq>(values: &Mutex<Vec<T>>, value: T) {
    let mut values = values.lock().unwrap();
    if values.last() != Some(&value) {
        values.push(value);
    }
}
