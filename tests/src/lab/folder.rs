//! The folder of YAML that the controller watches.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Label that enrols a namespace or a pod.
pub const MODE: &str = "istio.io/dataplane-mode";

/// A folder of ordinary Kubernetes YAML, a file per object.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What a pod's YAML says.
#[derive(Clone, Debug)]
pub struct PodDocument {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub node: String,
    pub labels: Vec<(String, String)>,
    pub annotations: Vec<(String, String)>,
    pub service_account: String,
    pub host_network: bool,
    pub host_ports: Vec<u16>,
    pub addresses: Vec<IpAddr>,
}

impl Folder {
    pub fn create(path: &Path) -> Self {
        fs::create_dir_all(path).expect("make the folder of YAML");
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a namespace, enrolled or not.
    pub fn namespace(&self, name: &str, enrolled: bool) {
        let labels = if enrolled {
            json!({ (MODE): "ambient" })
        } else {
            json!({})
        };
        let document = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        });
        self.write(&format!("namespace-{name}.yaml"), &yaml(&document, 0));
    }

    pub fn pod(&self, pod: &PodDocument) {
        self.write(&file_of(pod), &yaml(&pod.document(), 0));
    }

    pub fn remove_pod(&self, pod: &PodDocument) {
        // Removing what is not there is as good.
        let _ = fs::remove_file(self.path.join(file_of(pod)));
    }

    /// Replaces a file as an editor does.
    pub fn write(&self, name: &str, text: &str) {
        let temporary = self.path.join(format!(".{name}.tmp"));
        fs::write(&temporary, text).expect("write YAML");
        fs::rename(&temporary, self.path.join(name)).expect("rename YAML");
    }
}

fn file_of(pod: &PodDocument) -> String {
    format!("pod-{}-{}.yaml", pod.namespace, pod.name)
}

impl PodDocument {
    fn document(&self) -> Value {
        let map = |pairs: &[(String, String)]| -> Value {
            pairs
                .iter()
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let ports: Vec<Value> = self
            .host_ports
            .iter()
            .map(|port| json!({ "containerPort": 8080, "hostPort": port }))
            .collect();
        let addresses: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| json!({ "ip": address.to_string() }))
            .collect();
        let mut status = json!({ "phase": "Running", "podIPs": addresses });
        if let Some(first) = self.addresses.first() {
            status["podIP"] = json!(first.to_string());
        }
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "labels": map(&self.labels),
                "annotations": map(&self.annotations),
            },
            "spec": {
                "nodeName": self.node,
                "serviceAccountName": self.service_account,
                "hostNetwork": self.host_network,
                "containers": [{ "name": "app", "image": "app", "ports": ports }],
            },
            "status": status,
        })
    }
}

/// A value as block-style YAML, as people write it.
fn yaml(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    format!("{pad}{key}:\n{}", yaml(value, indent + 2))
                }
                Value::Array(inner) if !inner.is_empty() => {
                    format!("{pad}{key}:\n{}", yaml(value, indent))
                }
                _ => format!("{pad}{key}: {value}\n"),
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| {
                let text = yaml(item, indent + 2);
                format!("{pad}- {}", text.trim_start())
            })
            .collect(),
        other => format!("{pad}{other}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_is_what_people_write() {
        let document = json!({
            "kind": "Pod",
            "metadata": { "labels": { (MODE): "ambient" }, "annotations": {} },
            "status": { "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }] },
        });
        assert_eq!(
            yaml(&document, 0),
            "\
kind: \"Pod\"
metadata:
  annotations: {}
  labels:
    istio.io/dataplane-mode: \"ambient\"
status:
  podIPs:
  - ip: \"10.0.0.1\"
  - ip: \"fd00::1\"
"
        );
    }
}
