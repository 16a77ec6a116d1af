//! The ValidatingAdmissionPolicy of the manifests: who may call a pod captured.

use std::{fs, path::Path};

use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::replica::{REDIRECTION, World, until};

fn documents(kind: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/manifests/sluice.yaml");
    let text = fs::read_to_string(path).unwrap();
    let found = text
        .split("\n---\n")
        .find(|document| document.lines().any(|line| line == format!("kind: {kind}")));
    serde_saphyr::from_str(found.expect(kind)).unwrap()
}

async fn write(client: &Client, status: bool, value: Option<&str>) -> Result<Pod, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "shop");
    let patch = Patch::Merge(json!({"metadata": {"annotations": {REDIRECTION: value}}}));
    let params = PatchParams::default();
    if status {
        pods.patch_status("web", &params, &patch).await
    } else {
        pods.patch("web", &params, &patch).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_calls_a_pod_captured() {
    let world = World::start().await;
    world.pod("web").await;
    let client = &world.client;
    let policy: ValidatingAdmissionPolicy =
        serde_json::from_value(documents("ValidatingAdmissionPolicy")).unwrap();
    let binding: ValidatingAdmissionPolicyBinding =
        serde_json::from_value(documents("ValidatingAdmissionPolicyBinding")).unwrap();
    // What is there before stays, and may be written around.
    write(client, false, Some("enabled")).await.unwrap();
    let params = PostParams::default();
    Api::all(client.clone())
        .create(&params, &policy)
        .await
        .unwrap();
    Api::all(client.clone())
        .create(&params, &binding)
        .await
        .unwrap();
    until("in force", async || {
        // Until then both are taken; an unchanged one always is.
        let pending = write(client, false, Some("pending")).await;
        let enabled = write(client, false, Some("enabled")).await;
        pending.err().or(enabled.err())
    })
    .await;
    let status = Patch::Merge(json!({"status": {"phase": "Running"}}));
    let params = PatchParams::default();
    world
        .pods()
        .patch_status("web", &params, &status)
        .await
        .unwrap();
    for status in [false, true] {
        write(client, status, Some("disabled")).await.unwrap();
        write(client, status, None).await.unwrap();
        for word in ["enabled", "pending"] {
            let refused = write(client, status, Some(word)).await.unwrap_err();
            assert!(refused.to_string().contains("only Sluice"), "{refused}");
        }
    }
    let pod = json!({
        "metadata": {"name": "made", "annotations": {REDIRECTION: "enabled"}},
        "spec": {"automountServiceAccountToken": false,
                 "containers": [{"name": "c", "image": "none"}]},
    });
    let pod = serde_json::from_value(pod).unwrap();
    let made = world.pods().create(&PostParams::default(), &pod).await;
    assert!(made.unwrap_err().to_string().contains("only Sluice"));
}
