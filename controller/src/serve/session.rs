//! One node's stream, from Hello to the end.

mod hello;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sluice_mtls::Stranger;
use sluice_proto::capture::v1::{
    NodeIntent, SnapshotPart, SourceRevision, StreamCaptureStateRequest,
    StreamCaptureStateResponse, stream_capture_state_request::Message,
    stream_capture_state_response::Batch,
};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{debug, info, warn};

use super::{caller::Good, capture::not_now, expiry, intake::Intake, wire};
use crate::{
    fleet::{Fleet, NotNow, Stream, touch},
    model::Name,
    ops::metrics as recorded,
};

/// An agent that does not read gets this long to be told why its stream ends.
const LAST_WORD: Duration = Duration::from_secs(5);

type Response = Result<StreamCaptureStateResponse, Status>;

pub(super) struct Session {
    fleet: Arc<Fleet>,
    node: Name,
    good: Good,
    inbound: Streaming<StreamCaptureStateRequest>,
    out: mpsc::Sender<Response>,
    sequence: u64,
    /// Parts of the snapshot that have not been sent.
    snapshot: VecDeque<SnapshotPart>,
    snapshot_revision: SourceRevision,
    intake: Intake,
}

impl Session {
    pub(super) fn new(
        fleet: Arc<Fleet>,
        node: Name,
        good: Good,
        inbound: Streaming<StreamCaptureStateRequest>,
        out: mpsc::Sender<Response>,
    ) -> Self {
        Self {
            fleet,
            node,
            good,
            inbound,
            out,
            sequence: 0,
            snapshot: VecDeque::new(),
            snapshot_revision: SourceRevision::default(),
            intake: Intake::new(Instant::now()),
        }
    }

    /// Serves the stream until either side has had enough of it.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let left = expiry::left(self.good.not_after);
        let revoked = self.good.revoked.clone();
        let out = self.out.clone();
        let ended = tokio::select! {
            () = stop.cancelled() => Err(Status::unavailable("this replica is stopping; try another")),
            () = sleep(left) => Err(Status::unavailable(
                "the certificate has expired; connect again with a fresh one",
            )),
            () = revoked.cancelled() => Err(Status::unauthenticated(Stranger::Revoked.to_string())),
            () = out.closed() => Ok(()),
            ended = self.serve() => ended,
        };
        let code = ended.as_ref().map_or_else(Status::code, |()| Code::Ok);
        recorded::stream_end(code);
        match ended {
            Ok(()) => info!(node = %self.node, "stream ended by the agent"),
            Err(status) => {
                info!(node = %self.node, ?code, reason = status.message(), "stream ended");
                // Gone or not reading: nobody to tell.
                let _ = timeout(LAST_WORD, self.out.send(Err(status))).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<(), Status> {
        let hello = hello::receive(&mut self.inbound, &self.node).await?;
        let Some(greeting) = hello else {
            return Ok(());
        };
        let (stream, snapshot) = hello::join(&self.fleet, &self.node, greeting).await?;
        info!(node = %self.node, agent = stream.agent_version, pods = snapshot.pods.len(), "stream opened");
        self.snapshot_revision = wire::revision(&snapshot.revision);
        self.snapshot = wire::snapshot(&snapshot);
        drop(snapshot);
        let _held = Held {
            fleet: Arc::clone(&self.fleet),
            node: Arc::clone(&self.node),
            stream: Arc::clone(&stream),
        };
        self.exchange(&stream).await
    }

    // Sends whenever there is room and something to say; everything else is
    // taken as it comes.
    async fn exchange(&mut self, stream: &Stream) -> Result<(), Status> {
        let mut lost = self.fleet.lost();
        let (opened, share) = (Instant::now(), share());
        loop {
            let leave = touch::leaves_at(*lost.borrow_and_update(), opened, share);
            let sending = !self.snapshot.is_empty() || stream.has_news();
            let release = stream.next_release();
            tokio::select! {
                () = stream.replaced() => {
                    return Err(Status::aborted("a newer stream of the same node replaced this one"));
                }
                Ok(()) = lost.changed() => {}
                () = wait_until(leave), if leave.is_some() => {
                    return Err(not_now(&NotNow::OutOfTouch));
                }
                () = wait_until(self.intake.closed_until()), if self.intake.closed_until().is_some() => {
                    self.intake.open(Instant::now());
                }
                message = self.inbound.message(), if self.intake.closed_until().is_none() => match message {
                    Ok(Some(message)) => self.take(message, stream)?,
                    Ok(None) => return Ok(()),
                    Err(status) => return hello::broken(status),
                },
                room = self.out.clone().reserve_owned(), if sending => match room {
                    Ok(room) => if let Some(response) = self.next(stream) {
                        room.send(Ok(response));
                    },
                    Err(_) => return Ok(()),
                },
                () = stream.news() => {}
                () = wait_until(release), if release.is_some() => stream.release(),
            }
        }
    }

    fn next(&mut self, stream: &Stream) -> Option<StreamCaptureStateResponse> {
        let (revision, batch, kind) = if let Some(part) = self.snapshot.pop_front() {
            let revision = self.snapshot_revision.clone();
            (revision, Batch::Snapshot(part), "snapshot")
        } else {
            let delta = match stream.next(wire::PART) {
                Some(delta) => delta,
                None if stream.has_news() => stream.nothing_else(),
                None => return None,
            };
            if let Some(since) = delta.since {
                recorded::send_delay(since.elapsed());
            }
            (
                wire::revision(&delta.revision),
                wire::delta(&delta),
                "delta",
            )
        };
        // Part of a state that is not whole yet, it would not count.
        let whole = self.snapshot.is_empty();
        recorded::sent(kind);
        self.sequence += 1;
        stream.reports().sent = self.sequence;
        debug!(node = %self.node, sequence = self.sequence, kind, "sent");
        Some(StreamCaptureStateResponse {
            sequence: self.sequence,
            revision: Some(revision),
            batch: Some(batch),
            node: whole
                .then(|| stream.take_leave())
                .flatten()
                .map(|leave| NodeIntent { leave }),
        })
    }

    fn take(&mut self, request: StreamCaptureStateRequest, stream: &Stream) -> Result<(), Status> {
        match request.message {
            Some(Message::Stored(stored)) => {
                if let Some(rejection) = &stored.rejection {
                    warn!(
                        node = %self.node,
                        sequence = stored.sequence,
                        reason = ?rejection.reason(),
                        message = wire::shortened(rejection.message.clone(), 256),
                        "the agent did not take a message"
                    );
                }
                stream.reports().stored(stored)
            }
            Some(Message::Status(report)) => {
                self.intake.report(report.pods.len(), Instant::now());
                self.fleet.report(&self.node, stream, report)
            }
            Some(Message::Hello(_)) => Err(Status::invalid_argument(
                "Hello is the first message of a stream, and only the first",
            )),
            None => Err(Status::invalid_argument("a message without content")),
        }
    }
}

// A stream's place, 0 to 1, among those that end for the same reason.
fn share() -> f64 {
    let mut random = [0; 4];
    // Without randomness all are the last.
    match SystemRandom::new().fill(&mut random) {
        Ok(()) => f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

async fn wait_until(when: Option<Instant>) {
    if let Some(when) = when {
        sleep_until(when.into()).await;
    }
}

// Leaves the fleet however the session ends.
struct Held {
    fleet: Arc<Fleet>,
    node: Name,
    stream: Arc<Stream>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.fleet.leave(&self.node, &self.stream);
    }
}
