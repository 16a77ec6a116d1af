//! A stream's successor: opened beside it when the node has a newer
//! certificate, so that the controller, which ends a stream with the
//! certificate it was opened with, never has to.

use std::{pin::Pin, sync::Arc, time::Duration};

use sluice_mtls::{Reload, connect};
use sluice_proto::capture::v1 as proto;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tonic::{Streaming, transport::Channel};
use tracing::{info, warn};

use super::{
    Expiry,
    session::{EndError, FIRST, open_stream},
};
use crate::error::chain;

/// Between attempts, while the old stream goes on.
const AGAIN: Duration = Duration::from_secs(2);

/// An open stream with its first message: the controller has let go of the
/// one before it.
pub(super) struct Successor {
    pub(super) channel: Channel,
    pub(super) outbound: mpsc::Sender<proto::StreamCaptureStateRequest>,
    pub(super) inbound: Streaming<proto::StreamCaptureStateResponse>,
    pub(super) first: proto::StreamCaptureStateResponse,
}

type Opening = Pin<Box<dyn Future<Output = Result<Successor, EndError>> + Send>>;

/// Looks after the certificate that a stream was opened with.
pub(super) struct Handover {
    endpoint: String,
    reload: Arc<Reload>,
    expiry: watch::Receiver<Expiry>,
    /// What the certificate of the stream, and of its successor, is good for.
    shown: Expiry,
    opening: Option<Opening>,
    not_before: Instant,
}

/// What the session has to do.
pub(super) enum Step {
    /// Say hello on a new stream.
    Due,
    Ready(Box<Successor>),
    /// It will be due again.
    Failed,
}

impl Handover {
    /// For a stream that is opened with what is newest now.
    pub(super) fn new(endpoint: &str, reload: Arc<Reload>) -> Self {
        let mut expiry = reload.expiry();
        let shown = *expiry.borrow_and_update();
        Self {
            endpoint: endpoint.to_owned(),
            reload,
            expiry,
            shown,
            opening: None,
            not_before: Instant::now(),
        }
    }

    /// Whether a successor is on its way.
    pub(super) fn is_under_way(&self) -> bool {
        self.opening.is_some()
    }

    /// Opens one beside the stream.
    pub(super) fn begin(&mut self, hello: proto::Hello) {
        self.shown = *self.expiry.borrow_and_update();
        let reload = Arc::clone(&self.reload);
        let endpoint = self.endpoint.clone();
        self.opening = Some(Box::pin(async move {
            let channel = connect::channel(&endpoint, reload, connect::any_controller)?;
            let (mut inbound, outbound) = open_stream(channel.clone(), hello).await?;
            let first = timeout(FIRST, inbound.message())
                .await
                .map_err(|_| EndError::Silent)?
                .map_err(|status| EndError::status("the renewed stream", &status))?
                .ok_or(EndError::Closed)?;
            Ok(Successor {
                channel,
                outbound,
                inbound,
                first,
            })
        }));
    }

    /// Waits for the next step; may be dropped and called again.
    pub(super) async fn step(&mut self) -> Step {
        loop {
            if let Some(opening) = &mut self.opening {
                let opened = opening.await;
                self.opening = None;
                match opened {
                    Ok(successor) => {
                        info!(
                            endpoint = self.endpoint,
                            "the stream goes on with the newer certificate"
                        );
                        return Step::Ready(Box::new(successor));
                    }
                    Err(error) => {
                        let reason = chain(&error);
                        warn!(
                            reason,
                            "no stream with the newer certificate yet; the old one goes on"
                        );
                        self.shown = None;
                        self.not_before = Instant::now() + AGAIN;
                        return Step::Failed;
                    }
                }
            }
            let newest = *self.expiry.borrow_and_update();
            if newest > self.shown {
                tokio::time::sleep_until(self.not_before).await;
                return Step::Due;
            }
            if self.expiry.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
