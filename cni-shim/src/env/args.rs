//! `CNI_ARGS`: which pod a sandbox belongs to.

use std::collections::BTreeSet;

/// From `K8S_POD_*`; empty for a sandbox that is no Kubernetes pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Pod {
    /// No Kubernetes pod at all.
    pub(crate) fn is_none(&self) -> bool {
        self.uid.is_empty() && self.namespace.is_empty() && self.name.is_empty()
    }

    /// `KEY=VALUE;KEY=VALUE`. Unknown keys need `IgnoreUnknown=1`, as with every
    /// other plugin; a key that is given twice is an error, because two plugins
    /// might take different ones.
    pub(crate) fn parse(arguments: &str) -> Result<Self, String> {
        let mut pod = Self::default();
        let mut ignore_unknown = false;
        let mut known = BTreeSet::new();
        let mut unknown = Vec::new();
        for pair in arguments.split(';').filter(|_| !arguments.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("has {pair:?}, which is not KEY=VALUE"))?;
            match key {
                "K8S_POD_UID" => value.clone_into(&mut pod.uid),
                "K8S_POD_NAMESPACE" => value.clone_into(&mut pod.namespace),
                "K8S_POD_NAME" => value.clone_into(&mut pod.name),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IgnoreUnknown" => ignore_unknown = boolean(value)?,
                _ => {
                    unknown.push(key);
                    continue;
                }
            }
            if !known.insert(key) {
                return Err(format!("has {key} more than once"));
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            unknown.truncate(8);
            return Err(format!(
                "has unknown keys, and IgnoreUnknown=1 is not set: {unknown:?}"
            ));
        }
        Ok(pod)
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(format!(
            "has IgnoreUnknown={value:?}, which is neither 1 nor 0"
        )),
    }
}
