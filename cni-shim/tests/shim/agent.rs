//! Something in the agent's place: answers as it is told and remembers what it
//! was asked.

use std::{
    future,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use sluice_proto::agent::v1::{
    AddOutcome, AddPodRequest, AddPodResponse, CheckPodRequest, CheckPodResponse, DelPodRequest,
    DelPodResponse, GcRequest, GcResponse, Sandbox, StatusRequest, StatusResponse,
    cni_service_server::{CniService, CniServiceServer},
};
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap, transport::Server};

/// How a fake agent answers every call.
#[derive(Clone, Debug)]
pub(crate) enum Answers {
    With(AddOutcome),
    Refusing(Status),
    Never,
}

/// What it was asked, in order.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) verb: &'static str,
    pub(crate) sandbox: Sandbox,
    /// Of ADD only.
    pub(crate) add: Option<AddPodRequest>,
    /// Of GC only.
    pub(crate) gc: Option<GcRequest>,
    pub(crate) metadata: MetadataMap,
}

pub(crate) struct FakeAgent {
    asked: Arc<Mutex<Vec<Asked>>>,
    runtime: Option<Runtime>,
}

impl FakeAgent {
    pub(crate) fn start(socket: &Path, answers: Answers) -> Self {
        let asked = Arc::default();
        let service = Fake {
            answers,
            asked: Arc::clone(&asked),
        };
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        runtime.spawn(
            Server::builder()
                .add_service(CniServiceServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        Self {
            asked,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only thing it was asked.
    pub(crate) fn asked_once(&self) -> Asked {
        let mut asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    /// Dies as soon as it has been asked something.
    pub(crate) fn die_when_asked(self) {
        thread::spawn(move || {
            while self.asked().is_empty() {
                thread::yield_now();
            }
            drop(self);
        });
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        // Connections end here, whatever they wait for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Fake {
    answers: Answers,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    async fn answer(&self, asked: Asked) -> Result<AddOutcome, Status> {
        self.asked.lock().unwrap().push(asked);
        match &self.answers {
            Answers::With(outcome) => Ok(*outcome),
            Answers::Refusing(status) => Err(status.clone()),
            Answers::Never => future::pending().await,
        }
    }
}

fn asked<T>(
    verb: &'static str,
    request: Request<T>,
    sandbox: impl FnOnce(&T) -> Option<Sandbox>,
    add: impl FnOnce(T) -> Option<AddPodRequest>,
) -> Asked {
    let (metadata, _, message) = request.into_parts();
    Asked {
        verb,
        sandbox: sandbox(&message).expect("a sandbox"),
        add: add(message),
        gc: None,
        metadata,
    }
}

/// Asked something that is about no sandbox.
fn asked_of_none(verb: &'static str, gc: Option<GcRequest>, metadata: MetadataMap) -> Asked {
    Asked {
        verb,
        sandbox: Sandbox::default(),
        add: None,
        gc,
        metadata,
    }
}

#[tonic::async_trait]
impl CniService for Fake {
    async fn add_pod(
        &self,
        request: Request<AddPodRequest>,
    ) -> Result<Response<AddPodResponse>, Status> {
        let asked = asked("ADD", request, |add| add.sandbox.clone(), Some);
        let outcome = self.answer(asked).await?.into();
        Ok(Response::new(AddPodResponse { outcome }))
    }

    async fn del_pod(
        &self,
        request: Request<DelPodRequest>,
    ) -> Result<Response<DelPodResponse>, Status> {
        let asked = asked("DEL", request, |del| del.sandbox.clone(), |_| None);
        self.answer(asked).await?;
        Ok(Response::new(DelPodResponse {}))
    }

    async fn check_pod(
        &self,
        request: Request<CheckPodRequest>,
    ) -> Result<Response<CheckPodResponse>, Status> {
        let asked = asked("CHECK", request, |check| check.sandbox.clone(), |_| None);
        self.answer(asked).await?;
        Ok(Response::new(CheckPodResponse {}))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let (metadata, _, _) = request.into_parts();
        self.answer(asked_of_none("STATUS", None, metadata)).await?;
        Ok(Response::new(StatusResponse {}))
    }

    async fn gc(&self, request: Request<GcRequest>) -> Result<Response<GcResponse>, Status> {
        let (metadata, _, gc) = request.into_parts();
        self.answer(asked_of_none("GC", Some(gc), metadata)).await?;
        Ok(Response::new(GcResponse { forgotten: 1 }))
    }
}
