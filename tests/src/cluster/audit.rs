//! What the product asked of the API server, as the API server itself tells it:
//! complete, in order, with what came of each write, through its own restarts.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{Cluster, files, sluice, stand_in::REDIRECTION};

/// Reviews show tokens, and Secrets keys.
const UNREAD: [&str; 3] = ["tokenreviews", "secrets", "configmaps"];

/// Writes the policy; the flags by which an API server follows it.
pub(super) fn flags(dir: &Path) -> [(&'static str, String); 3] {
    let policy = dir.join("audit-policy.json");
    files::write_json(&policy, &self::policy());
    [
        ("--audit-policy-file", policy.display().to_string()),
        ("--audit-log-path", log(dir).display().to_string()),
        // In megabytes: never turned over.
        ("--audit-log-maxsize", "100000".into()),
    ]
}

fn log(dir: &Path) -> PathBuf {
    dir.join("log/audit.log")
}

/// Everything of the product's accounts, writes with what they say.
fn policy() -> Value {
    let ours = json!([format!("system:serviceaccounts:{}", sluice::NAMESPACE)]);
    let writes = json!(["create", "update", "patch", "delete"]);
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "omitManagedFields": true,
        "rules": [
            {"level": "Metadata", "userGroups": ours, "resources": [
                {"group": "", "resources": &UNREAD[1..]},
                {"group": "authentication.k8s.io", "resources": &UNREAD[..1]},
            ]},
            {"level": "RequestResponse", "userGroups": ours, "verbs": writes},
            {"level": "Metadata", "userGroups": ours},
            {"level": "None"},
        ],
    })
}

/// A request of one of the product's accounts.
#[derive(Clone, Debug)]
pub struct Request {
    pub user: String,
    /// The pod that asked.
    pub pod: String,
    pub verb: String,
    /// With its subresource: `pods/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub code: u64,
    /// What the API server answered to a write.
    pub response: Value,
}

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

impl Cluster {
    /// Now.
    pub fn audit_mark(&self) -> Mark {
        let size = fs::metadata(log(self.dir())).map(|file| file.len());
        Mark(size.unwrap_or_default())
    }

    /// Requests that were answered since, oldest first.
    pub fn audited(&self, since: Mark) -> Vec<Request> {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(log(self.dir())) {
            file.seek(SeekFrom::Start(since.0)).expect("seek in a file");
            file.read_to_string(&mut text).expect("read the audit log");
        }
        // The last line may be on its way.
        text.lines().filter_map(Request::parse).collect()
    }
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let subresource = text(&object["subresource"]);
        let mut resource = text(&object["resource"]);
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        Some(Self {
            user: text(&event["user"]["username"]),
            pod: text(&event["user"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            verb: text(&event["verb"]),
            resource,
            namespace: text(&object["namespace"]),
            name: text(&object["name"]),
            code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            response: event["responseObject"].clone(),
        })
    }

    /// Whether it has changed or made something.
    pub fn is_write(&self) -> bool {
        let writes = ["create", "update", "patch", "delete"];
        writes.contains(&self.verb.as_str()) && self.code < 300 && !self.is_review()
    }

    fn is_review(&self) -> bool {
        self.resource == UNREAD[0]
    }

    /// The annotation of the pod that a write left.
    pub fn redirection(&self) -> Option<&str> {
        self.response["metadata"]["annotations"][REDIRECTION].as_str()
    }

    /// The status of our condition that a write to a node left.
    pub fn capture_ready(&self) -> Option<&str> {
        let conditions = self.response["status"]["conditions"].as_array()?;
        let ours = conditions
            .iter()
            .find(|one| one["type"] == sluice::CONDITION)?;
        ours["status"].as_str()
    }

    /// One line, for messages.
    pub fn line(&self) -> String {
        let Self {
            pod,
            verb,
            resource,
            namespace,
            name,
            code,
            ..
        } = self;
        let left = self
            .redirection()
            .or(self.capture_ready())
            .unwrap_or_default();
        format!("{pod} {verb} {resource} {namespace}/{name} {code} {left}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log() {
        let line = json!({
            "verb": "patch",
            "user": {
                "username": "system:serviceaccount:sluice-system:sluice-controller",
                "extra": {"authentication.kubernetes.io/pod-name": ["c-1"]},
            },
            "objectRef": {
                "resource": "pods", "subresource": "status", "namespace": "shop", "name": "a",
            },
            "responseStatus": {"code": 200},
            "responseObject": {"metadata": {"annotations": {REDIRECTION: "enabled"}}},
        });
        let request = Request::parse(&line.to_string()).unwrap();
        assert!(request.is_write());
        assert_eq!(request.line(), "c-1 patch pods/status shop/a 200 enabled");
        assert!(Request::parse("{\"verb\": \"pa").is_none());
    }
}
