//! Pods that do nothing, made and watched with as little between as can be.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

use crate::cluster::{Cluster, image, stand_in::REDIRECTION};

/// The longest that all of a step may take.
const LIMIT: Duration = Duration::from_secs(600);
/// Requests on their way at the same time.
pub(super) const AT_ONCE: usize = 8;
const LOOK: Duration = Duration::from_millis(100);

/// A pod that sleeps, on one of the nodes.
pub(super) fn pod(name: &str, node: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "sleep",
                "image": image::PAUSE,
                "imagePullPolicy": "Never",
            }],
        },
    });
    serde_json::from_value(pod).expect("a pod")
}

pub(super) async fn api(cluster: &Cluster, namespace: &str) -> Api<Pod> {
    Api::namespaced(cluster.client().await, namespace)
}

pub(super) async fn create(pods: &Api<Pod>, wanted: &[Pod]) {
    let params = PostParams::default();
    let created = stream::iter(wanted)
        .map(|pod| pods.create(&params, pod))
        .buffer_unordered(AT_ONCE);
    let created: Result<Vec<Pod>, kube::Error> = created.try_collect().await;
    created.expect("create pods");
}

/// Deletes pods, and waits until none of them is left.
pub(super) async fn delete(pods: &Api<Pod>, names: &[String]) {
    let params = DeleteParams::default();
    for name in names {
        pods.delete(name, &params).await.expect("delete a pod");
    }
    loop {
        let list = pods.list_metadata(&ListParams::default()).await;
        let list = list.expect("list pods");
        if !list.iter().any(|pod| names.contains(&pod.name_any())) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Seconds from `start` until each of the pods is as wanted, as a watch tells it.
pub(super) async fn until(
    pods: &Api<Pod>,
    names: &[String],
    start: Instant,
    is: impl Fn(&Pod) -> bool,
) -> Vec<f64> {
    let mut seconds: HashMap<String, f64> = HashMap::new();
    let mut look = |pod: &Pod| {
        let name = pod.name_any();
        if names.contains(&name) && is(pod) {
            let passed = start.elapsed().as_secs_f64();
            seconds.entry(name).or_insert(passed);
        }
        seconds.len() == names.len()
    };
    let watching = async {
        // Again when the API server ends a watch.
        loop {
            let list = pods.list(&ListParams::default()).await.expect("a list");
            let version = list.metadata.resource_version.unwrap_or_default();
            if list.items.iter().any(&mut look) {
                return;
            }
            let events = pods.watch(&WatchParams::default(), &version).await;
            let mut events = events.expect("a watch").boxed();
            while let Some(event) = events.next().await {
                match event.expect("an event") {
                    WatchEvent::Added(pod) | WatchEvent::Modified(pod) if look(&pod) => {
                        return;
                    }
                    WatchEvent::Error(error) => panic!("the watch of pods: {error:?}"),
                    _ => {}
                }
            }
        }
    };
    let ended = tokio::time::timeout(LIMIT, watching).await;
    assert!(
        ended.is_ok(),
        "{} of {} after {LIMIT:?}",
        seconds.len(),
        names.len()
    );
    seconds.into_values().collect()
}

/// Its containers run, as kubelet says.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|one| one.type_ == "Ready");
    ready.any(|one| one.status == "True")
}

/// It is called captured.
pub(super) fn is_captured(pod: &Pod) -> bool {
    pod.annotations()
        .get(REDIRECTION)
        .is_some_and(|value| value == "enabled")
}
