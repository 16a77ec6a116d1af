//! Whose token it is: what the API server says about it, judged. Pure.

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

/// The audience that tokens of agents are made for, and no other.
pub const AUDIENCE: &str = "sluice-controller";

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Whom certificates are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    pub namespace: String,
    pub service_account: String,
}

/// The holder of a good token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A pod on this node.
    OnNode(String),
    /// An API server that does not say on which node: look the pod up.
    Pod(PodRef),
}

/// A pod that a token is bound to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodRef {
    pub name: String,
    pub uid: String,
}

/// Why a token opens nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "the API server does not vouch for the token ({reason}); present a current one for \
         audience {AUDIENCE:?}, of a pod that still runs"
    )]
    NotAuthenticated { reason: String },
    #[error(
        "the token is for {found:?}, not for audience {AUDIENCE:?}; project one for that audience \
         into the agent's pod"
    )]
    Audience { found: Vec<String> },
    #[error(
        "the token is of {found:?}; certificates of nodes are for the agents' service account \
         {wanted:?} only (--agent-service-account, --pod-namespace)"
    )]
    Account { found: String, wanted: String },
    #[error(
        "the token is not bound to a pod; use the one that the kubelet projects into the agent's \
         pod"
    )]
    Unbound,
    #[error("the pod {pod:?} of the token is gone")]
    PodGone { pod: String },
    #[error("the pod {pod:?} of the token is not on a node yet")]
    NoNode { pod: String },
}

impl Refusal {
    /// Whether the caller is nobody, or somebody who may not.
    pub fn is_nobody(&self) -> bool {
        matches!(
            self,
            Self::NotAuthenticated { .. } | Self::Audience { .. } | Self::PodGone { .. }
        )
    }
}

/// Whose token it is, as far as the review tells.
pub fn judge(rules: &Rules, status: &TokenReviewStatus) -> Result<Holder, Refusal> {
    if status.authenticated != Some(true) {
        let reason = status.error.as_deref().unwrap_or("it gives no reason");
        return Err(Refusal::NotAuthenticated {
            reason: shortened(reason),
        });
    }
    // A server that knows nothing of audiences names none: the token is one
    // for the API server itself then, and whoever has it could be anybody.
    let audiences = status.audiences.clone().unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Audience { found: audiences });
    }
    let nobody = UserInfo::default();
    let user = status.user.as_ref().unwrap_or(&nobody);
    let found = user.username.as_deref().unwrap_or_default();
    let wanted = format!(
        "system:serviceaccount:{}:{}",
        rules.namespace, rules.service_account
    );
    if found != wanted {
        return Err(Refusal::Account {
            found: shortened(found),
            wanted,
        });
    }
    let extra = |key: &str| single(user, key);
    let (Some(name), Some(uid)) = (extra(POD_NAME), extra(POD_UID)) else {
        return Err(Refusal::Unbound);
    };
    Ok(match extra(NODE_NAME) {
        Some(node) => Holder::OnNode(node),
        None => Holder::Pod(PodRef { name, uid }),
    })
}

/// The only value; of two, neither can be told to be the one.
fn single(user: &UserInfo, key: &str) -> Option<String> {
    let values = user.extra.as_ref()?.get(key)?;
    match &values[..] {
        [value] if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

/// As much of somebody else's text as belongs into an error.
fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: &str = "system:serviceaccount:sluice-system:sluice-agent";

    fn rules() -> Rules {
        Rules {
            namespace: "sluice-system".into(),
            service_account: "sluice-agent".into(),
        }
    }

    fn review(change: impl FnOnce(&mut TokenReviewStatus)) -> Result<Holder, Refusal> {
        let extra = [
            (POD_NAME, "sluice-agent-x"),
            (POD_UID, "u1"),
            (NODE_NAME, "a"),
        ];
        let extra = extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
        let mut status = TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.into()]),
            error: None,
            user: Some(UserInfo {
                username: Some(AGENT.into()),
                extra: Some(extra.into()),
                ..UserInfo::default()
            }),
        };
        change(&mut status);
        judge(&rules(), &status)
    }

    fn extra(status: &mut TokenReviewStatus, key: &str, values: &[&str]) {
        let user = status.user.as_mut().unwrap();
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        user.extra.as_mut().unwrap().insert(key.into(), values);
    }

    #[test]
    fn an_agent_s_token_names_its_node() {
        assert_eq!(review(|_| {}), Ok(Holder::OnNode("a".into())));
    }

    #[test]
    fn without_the_node_the_pod_is_looked_up() {
        let pod = PodRef {
            name: "sluice-agent-x".into(),
            uid: "u1".into(),
        };
        for values in [&[][..], &[""], &["a", "b"]] {
            let holder = review(|status| extra(status, NODE_NAME, values));
            assert_eq!(holder, Ok(Holder::Pod(pod.clone())), "{values:?}");
        }
    }

    #[test]
    fn every_other_token_is_refused() {
        let refused = |change: fn(&mut TokenReviewStatus)| review(change).unwrap_err();
        for authenticated in [Some(false), None] {
            let refusal = review(|status| {
                status.authenticated = authenticated;
                status.error = Some("token has expired".into());
            });
            let reason = "token has expired".into();
            assert_eq!(refusal, Err(Refusal::NotAuthenticated { reason }));
        }
        for audiences in [None, Some(vec![]), Some(vec!["https://kubernetes".into()])] {
            let found = audiences.clone().unwrap_or_default();
            let refusal = review(|status| status.audiences = audiences);
            assert_eq!(refusal, Err(Refusal::Audience { found }));
        }
        for name in [
            "system:serviceaccount:default:sluice-agent",
            "system:serviceaccount:sluice-system:default",
            "sluice-agent",
            "",
        ] {
            let refusal = review(|status| {
                status.user.as_mut().unwrap().username = Some(name.into());
            });
            assert!(matches!(refusal, Err(Refusal::Account { .. })), "{name}");
        }
        assert!(matches!(
            refused(|status| status.user = None),
            Refusal::Account { .. }
        ));
        assert_eq!(
            refused(|status| extra(status, POD_UID, &[])),
            Refusal::Unbound
        );
        assert_eq!(
            refused(|status| extra(status, POD_NAME, &["x", "y"])),
            Refusal::Unbound
        );
        assert_eq!(
            refused(|status| status.user.as_mut().unwrap().extra = None),
            Refusal::Unbound
        );
    }

    #[test]
    fn a_long_reason_is_cut() {
        let refusal = review(|status| {
            status.authenticated = None;
            status.error = Some("x".repeat(100_000));
        });
        assert!(refusal.unwrap_err().to_string().len() < 1000);
    }
}
