//! `IdentityService`.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use sluice_mtls::{Caller, Identity};
use sluice_proto::identity::v1::{
    IssueNodeCertificateRequest, IssueNodeCertificateResponse,
    identity_service_server::IdentityService,
};
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, async_trait};
use tracing::{info, warn};

use super::{
    Signer,
    admit::{self, Holder, PodRef, Refusal, Rules},
    authority::Issued,
    cache::{Cache, Found, Key},
    limits::Limits,
    request,
    review::{Reviewer, Unreachable},
};
use crate::ops::metrics as recorded;

/// A token of a service account has some 1200 bytes.
const LARGEST_TOKEN: usize = 16 << 10;
/// Reviews at a time; the others wait their turn.
const REVIEWS: usize = 16;

/// The service, over whoever can say whose token it is.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    signer: Arc<Signer>,
    rules: Rules,
    reviewer: Box<dyn Reviewer>,
    reviews: Semaphore,
    limits: Mutex<Limits>,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    pub fn new(signer: Arc<Signer>, rules: Rules, reviewer: impl Reviewer) -> Self {
        let shared = Shared {
            signer,
            rules,
            reviewer: Box::new(reviewer),
            reviews: Semaphore::new(REVIEWS),
            limits: Mutex::new(Limits::new(Instant::now())),
            cache: Mutex::new(Cache::default()),
        };
        Self {
            shared: Arc::new(shared),
        }
    }
}

#[async_trait]
impl IdentityService for Service {
    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let answer = self.shared.answer(request).await;
        let code = answer.as_ref().map_or_else(Status::code, |_| Code::Ok);
        recorded::certificate_request(code);
        answer.map(Response::new)
    }
}

impl Shared {
    async fn answer(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<IssueNodeCertificateResponse, Status> {
        let caller = request.extensions().get::<Caller>();
        let caller = caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
        let from = caller.address();
        let has_certificate = caller.peer(SystemTime::now()).is_ok();
        let taken = lock(&self.limits).take(from, has_certificate, Instant::now());
        taken.map_err(|why| Status::resource_exhausted(why.to_string()))?;

        let asked = request.into_inner();
        if asked.token.is_empty() || asked.token.len() > LARGEST_TOKEN {
            let reason = format!("a token of 1 to {LARGEST_TOKEN} bytes is needed");
            return Err(Status::invalid_argument(reason));
        }
        let key = request::key(&asked.signing_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = self.node(&asked.token).await.inspect_err(|status| {
            info!(%from, code = ?status.code(), reason = status.message(), "no certificate");
        })?;
        if !asked.node_name.is_empty() && asked.node_name != node {
            let reason = format!(
                "the token is of a pod on node {node:?}, and the request says it is another; \
                 correct the agent's --node-name"
            );
            warn!(%from, node, "a request for the certificate of another node");
            return Err(Status::permission_denied(reason));
        }
        let issued = self.signer.node(&Identity::Node(node), &key);
        let issued = issued.map_err(|error| {
            warn!(error = &error as &dyn std::error::Error, "cannot sign");
            Status::unavailable(format!("{error}; see the controller's log"))
        })?;
        Ok(self.response(&issued))
    }

    fn response(&self, issued: &Issued) -> IssueNodeCertificateResponse {
        IssueNodeCertificateResponse {
            certificates: vec![issued.der.to_vec()],
            authorities: self.signer.believed(),
            not_after: Some(issued.not_after.into()),
        }
    }

    /// The node of the pod that the token is bound to.
    async fn node(&self, token: &str) -> Result<String, Status> {
        let key = Key::of(token);
        let known = lock(&self.cache).get(key, Instant::now());
        let found = match known {
            Some(found) => found,
            None => {
                let began = Instant::now();
                let found = self.ask(token).await.map_err(|error| unavailable(&error))?;
                recorded::token_review(found.is_ok(), began.elapsed());
                lock(&self.cache).put(key, found.clone(), Instant::now());
                found
            }
        };
        found.map_err(|refusal| {
            let code = if refusal.is_nobody() {
                Code::Unauthenticated
            } else {
                Code::PermissionDenied
            };
            Status::new(code, refusal.to_string())
        })
    }

    async fn ask(&self, token: &str) -> Result<Found, Unreachable> {
        // Never closed; and without a place there is still the limit on time.
        let _place = self.reviews.acquire().await;
        let status = self.reviewer.review(token).await?;
        match admit::judge(&self.rules, &status) {
            Ok(Holder::OnNode(node)) => Ok(Ok(node)),
            Ok(Holder::Pod(pod)) => self.look_up(pod).await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn look_up(&self, pod: PodRef) -> Result<Found, Unreachable> {
        let placed = self.reviewer.pod(&pod.name).await?;
        // Another pod of the same name is not the token's.
        let placed = placed.filter(|placed| placed.uid == pod.uid);
        let Some(placed) = placed else {
            return Ok(Err(Refusal::PodGone { pod: pod.name }));
        };
        let node = placed.node.filter(|node| !node.is_empty());
        Ok(node.ok_or(Refusal::NoNode { pod: pod.name }))
    }
}

fn unavailable(error: &Unreachable) -> Status {
    recorded::token_review_failed();
    warn!(
        error = error as &dyn std::error::Error,
        "a token cannot be reviewed"
    );
    Status::unavailable(format!("{error}; try again, or another replica"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
