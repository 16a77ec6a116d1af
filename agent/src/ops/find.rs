//! Which pod somebody means. Pure.

use sluice_kernel::model::PodUid;

use crate::status::NodeStatus;

/// Why a pod was not found.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum FindError {
    #[error(
        "no pod {asked:?} is known on this node; list those that are with `sluice-agent status`"
    )]
    Unknown { asked: String },
    #[error("{asked:?} is the name of {count} pods; give namespace/name or the uid")]
    Ambiguous { asked: String, count: usize },
}

/// The pod of this uid, `namespace/name`, or name if only one pod has it.
pub fn find(status: &NodeStatus, asked: &str) -> Result<PodUid, FindError> {
    let shown = || asked.chars().take(300).collect();
    let by_uid = PodUid::new(asked).filter(|uid| status.pods.contains_key(uid));
    if let Some(uid) = by_uid {
        return Ok(uid);
    }
    let named = |(_, pod): &(&PodUid, &crate::status::PodStatus)| match asked.split_once('/') {
        Some((namespace, name)) => pod.namespace == namespace && pod.name == name,
        None => pod.name == asked,
    };
    let found: Vec<_> = status
        .pods
        .iter()
        .filter(named)
        .map(|(uid, _)| uid)
        .collect();
    match found.as_slice() {
        [uid] => Ok(PodUid::clone(uid)),
        [] => Err(FindError::Unknown { asked: shown() }),
        several => Err(FindError::Ambiguous {
            asked: shown(),
            count: several.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::view::samples;

    #[test]
    fn by_uid_full_name_or_unique_name() {
        let status = samples::node();
        let found = |asked: &str| find(&status, asked).map(|uid| uid.to_string());
        assert_eq!(found("u-web"), Ok("u-web".into()));
        assert_eq!(found("default/web"), Ok("u-web".into()));
        assert_eq!(found("db"), Ok("u-db".into()));
        insta::assert_snapshot!(found("web").unwrap_err(), @r#""web" is the name of 2 pods; give namespace/name or the uid"#);
        insta::assert_snapshot!(found("").unwrap_err(), @r#"no pod "" is known on this node; list those that are with `sluice-agent status`"#);
        assert!(found("other/db").is_err());
    }
}
