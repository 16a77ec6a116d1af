//! Looking at objects of the API server without a program for each look: tests look
//! often.

use std::{path::Path, sync::LazyLock, time::Duration};

use serde_json::Value;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(30);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime for clients of API servers")
});

/// What `kubectl get -o json ARGS…` would say, as administrator.
pub(super) fn get(kubeconfig: &Path, args: &[&str]) -> Result<Value, String> {
    let text = ask(kubeconfig, &path(args))?;
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// What a pod has said.
pub(super) fn log(kubeconfig: &Path, namespace: &str, pod: &str) -> Result<String, String> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/log");
    ask(kubeconfig, &path)
}

fn ask(kubeconfig: &Path, path: &str) -> Result<String, String> {
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(|error| format!("{path}: {error}"))?;
    RUNTIME.block_on(async {
        // A new one each time: servers come and go.
        let client = super::client_of(kubeconfig).await;
        let answer = timeout(LIMIT, client.request_text(request)).await;
        let answer = answer.map_err(|_| format!("get {path}: no answer in {LIMIT:?}"))?;
        answer.map_err(|error| format!("get {path}: {error}"))
    })
}

/// Kinds that have no namespace: one that is given means nothing.
const OF_THE_CLUSTER: [&str; 5] = [
    "nodes",
    "namespaces",
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
];

/// Where objects are: `KIND [NAME]` or `KIND/NAME`, with `-n NAMESPACE` or `-A`,
/// `-l LABELS` and `--field-selector=FIELDS`.
fn path(args: &[&str]) -> String {
    let (mut namespace, mut query, mut words) = (None, String::new(), Vec::new());
    let mut rest = args.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "-n" => namespace = rest.next(),
            "-l" => query = format!("?labelSelector={}", rest.next().unwrap_or_default()),
            "-A" => {}
            word => match word.strip_prefix("--field-selector=") {
                Some(fields) => query = format!("?fieldSelector={fields}"),
                None => words.extend(word.split('/')),
            },
        }
    }
    let kind = words.first().copied().unwrap_or_default();
    let kind = format!("{}s", kind.trim_end_matches('s'));
    let group = match kind.as_str() {
        "deployments" | "daemonsets" => "apis/apps/v1",
        "clusterroles" | "clusterrolebindings" => "apis/rbac.authorization.k8s.io/v1",
        "validatingadmissionpolicies" => "apis/admissionregistration.k8s.io/v1",
        _ => "api/v1",
    };
    let namespace = namespace.filter(|_| !OF_THE_CLUSTER.contains(&kind.as_str()));
    let namespace = namespace.map(|name| format!("/namespaces/{name}"));
    let name = words.get(1).map(|name| format!("/{name}"));
    let [namespace, name] = [namespace, name].map(Option::unwrap_or_default);
    format!("/{group}{namespace}/{kind}{name}{query}")
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn objects_are_where_kubectl_finds_them() {
        for (args, wanted) in [
            (&["node", "na"][..], "/api/v1/nodes/na"),
            (&["nodes"], "/api/v1/nodes"),
            (&["pods", "-A"], "/api/v1/pods"),
            (
                &["-n", "shop", "pod", "b1"],
                "/api/v1/namespaces/shop/pods/b1",
            ),
            (
                &["-n", "shop", "pods", "-l", "app=web"],
                "/api/v1/namespaces/shop/pods?labelSelector=app=web",
            ),
            (
                &["-n", "x", "daemonset/agent"],
                "/apis/apps/v1/namespaces/x/daemonsets/agent",
            ),
            (
                &["clusterroles"],
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            ),
        ] {
            assert_eq!(path(args), wanted);
        }
    }
}
