//! One stream: from Hello until it ends, whoever ends it.

use std::{sync::Arc, time::Duration};

use sluice_mtls::connect::ConnectError;
use sluice_proto::capture::v1::{
    self as proto, capture_discovery_service_client::CaptureDiscoveryServiceClient,
    stream_capture_state_request::Message,
};
use tokio::{
    sync::{mpsc, watch},
    time::{self, Instant},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tracing::debug;

use super::{
    answers::Answers,
    assemble::{Assembler, Rejected, Taken},
    encode,
    handover::{Handover, Step},
    keeper::{Done, Keeper},
    link::Board,
    report::Reporter,
    retry::Ended,
};
use crate::{capture::Capture, desired::Desired, error::chain, status::NodeStatus};

/// Largest message that is taken.
const LARGEST: usize = 4 << 20;
/// How long a controller may take to open the stream, and then to say anything.
const OPEN: Duration = Duration::from_secs(15);
pub(super) const FIRST: Duration = Duration::from_secs(60);
/// Reports are at least this far apart.
const REPORTS: Duration = Duration::from_millis(100);
/// How long a rejection is given to reach the controller before the stream is
/// closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndError {
    #[error("{doing} ended with {code:?}: {message}")]
    Status {
        doing: &'static str,
        code: Code,
        message: String,
    },
    #[error("the controller has not opened the stream within {OPEN:?}")]
    NotOpened,
    #[error("the controller has not sent a snapshot within {FIRST:?}")]
    Silent,
    #[error("the controller closed the stream")]
    Closed,
    #[error("a message of the controller was rejected")]
    Rejected(#[from] Rejected),
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
}

impl EndError {
    pub(super) fn status(doing: &'static str, status: &Status) -> Self {
        let cause = std::error::Error::source(status).map(chain);
        Self::Status {
            doing,
            code: status.code(),
            message: cause.unwrap_or_else(|| status.message().to_owned()),
        }
    }

    /// What it means for the next attempt.
    pub(super) fn kind(&self) -> Ended {
        match self {
            Self::Status {
                code: Code::Unavailable,
                ..
            }
            | Self::NotOpened
            | Self::Silent
            | Self::Closed
            | Self::Rejected(Rejected::Older { .. }) => Ended::Unavailable,
            Self::Status { .. } | Self::Rejected(_) | Self::Connect(_) => Ended::Failed,
        }
    }
}

/// What outlives a stream.
#[derive(Debug)]
pub(super) struct Lasting {
    pub(super) node_name: String,
    pub(super) capture: Capture,
    pub(super) assembler: Assembler,
    pub(super) keeper: Keeper,
    pub(super) board: Board,
}

/// What there is to do next.
enum Woken {
    Received(Result<Option<proto::StreamCaptureStateResponse>, Status>),
    /// Something can be said, and there is something to say.
    Room,
    Shut,
    News,
    Again,
    Silent,
    Handover(Step),
}

/// An open stream.
pub(super) struct Session<'a> {
    lasting: &'a mut Lasting,
    endpoint: &'a str,
    inbound: Streaming<proto::StreamCaptureStateResponse>,
    outbound: mpsc::Sender<proto::StreamCaptureStateRequest>,
    answers: Answers,
    reporter: Reporter,
    status: watch::Receiver<Arc<NodeStatus>>,
    done: watch::Receiver<Done>,
    /// There may be something to report, not before the instant.
    news: bool,
    not_before: Instant,
    sequence: u64,
    handover: Handover,
    /// Why the stream has ended, while its successor is waited for.
    over: Option<EndError>,
    /// When the first complete state arrived.
    pub(super) following_since: Option<Instant>,
}

impl<'a> Session<'a> {
    /// Says hello over this channel and waits until the stream is open.
    pub(super) async fn open(
        lasting: &'a mut Lasting,
        endpoint: &'a str,
        channel: Channel,
        handover: Handover,
    ) -> Result<Self, EndError> {
        lasting.assembler.restart();
        let status = lasting.capture.status();
        let hello = hello(lasting, &status.borrow());
        let (inbound, outbound) = open_stream(channel, hello).await?;
        Ok(Self {
            done: lasting.keeper.done.clone(),
            lasting,
            endpoint,
            inbound,
            outbound,
            answers: Answers::default(),
            reporter: Reporter::default(),
            status,
            news: true,
            not_before: Instant::now(),
            sequence: 0,
            handover,
            over: None,
            following_since: None,
        })
    }

    /// Runs until the stream and its successors have ended; `in_use` is told of
    /// the connection of each successor.
    pub(super) async fn run(&mut self, in_use: &watch::Sender<Option<Channel>>) -> EndError {
        let first = Instant::now() + FIRST;
        loop {
            match self.next(first).await {
                Woken::Received(received) => {
                    if let Err(end) = self.receive(received)
                        && let Some(end) = self.outlived(end)
                    {
                        self.farewell().await;
                        return end;
                    }
                }
                Woken::Room => self.say(),
                // The request side is gone; the response says why.
                Woken::Shut => {
                    let end = self.epitaph().await;
                    if let Some(end) = self.outlived(end) {
                        return end;
                    }
                }
                Woken::News => self.news = true,
                Woken::Again => {}
                Woken::Silent => return EndError::Silent,
                Woken::Handover(step) => {
                    if let Err(end) = self.hand_over(step, in_use) {
                        return end;
                    }
                }
            }
        }
    }

    /// Nothing when a successor takes over: the controller ends the old stream
    /// as soon as it has the new one. What we rejected we would reject again.
    fn outlived(&mut self, end: EndError) -> Option<EndError> {
        let by_controller = matches!(end, EndError::Status { .. } | EndError::Closed);
        if by_controller && self.handover.is_under_way() {
            self.over = Some(end);
            return None;
        }
        Some(end)
    }

    fn hand_over(
        &mut self,
        step: Step,
        in_use: &watch::Sender<Option<Channel>>,
    ) -> Result<(), EndError> {
        let successor = match step {
            Step::Due => {
                let hello = hello(self.lasting, &self.status.borrow());
                self.handover.begin(hello);
                return Ok(());
            }
            Step::Failed => return self.over.take().map_or(Ok(()), Err),
            Step::Ready(successor) => *successor,
        };
        self.lasting.assembler.restart();
        self.inbound = successor.inbound;
        self.outbound = successor.outbound;
        self.answers = Answers::default();
        // Everything is told again: the replica may be another.
        self.reporter = Reporter::default();
        self.news = true;
        self.sequence = 0;
        self.over = None;
        in_use.send_replace(Some(successor.channel));
        self.receive(Ok(Some(successor.first)))
    }

    async fn next(&mut self, first: Instant) -> Woken {
        let open = self.over.is_none();
        let answer = open && self.answers.is_due(&self.done.borrow());
        // Before the snapshot there is nobody to tell of.
        let may_report = open && self.news && self.following_since.is_some();
        let report = may_report && Instant::now() >= self.not_before;
        tokio::select! {
            received = self.inbound.message(), if open && self.answers.has_room() => {
                Woken::Received(received)
            }
            step = self.handover.step() => Woken::Handover(step),
            room = self.outbound.reserve(), if answer || report => match room {
                Ok(_) => Woken::Room,
                Err(_) => Woken::Shut,
            },
            Ok(()) = self.done.changed() => Woken::Again,
            Ok(()) = self.status.changed(), if !self.news => Woken::News,
            () = time::sleep_until(self.not_before), if may_report && !report => Woken::Again,
            () = time::sleep_until(first), if self.following_since.is_none() => Woken::Silent,
        }
    }

    /// Says one thing: the outbox has room for it, and nobody else fills it.
    fn say(&mut self) {
        let done = self.done.borrow().clone();
        let message = match self.answers.next(&done) {
            Some(stored) => Some(Message::Stored(stored)),
            None => {
                self.news = false;
                self.not_before = Instant::now() + REPORTS;
                let status = self.status.borrow_and_update().clone();
                let desired = self.lasting.assembler.held();
                let report = desired.and_then(|desired| self.reporter.next(&status, desired));
                report.map(Message::Status)
            }
        };
        if let Some(message) = message {
            let _ = self.outbound.try_send(wrap(message));
        }
    }

    fn receive(
        &mut self,
        received: Result<Option<proto::StreamCaptureStateResponse>, Status>,
    ) -> Result<(), EndError> {
        let message = match received {
            Ok(Some(message)) => message,
            Ok(None) => return Err(EndError::Closed),
            Err(status) => return Err(self.unreadable(&status)),
        };
        self.sequence = message.sequence;
        match self.lasting.assembler.take(message) {
            Ok(Taken::Part) => self.answers.part(self.sequence),
            Ok(Taken::State(desired)) => {
                // The kernel first: the disk may be slow, or full.
                self.lasting.capture.set_desired(desired.clone());
                self.following(&desired);
                // It may speak of pods that it did not speak of before.
                self.news = true;
                let place = self.lasting.keeper.keep(desired);
                self.answers.state(self.sequence, place);
            }
            Err(rejected) => {
                count(rejected.reason());
                self.answers.rejected(self.sequence, &rejected);
                return Err(rejected.into());
            }
        }
        Ok(())
    }

    fn following(&mut self, desired: &Desired) {
        metrics::gauge!("sluice_state_received_timestamp_seconds").set(super::unix_now());
        let pods = desired.pods.len();
        debug!(sequence = self.sequence, pods, "new desired state");
        if self.following_since.is_none() {
            self.following_since = Some(Instant::now());
            self.lasting.board.following(self.endpoint);
        }
    }

    /// A status of our own making (too large, does not decode) is an answer
    /// that the controller must hear; one of the controller's is not.
    fn unreadable(&mut self, status: &Status) -> EndError {
        if matches!(status.code(), Code::OutOfRange | Code::Internal) {
            let reason = proto::RejectionReason::Invalid;
            count(reason);
            let message = format!("the message cannot be read: {}", status.message());
            self.answers.unreadable(self.sequence + 1, reason, message);
        }
        EndError::status("the stream", status)
    }

    /// Gives the answers that can be given, for a moment.
    async fn farewell(&mut self) {
        let saying = async {
            loop {
                let done = self.done.borrow().clone();
                let Some(stored) = self.answers.next(&done) else {
                    break;
                };
                if self
                    .outbound
                    .send(wrap(Message::Stored(stored)))
                    .await
                    .is_err()
                {
                    break;
                }
            }
            // Once there is room again, the last one is on its way.
            let _ = self.outbound.reserve().await;
            time::sleep(FAREWELL / 10).await;
        };
        let _ = time::timeout(FAREWELL, saying).await;
    }

    async fn epitaph(&mut self) -> EndError {
        match time::timeout(FAREWELL, self.inbound.message()).await {
            Ok(Err(status)) => EndError::status("the stream", &status),
            Ok(Ok(_)) | Err(_) => EndError::Closed,
        }
    }
}

/// Opens a stream and says hello; what comes is for the caller to read.
pub(super) async fn open_stream(
    channel: Channel,
    hello: proto::Hello,
) -> Result<
    (
        Streaming<proto::StreamCaptureStateResponse>,
        mpsc::Sender<proto::StreamCaptureStateRequest>,
    ),
    EndError,
> {
    let (outbound, messages) = mpsc::channel(1);
    let mut client = CaptureDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(LARGEST)
        .max_encoding_message_size(LARGEST);
    // The channel is empty and has room for one.
    let _ = outbound.try_send(wrap(Message::Hello(hello)));
    let opening = client.stream_capture_state(ReceiverStream::new(messages));
    let opened = time::timeout(OPEN, opening)
        .await
        .map_err(|_| EndError::NotOpened)?;
    let inbound = opened
        .map_err(|status| EndError::status("opening the stream", &status))?
        .into_inner();
    Ok((inbound, outbound))
}

fn count(reason: proto::RejectionReason) {
    let label = match reason {
        proto::RejectionReason::Unspecified | proto::RejectionReason::Invalid => "invalid",
        proto::RejectionReason::Older => "older",
        proto::RejectionReason::Incomplete => "incomplete",
        proto::RejectionReason::Storage => "storage",
    };
    metrics::counter!("sluice_stream_rejections_total", "reason" => label).increment(1);
}

fn hello(lasting: &Lasting, status: &NodeStatus) -> proto::Hello {
    let steered = status.pods.iter().filter(|(_, pod)| pod.steered);
    proto::Hello {
        agent_version: env!("CARGO_PKG_VERSION").into(),
        newest: lasting.assembler.newest().map(encode::revision),
        steered_uids: steered.map(|(uid, _)| uid.as_str().into()).collect(),
        node_name: lasting.node_name.clone(),
    }
}

fn wrap(message: Message) -> proto::StreamCaptureStateRequest {
    proto::StreamCaptureStateRequest {
        message: Some(message),
    }
}
