//! `sluice.agent.v1.CniService`.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use sluice_proto::agent::v1::{
    AddOutcome, AddPodRequest, AddPodResponse, CheckPodRequest, CheckPodResponse, DelPodRequest,
    DelPodResponse, GcRequest, GcResponse, StatusRequest, StatusResponse,
    cni_service_server::CniService,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

use super::{
    Notes, Resolve,
    available::available,
    error::CniError,
    learn::{Learned, learn},
    request::{self, Created, InvalidRequest},
};
use crate::{
    capture::{AddError, Capture, Sandbox, Ticket},
    config::OnUnknownPod,
    desired::{Intent, Wanted},
};

/// An attempt is repeated this soon even if the status does not change: what is
/// missing may be something that nobody announces.
const AGAIN: Duration = Duration::from_millis(200);
/// Of the time that the shim waits, what is left for the answer to reach it.
const MARGIN: Duration = Duration::from_millis(100);

/// How the service decides.
#[derive(Clone, Debug)]
pub struct Options {
    pub on_unknown_pod: OnUnknownPod,
    /// Namespaces whose pods are never enrolled and never blocked.
    pub excluded_namespaces: BTreeSet<String>,
    /// Longest that an ADD waits, whatever the shim would.
    pub add_deadline: Duration,
}

/// The service.
#[derive(Clone, Debug)]
pub struct Service<R> {
    capture: Capture,
    resolver: R,
    options: Options,
    notes: Option<Arc<Notes>>,
}

impl<R: Resolve> Service<R> {
    pub fn new(capture: Capture, resolver: R, options: Options) -> Self {
        Self {
            capture,
            resolver,
            options,
            notes: None,
        }
    }

    /// With notes of the shim that are done before a call is: they are older.
    pub fn with_notes(mut self, notes: Arc<Notes>) -> Self {
        self.notes = Some(notes);
        self
    }

    async fn settle(&self) {
        if let Some(notes) = &self.notes {
            notes.settle().await;
        }
    }

    async fn add(&self, request: AddPodRequest) -> Result<AddOutcome, CniError> {
        let ticket = self.capture.ticket();
        let wait = wait(request.deadline_ms, self.options.add_deadline);
        let excluded = request.excluded;
        let sandbox = request::created(request.sandbox, &request.interfaces, &request.addresses);
        let Created { sandbox, flaw } = match sandbox {
            Ok(Some(created)) => created,
            Ok(None) => return Ok(AddOutcome::Passed),
            Err(error) if excluded => {
                tracing::warn!(%error, "the sandbox of an excluded pod cannot be noted");
                return Ok(AddOutcome::Passed);
            }
            Err(error) => return Err(CniError::Invalid(error)),
        };
        if excluded
            || self.capture.is_leaving()
            || self
                .options
                .excluded_namespaces
                .contains(&sandbox.namespace)
        {
            return Ok(self.note(ticket, sandbox));
        }
        let add = Add {
            service: self,
            ticket,
            sandbox,
            flaw,
            started: Clock::now(),
            deadline: Instant::now() + wait,
        };
        add.run().await
    }

    /// Takes note of a sandbox that is not to be captured.
    fn note(&self, ticket: Ticket, sandbox: Sandbox) -> AddOutcome {
        let desired = self.capture.desired();
        let wanted = super::learn::known(&sandbox, &desired).map(|intent| intent.wanted);
        self.capture.note(ticket, sandbox);
        if wanted == Some(Wanted::Proxy) {
            AddOutcome::Proxy
        } else {
            AddOutcome::Passed
        }
    }

    fn available(&self) -> Result<(), CniError> {
        if !self.capture.is_running() {
            let why = "the capture engine of the Sluice agent has stopped; restart the agent";
            return Err(CniError::NotAvailable(why.into()));
        }
        available(&self.capture.status().borrow()).map_err(CniError::NotAvailable)
    }

    async fn collect(&self, request: GcRequest) -> Result<usize, CniError> {
        let (network, valid) = request::valid(request).map_err(CniError::Invalid)?;
        let collected = self.capture.gc(network.clone(), valid).await;
        collected.map_err(|source| CniError::Collect { network, source })
    }

    async fn check(&self, request: CheckPodRequest) -> Result<(), CniError> {
        let sandbox = request::sandbox(request.sandbox, &request.interfaces, &request.addresses)
            .map_err(CniError::Invalid)?;
        let Some(sandbox) = sandbox else {
            return Ok(());
        };
        let excluded = &self.options.excluded_namespaces;
        if excluded.contains(&sandbox.namespace) || self.capture.is_leaving() {
            return Ok(());
        }
        let pod = sandbox.pod();
        let checked = self.capture.check(sandbox).await;
        checked.map_err(|source| CniError::Check { pod, source })
    }
}

/// One ADD of a pod that may be enrolled.
struct Add<'a, R> {
    service: &'a Service<R>,
    ticket: Ticket,
    sandbox: Sandbox,
    /// What is wrong with the CNI result. It concerns pods to be captured only.
    flaw: Option<InvalidRequest>,
    started: Clock,
    deadline: Instant,
}

impl<R: Resolve> Add<'_, R> {
    async fn run(self) -> Result<AddOutcome, CniError> {
        let service = self.service;
        let mut desired = service.capture.desired();
        let learned = learn(
            &self.sandbox,
            &mut desired,
            &service.resolver,
            self.deadline,
        )
        .await;
        match learned {
            Learned::Intent(intent) => self.decide(intent).await,
            Learned::Unknown(reason) => match service.options.on_unknown_pod {
                OnUnknownPod::Deny => Err(CniError::Unknown {
                    pod: self.sandbox.pod(),
                    reason,
                }),
                OnUnknownPod::Allow => {
                    let pod = self.sandbox.pod();
                    tracing::warn!(pod, reason, "an unknown pod is let through uncaptured");
                    Ok(service.note(self.ticket, self.sandbox))
                }
            },
        }
    }

    async fn decide(self, intent: Intent) -> Result<AddOutcome, CniError> {
        match intent.wanted {
            Wanted::Captured if !intent.host_network => match self.flaw {
                Some(flaw) => Err(CniError::Invalid(flaw)),
                None => self.capture(intent).await,
            },
            Wanted::Unsupported => Err(CniError::Unsupported {
                pod: self.sandbox.pod(),
                message: intent.message,
            }),
            Wanted::Proxy => {
                self.service.capture.note(self.ticket, self.sandbox);
                Ok(AddOutcome::Proxy)
            }
            Wanted::Captured | Wanted::Nothing | Wanted::Releasing => {
                Ok(self.service.note(self.ticket, self.sandbox))
            }
        }
    }

    /// Captures the pod, waiting for what is missing while there is time.
    async fn capture(self, intent: Intent) -> Result<AddOutcome, CniError> {
        let capture = &self.service.capture;
        let mut status = capture.status();
        let mut desired = capture.desired();
        loop {
            // Changes from here on wake the next attempt.
            status.mark_unchanged();
            desired.mark_unchanged();
            let attempt = capture.add(self.ticket, self.sandbox.clone(), Some(intent.clone()));
            let reason = match timeout_at(self.deadline, attempt).await {
                Ok(Ok(_)) => return Ok(AddOutcome::Captured),
                Ok(Err(AddError::NotReady { reason })) => reason,
                Ok(Err(source)) => {
                    let pod = self.sandbox.pod();
                    return Err(CniError::Add { pod, source });
                }
                // It may be captured yet; the runtime's DEL undoes that.
                Err(_) => "the agent is busy with other changes to the node".into(),
            };
            let woken = async {
                tokio::select! {
                    _ = status.changed() => {}
                    _ = desired.changed() => {}
                    () = sleep(AGAIN) => {}
                }
            };
            if timeout_at(self.deadline, woken).await.is_err() {
                return Err(CniError::NotYet {
                    pod: self.sandbox.pod(),
                    waited: self.started.elapsed(),
                    reason,
                });
            }
            // Nobody may want it any more.
            let now = super::learn::known(&self.sandbox, &desired);
            if capture.is_leaving() || now.is_some_and(|now| now.wanted != Wanted::Captured) {
                return Ok(self.service.note(self.ticket, self.sandbox));
            }
        }
    }
}

#[tonic::async_trait]
impl<R: Resolve> CniService for Service<R> {
    async fn add_pod(
        &self,
        request: Request<AddPodRequest>,
    ) -> Result<Response<AddPodResponse>, Status> {
        let started = Clock::now();
        self.settle().await;
        let added = self.add(request.into_inner()).await;
        let label = match &added {
            Ok(AddOutcome::Captured) => "captured",
            Ok(AddOutcome::Proxy) => "proxy",
            Ok(AddOutcome::Passed | AddOutcome::Unspecified) => "passed",
            Err(error) => error.label(),
        };
        finish("add", label, started, added).map(|outcome| {
            let outcome = outcome.into();
            Response::new(AddPodResponse { outcome })
        })
    }

    async fn del_pod(
        &self,
        request: Request<DelPodRequest>,
    ) -> Result<Response<DelPodResponse>, Status> {
        let started = Clock::now();
        self.settle().await;
        let gone = request::gone(request.into_inner().sandbox).map_err(CniError::Invalid);
        let done = match gone {
            Ok((container_id, ifname)) => {
                self.capture.del(container_id, ifname).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        let label = done.as_ref().map_or_else(CniError::label, |()| "ok");
        finish("del", label, started, done).map(|()| Response::new(DelPodResponse {}))
    }

    async fn check_pod(
        &self,
        request: Request<CheckPodRequest>,
    ) -> Result<Response<CheckPodResponse>, Status> {
        let started = Clock::now();
        self.settle().await;
        let checked = self.check(request.into_inner()).await;
        let label = checked.as_ref().map_or_else(CniError::label, |()| "ok");
        finish("check", label, started, checked).map(|()| Response::new(CheckPodResponse {}))
    }

    /// Asked every few seconds, so nothing is logged: the node's status is.
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let started = Clock::now();
        let available = self.available();
        let label = available.as_ref().map_or_else(CniError::label, |()| "ok");
        count("status", label, started);
        available
            .map(|()| Response::new(StatusResponse {}))
            .map_err(|error| error.status())
    }

    async fn gc(&self, request: Request<GcRequest>) -> Result<Response<GcResponse>, Status> {
        let started = Clock::now();
        self.settle().await;
        let collected = self.collect(request.into_inner()).await;
        let label = collected.as_ref().map_or_else(CniError::label, |_| "ok");
        finish("gc", label, started, collected).map(|forgotten| {
            let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
            Response::new(GcResponse { forgotten })
        })
    }
}

/// How long an ADD may take: what the shim waits, less what the answer needs to
/// reach it, and never longer than `own`.
fn wait(deadline_ms: u32, own: Duration) -> Duration {
    if deadline_ms == 0 {
        return own;
    }
    let shim = Duration::from_millis(deadline_ms.into());
    own.min(shim.saturating_sub(MARGIN.max(shim / 20)))
}

/// Counts the call, and logs what went wrong, once.
fn finish<T>(
    verb: &'static str,
    label: &'static str,
    started: Clock,
    result: Result<T, CniError>,
) -> Result<T, Status> {
    count(verb, label, started);
    result.map_err(|error| {
        tracing::warn!(verb, %error, "a CNI call failed");
        error.status()
    })
}

fn count(verb: &'static str, label: &'static str, started: Clock) {
    metrics::counter!("sluice_cni_requests_total", "verb" => verb, "result" => label).increment(1);
    metrics::histogram!("sluice_cni_duration_seconds", "verb" => verb)
        .record(started.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests;
