//! The API server itself.
//!
//! Annotations go through `pods/status` and conditions through `nodes/status`:
//! neither lets us change what a pod runs or where.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::{
    core::v1::{Node, Pod},
    events::v1::Event as KubeEvent,
};
use kube::{
    Api as Objects, Client, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    api::{Api, ApiError, NodeWrite, PodRef},
    events::{About, Event},
    names::{ANNOTATION_ENABLED, CLAIM, CONDITION, FIELD_MANAGER},
    seen::{Condition, SeenNode, SeenPod, Ternary},
};
use crate::select::REDIRECTION;

/// A request that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// The annotation, as a path in a JSON patch.
const PATH: &str = "/metadata/annotations/ambient.istio.io~1redirection";

/// Writes by a client.
#[derive(Clone)]
pub struct KubeApi {
    client: Client,
    startup_taint: String,
    instance: String,
}

impl std::fmt::Debug for KubeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeApi").finish_non_exhaustive()
    }
}

impl KubeApi {
    /// `instance` is who reports events; an empty taint is none.
    pub fn new(client: Client, startup_taint: &str, instance: &str) -> Self {
        Self {
            client,
            startup_taint: startup_taint.to_owned(),
            instance: instance.to_owned(),
        }
    }

    fn pods(&self, namespace: &str) -> Objects<Pod> {
        Objects::namespaced(self.client.clone(), namespace)
    }

    fn nodes(&self) -> Objects<Node> {
        Objects::all(self.client.clone())
    }

    async fn apply_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
        force: bool,
        value: Option<&str>,
    ) -> Result<SeenPod, ApiError> {
        let mut metadata = json!({ "name": pod.name, "uid": pod.uid });
        if let Some(value) = value {
            metadata["annotations"] = json!({ (REDIRECTION): value });
        }
        guard(&mut metadata, revision);
        let patch = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
        let patch = Patch::Apply(patch);
        self.patch_pod(pod, &params(force), &patch).await
    }

    async fn patch_pod<P: Serialize + std::fmt::Debug>(
        &self,
        pod: &PodRef,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<SeenPod, ApiError> {
        let pods = self.pods(&pod.namespace);
        let patching = pods.patch_status(&pod.name, params, patch);
        let patched = bounded("annotate", pod_name(pod), patching).await?;
        Ok(seen_pod(&patched))
    }

    async fn untaint(&self, name: &str, node: &Node) -> Result<Node, ApiError> {
        let spec = serde_json::to_value(&node.spec).unwrap_or_default();
        let taints = spec["taints"].as_array().cloned().unwrap_or_default();
        let others = taints.iter().filter(|t| t["key"] != *self.startup_taint);
        let others: Vec<Value> = others.cloned().collect();
        // Only over the very taints that were read: nobody else's gets lost.
        let patch = json_patch(json!([
            { "op": "test", "path": "/metadata/uid", "value": node.uid() },
            { "op": "test", "path": "/spec/taints", "value": taints },
            { "op": "replace", "path": "/spec/taints", "value": others },
        ]))?;
        let what = node_name(name);
        bounded(
            "take the start-up taint off",
            what,
            self.nodes().patch(name, &params(false), &patch),
        )
        .await
    }
}

impl Api for KubeApi {
    async fn pod(&self, pod: &PodRef) -> Result<Option<SeenPod>, ApiError> {
        let found = self.pods(&pod.namespace);
        let found = found.get_metadata_opt(&pod.name);
        let found = bounded("read", pod_name(pod), found).await?;
        let same = found.filter(|found| found.metadata.uid.as_deref() == Some(&pod.uid));
        Ok(same.map(|found| seen_pod(&found)))
    }

    async fn annotate(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
        force: bool,
    ) -> Result<SeenPod, ApiError> {
        let value = Some(ANNOTATION_ENABLED);
        self.apply_annotation(pod, revision, force, value).await
    }

    async fn remove_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> Result<SeenPod, ApiError> {
        let mut steps = vec![
            json!({ "op": "test", "path": "/metadata/uid", "value": pod.uid }),
            json!({ "op": "test", "path": PATH, "value": ANNOTATION_ENABLED }),
            json!({ "op": "remove", "path": PATH }),
        ];
        if let Some(revision) = revision {
            let value = revision.to_string();
            steps.insert(
                0,
                json!({ "op": "test", "path": "/metadata/resourceVersion", "value": value }),
            );
        }
        let patch = json_patch(Value::Array(steps))?;
        self.patch_pod(pod, &params(false), &patch).await
    }

    async fn remove_own_annotation(
        &self,
        pod: &PodRef,
        revision: Option<u64>,
    ) -> Result<SeenPod, ApiError> {
        self.apply_annotation(pod, revision, true, None).await
    }

    async fn node(&self, name: &str) -> Result<Option<SeenNode>, ApiError> {
        let nodes = self.nodes();
        let found = bounded("read", node_name(name), nodes.get_opt(name)).await?;
        Ok(found.map(|node| seen_node(&node, &self.startup_taint)))
    }

    async fn set_condition(&self, name: &str, write: &NodeWrite) -> Result<SeenNode, ApiError> {
        let Condition {
            status,
            reason,
            message,
            last_transition,
        } = &write.condition;
        let mut metadata = json!({ "name": name });
        if let Some(claim) = &write.claim {
            metadata["annotations"] = json!({ (CLAIM): claim });
        }
        guard(&mut metadata, write.revision);
        let patch = Patch::Apply(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "status": { "conditions": [{
                "type": CONDITION,
                "status": status.word(),
                "reason": reason,
                "message": message,
                "lastTransitionTime": last_transition,
                "lastHeartbeatTime": now(),
            }] },
        }));
        let nodes = self.nodes();
        let (params, verb) = (params(true), "write the condition of");
        let patching = nodes.patch_status(name, &params, &patch);
        let node = bounded(verb, node_name(name), patching).await?;
        Ok(seen_node(&node, &self.startup_taint))
    }

    async fn remove_taint(&self, name: &str) -> Result<SeenNode, ApiError> {
        let nodes = self.nodes();
        let node = bounded("read", node_name(name), nodes.get(name)).await?;
        let seen = seen_node(&node, &self.startup_taint);
        if !seen.tainted {
            return Ok(seen);
        }
        let node = self.untaint(name, &node).await?;
        Ok(seen_node(&node, &self.startup_taint))
    }

    async fn event(&self, event: &Event) -> Result<(), ApiError> {
        let (namespace, regarding) = match &event.about {
            About::Pod(pod) => (
                pod.namespace.as_str(),
                json!({ "apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid,
                        "namespace": pod.namespace }),
            ),
            About::Node { name, uid } => (
                "default",
                json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid }),
            ),
        };
        let what = format!("event {} in {namespace}", event.name());
        let body = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": { "name": event.name(), "namespace": namespace },
            "eventTime": micro_time(event.when),
            "type": if event.warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "action": "Capture",
            "note": event.note,
            "regarding": regarding,
            "reportingController": "sluice.dev/controller",
            "reportingInstance": self.instance,
        });
        let body: KubeEvent =
            serde_json::from_value(body).map_err(|error| unusable(&what, &error))?;
        let events: Objects<KubeEvent> = Objects::namespaced(self.client.clone(), namespace);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        match bounded("create", what, events.create(&params, &body)).await {
            // Told already, by another replica or before a restart.
            Ok(_) | Err(ApiError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A node, trimmed.
pub(super) fn seen_node(node: &Node, startup_taint: &str) -> SeenNode {
    let conditions = node
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut ours = conditions.filter(|condition| condition.type_ == CONDITION);
    let condition = ours.next().map(|condition| Condition {
        status: Ternary::parse(&condition.status),
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        last_transition: condition
            .last_transition_time
            .as_ref()
            .map(|time| time.0.to_string())
            .unwrap_or_default(),
    });
    let mut taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    SeenNode {
        uid: node.uid().unwrap_or_default(),
        revision: revision(node),
        condition,
        claim: node.annotations().get(CLAIM).cloned(),
        tainted: !startup_taint.is_empty() && taints.any(|taint| taint.key == startup_taint),
    }
}

fn seen_pod(pod: &impl Resource) -> SeenPod {
    SeenPod {
        revision: revision(pod),
        annotation: pod.annotations().get(REDIRECTION).cloned(),
    }
}

fn revision(object: &impl Resource) -> u64 {
    let version = object.resource_version();
    version.and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// RFC 3339 and whole seconds, as the API server keeps it.
pub(crate) fn now() -> String {
    let mut now = prost_types::Timestamp::from(SystemTime::now());
    now.nanos = 0;
    now.to_string()
}

pub(super) fn micro_time(when: SystemTime) -> String {
    let mut when = prost_types::Timestamp::from(when);
    let micros = when.nanos / 1000;
    when.nanos = 0;
    let seconds = when.to_string();
    format!("{}.{micros:06}Z", seconds.trim_end_matches('Z'))
}

fn guard(metadata: &mut Value, revision: Option<u64>) {
    if let Some(revision) = revision {
        metadata["resourceVersion"] = revision.to_string().into();
    }
}

fn params(force: bool) -> PatchParams {
    PatchParams {
        force,
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

fn json_patch(steps: Value) -> Result<Patch<()>, ApiError> {
    let steps = serde_json::from_value(steps).map_err(|error| unusable("a patch", &error))?;
    Ok(Patch::Json(steps))
}

fn unusable(what: &str, error: &serde_json::Error) -> ApiError {
    ApiError::Refused {
        verb: "write",
        what: what.to_owned(),
        why: error.to_string(),
    }
}

fn pod_name(pod: &PodRef) -> String {
    format!("pod {}/{}", pod.namespace, pod.name)
}

fn node_name(name: &str) -> String {
    format!("node {name}")
}

async fn bounded<T: DeserializeOwned>(
    verb: &'static str,
    what: String,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(sorted(verb, what, error)),
        Err(elapsed) => Err(ApiError::Unreachable {
            verb,
            what,
            source: elapsed.into(),
        }),
    }
}

// A test of a JSON patch that fails is answered with 422, and so is a uid that
// is not the object's: both say that it is another than the one we saw.
fn sorted(verb: &'static str, what: String, error: kube::Error) -> ApiError {
    match &error {
        kube::Error::Api(status) => match status.code {
            404 => ApiError::Gone { what },
            409 | 422 => ApiError::Conflict { what },
            400 | 401 | 403 | 405 | 413 | 415 => ApiError::Refused {
                verb,
                what,
                why: status.message.clone(),
            },
            _ => ApiError::Unreachable {
                verb,
                what,
                source: error.into(),
            },
        },
        _ => ApiError::Unreachable {
            verb,
            what,
            source: error.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::micro_time;

    #[test]
    fn micro_times_have_six_digits() {
        let at = |nanos| micro_time(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, nanos));
        assert_eq!(at(0), "2023-11-14T22:13:20.000000Z");
        assert_eq!(at(1_234_567), "2023-11-14T22:13:20.001234Z");
    }
}
