//! `NodeService` over the engine's status, events and looks.

use std::{pin::Pin, sync::Arc, time::SystemTime};

use futures_util::{Stream, StreamExt as _};
use sluice_proto::agent::v1::{self as proto, node_service_server};
use tokio::sync::watch;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use tonic::{Request, Response, Status};

use super::{
    find::{FindError, find},
    view,
};
use crate::{
    capture::{Capture, LookError},
    control::Link,
    error::chain,
    status::{Event, NodeStatus},
};

/// The service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeService {
    name: Arc<str>,
    started: SystemTime,
    capture: Capture,
    link: watch::Receiver<Link>,
}

impl NodeService {
    /// Speaks of the node of this name.
    pub fn new(name: &str, capture: Capture, link: watch::Receiver<Link>) -> Self {
        Self {
            name: name.into(),
            started: SystemTime::now(),
            capture,
            link,
        }
    }

    fn status(&self) -> Arc<NodeStatus> {
        self.capture.status().borrow().clone()
    }
}

#[tonic::async_trait]
impl node_service_server::NodeService for NodeService {
    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let link = self.link.borrow().clone();
        Ok(Response::new(view::node(
            &self.name,
            self.started,
            &self.status(),
            &link,
        )))
    }

    async fn list_pods(
        &self,
        _: Request<proto::ListPodsRequest>,
    ) -> Result<Response<proto::ListPodsResponse>, Status> {
        let status = self.status();
        let mut pods: Vec<_> = status
            .pods
            .iter()
            .map(|(uid, pod)| view::pod(uid, pod))
            .collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name, &a.uid).cmp(&(&b.namespace, &b.name, &b.uid)));
        Ok(Response::new(proto::ListPodsResponse { pods }))
    }

    async fn explain_pod(
        &self,
        request: Request<proto::ExplainPodRequest>,
    ) -> Result<Response<proto::ExplainPodResponse>, Status> {
        let asked = request.into_inner().pod;
        let uid = find(&self.status(), &asked).map_err(|error| not_found(&error))?;
        let explained = self
            .capture
            .explain(uid.clone())
            .await
            .map_err(|error| failed(&error))?;
        let evidence = explained
            .evidence
            .into_iter()
            .map(|evidence| proto::Evidence {
                object: evidence.object,
                present: evidence.present,
            });
        Ok(Response::new(proto::ExplainPodResponse {
            pod: Some(view::pod(&uid, &explained.status)),
            evidence: evidence.collect(),
            commands: explained.commands,
        }))
    }

    async fn resync(
        &self,
        _: Request<proto::ResyncRequest>,
    ) -> Result<Response<proto::ResyncResponse>, Status> {
        let repairs = self
            .capture
            .resync()
            .await
            .map_err(|error| failed(&error))?;
        let words = repairs.into_iter().map(|repair| match repair.pod {
            Some(pod) => format!("{} (pod {pod})", repair.object),
            None => repair.object,
        });
        Ok(Response::new(proto::ResyncResponse {
            repairs: words.collect(),
        }))
    }

    type WatchEventsStream =
        Pin<Box<dyn Stream<Item = Result<proto::WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        _: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let events = BroadcastStream::new(self.capture.events());
        Ok(Response::new(Box::pin(counting_losses(events))))
    }
}

/// Each event, with the number of those that the reader was too slow for.
fn counting_losses(
    events: impl Stream<Item = Result<Event, BroadcastStreamRecvError>> + Send + 'static,
) -> impl Stream<Item = Result<proto::WatchEventsResponse, Status>> + Send + 'static {
    let mut lost = 0;
    events.filter_map(move |event| {
        let seen = match event {
            Ok(event) => Some(Ok(view::event(event, std::mem::take(&mut lost)))),
            Err(BroadcastStreamRecvError::Lagged(count)) => {
                lost += count;
                None
            }
        };
        std::future::ready(seen)
    })
}

fn not_found(error: &FindError) -> Status {
    match error {
        FindError::Unknown { .. } => Status::not_found(error.to_string()),
        FindError::Ambiguous { .. } => Status::invalid_argument(error.to_string()),
    }
}

fn failed(error: &LookError) -> Status {
    let text = chain(error);
    match error {
        LookError::NoState => Status::failed_precondition(text),
        LookError::UnknownPod { .. } => Status::not_found(text),
        LookError::Busy => Status::unavailable(text),
        LookError::Kernel(_) => Status::internal(text),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::status::EventKind;

    #[tokio::test]
    async fn a_slow_reader_is_told_how_many_it_lost() {
        let event = || Event {
            at: SystemTime::now(),
            kind: EventKind::Repair,
            pod: None,
            message: "mended".into(),
        };
        let lagged = |count| Err(BroadcastStreamRecvError::Lagged(count));
        let events = stream::iter([Ok(event()), lagged(3), lagged(4), Ok(event()), Ok(event())]);
        let lost: Vec<_> = counting_losses(events)
            .map(|event| event.unwrap().lost)
            .collect()
            .await;
        assert_eq!(lost, [0, 7, 0]);
    }
}
