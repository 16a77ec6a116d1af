//! Asking the API server about tokens and pods.

use std::time::Duration;

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::timeout;
use tonic::async_trait;

use super::admit::AUDIENCE;

/// A slow API server keeps nobody longer than this.
const ANSWER: Duration = Duration::from_secs(5);

/// Who can say whose token it is: the API server, or a test.
#[async_trait]
pub trait Reviewer: Send + Sync + 'static {
    /// What there is to say about a token, for [`AUDIENCE`].
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Unreachable>;

    /// A pod of the agents' namespace, if there is one of this name.
    async fn pod(&self, name: &str) -> Result<Option<Placed>, Unreachable>;
}

/// Where a pod is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    pub uid: String,
    pub node: Option<String>,
}

/// The API server has not answered, or not to the point.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("cannot ask the API server about a {what}")]
    Api {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("the API server has not answered about a {what} within {ANSWER:?}")]
    Slow { what: &'static str },
    #[error("the API server answered about a {what} without saying anything")]
    Empty { what: &'static str },
}

/// The API server.
#[derive(Clone)]
pub struct ApiServer {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Pods are those of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
        }
    }
}

#[async_trait]
impl Reviewer for ApiServer {
    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Unreachable> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            status: None,
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let params = PostParams::default();
        let answer = in_time("token", reviews.create(&params, &review)).await?;
        answer.status.ok_or(Unreachable::Empty { what: "token" })
    }

    async fn pod(&self, name: &str) -> Result<Option<Placed>, Unreachable> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = in_time("pod", pods.get_opt(name)).await?;
        Ok(found.map(|pod| Placed {
            uid: pod.metadata.uid.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name),
        }))
    }
}

async fn in_time<T>(
    what: &'static str,
    asking: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Unreachable> {
    let answer = timeout(ANSWER, asking).await;
    answer
        .map_err(|_| Unreachable::Slow { what })?
        .map_err(|source| Unreachable::Api {
            what,
            source: Box::new(source),
        })
}
