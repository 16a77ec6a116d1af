//! The beginning of a stream: who is it, what has it seen, can we serve it.

use std::{sync::Arc, time::Duration};

use sluice_proto::capture::v1::{
    Hello, StreamCaptureStateRequest, stream_capture_state_request::Message,
};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::wire;
use crate::{
    fleet::{Fleet, Greeting, NotNow, Stream},
    model::Name,
    serve::{Snapshot, capture::not_now},
};

/// The first message comes within this.
const DEADLINE: Duration = Duration::from_secs(10);
/// A replica that is behind waits this long to be no longer.
const CATCH_UP: Duration = Duration::from_secs(2);
/// A node does not have more pods.
const MAX_STEERED: usize = 10_000;

/// Waits for Hello. Nothing: the agent has hung up.
pub(super) async fn receive(
    inbound: &mut Streaming<StreamCaptureStateRequest>,
    node: &Name,
) -> Result<Option<Greeting>, Status> {
    let first = timeout(DEADLINE, inbound.message()).await.map_err(|_| {
        Status::deadline_exceeded(format!("no Hello within {} s", DEADLINE.as_secs()))
    })?;
    let first = match first {
        Ok(Some(first)) => first,
        Ok(None) => return Ok(None),
        Err(status) => return broken(status).map(|()| None),
    };
    match first.message {
        Some(Message::Hello(hello)) => greeting(hello, node).map(Some),
        _ => Err(Status::invalid_argument(
            "the first message of a stream is Hello",
        )),
    }
}

fn greeting(hello: Hello, node: &Name) -> Result<Greeting, Status> {
    if !hello.node_name.is_empty() && *hello.node_name != **node {
        return Err(Status::permission_denied(format!(
            "the certificate is node {node:?}'s, and Hello says node {:?}; \
             give the agent the certificate of its own node",
            wire::shortened(hello.node_name, 253)
        )));
    }
    if hello.steered_uids.len() > MAX_STEERED {
        return Err(Status::invalid_argument(format!(
            "Hello names {} steered pods; at most {MAX_STEERED} are taken",
            hello.steered_uids.len()
        )));
    }
    Ok(Greeting {
        agent_version: wire::shortened(hello.agent_version, 128),
        newest: hello.newest.as_ref().map(wire::to_revision),
        steered: hello.steered_uids.into_iter().collect(),
    })
}

/// Opens the stream, after catching up with what the agent has seen if that
/// does not take long.
pub(super) async fn join(
    fleet: &Fleet,
    node: &Name,
    greeting: Greeting,
) -> Result<(Arc<Stream>, Snapshot), Status> {
    let until = Instant::now() + CATCH_UP;
    let mut position = fleet.position();
    loop {
        position.mark_unchanged();
        match fleet.join(node, &greeting) {
            Ok(joined) => return Ok(joined),
            Err(why @ NotNow::Behind) => {
                let moved = timeout_at(until, position.changed()).await;
                if !matches!(moved, Ok(Ok(()))) {
                    return Err(not_now(&why));
                }
            }
            Err(why) => return Err(not_now(&why)),
        }
    }
}

/// How a stream ends that could not be read: undecodable and oversized messages
/// are the agent's fault, and told; a lost connection is nobody's.
pub(super) fn broken(status: Status) -> Result<(), Status> {
    match status.code() {
        Code::Internal => Err(Status::invalid_argument(format!(
            "a message does not decode: {}",
            status.message()
        ))),
        Code::OutOfRange => Err(Status::resource_exhausted(status.message())),
        Code::Cancelled | Code::Unknown | Code::Unavailable => Ok(()),
        _ => Err(status),
    }
}
