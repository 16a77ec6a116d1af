//! Objects in the API server, made as users make them.

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sluice_controller::source::kubernetes::connect;
use sluice_tests::apiserver::ApiServer;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

#[derive(Clone)]
pub(crate) struct Objects(Client);

impl Objects {
    pub(crate) async fn of(server: &ApiServer) -> Self {
        Self(connect(Some(&server.kubeconfig())).await.unwrap())
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name}});
        let namespace = serde_json::from_value(namespace).unwrap();
        let api: Api<Namespace> = Api::all(self.0.clone());
        api.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    pub(crate) async fn label_namespace(&self, name: &str, mode: Value) {
        let patch = json!({"metadata": {"labels": {"istio.io/dataplane-mode": mode}}});
        let api: Api<Namespace> = Api::all(self.0.clone());
        let patch = Patch::Merge(patch);
        api.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn pod(&self, namespace: &str, name: &str) {
        self.pod_with(namespace, name, json!({})).await;
    }

    pub(crate) async fn pod_with(&self, namespace: &str, name: &str, annotations: Value) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": name}, "annotations": annotations},
            "spec": {
                "nodeName": "node-a",
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let pod = serde_json::from_value(pod).unwrap();
        let pods = self.pods(namespace);
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }

    pub(crate) async fn many_pods(&self, namespace: &str, count: usize) {
        let pods = (0..count).map(|n| async move {
            self.pod(namespace, &format!("p{n}")).await;
        });
        stream::iter(pods)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    pub(crate) async fn patch_pod(&self, namespace: &str, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        let pods = self.pods(namespace);
        pods.patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn status(&self, namespace: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let pods = self.pods(namespace);
        let done = pods
            .patch_status(name, &PatchParams::default(), &patch)
            .await;
        done.unwrap();
    }

    pub(crate) async fn delete(&self, namespace: &str, name: &str) {
        let now = DeleteParams::default().grace_period(0);
        self.pods(namespace).delete(name, &now).await.unwrap();
    }

    /// It stays for as long as nobody confirms its end.
    pub(crate) async fn terminate(&self, namespace: &str, name: &str) {
        let gracefully = DeleteParams::default();
        self.pods(namespace)
            .delete(name, &gracefully)
            .await
            .unwrap();
    }

    /// The resource version of now.
    pub(crate) async fn version(&self) -> u64 {
        let list = self
            .pods("default")
            .list(&ListParams::default())
            .await
            .unwrap();
        list.metadata.resource_version.unwrap().parse().unwrap()
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.0.clone(), namespace)
    }
}
