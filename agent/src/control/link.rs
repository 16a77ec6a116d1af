//! How the stream is doing, for people and their tools.

use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    capture::Capture,
    status::{Event, EventKind},
};

/// How the stream is doing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// A complete state has come over the stream that is open.
    pub connected: bool,
    /// The endpoint in use or last tried.
    pub endpoint: String,
    /// Since when it is connected, or not.
    pub since: Option<SystemTime>,
    /// The same by the clock that nobody sets, for decisions.
    pub changed: Option<Instant>,
    /// Why the last attempt or stream ended; empty when none has.
    pub last_error: String,
}

/// Where it is told.
#[derive(Debug)]
pub(super) struct Board {
    link: watch::Sender<Link>,
    capture: Capture,
}

impl Board {
    pub(super) fn new(capture: Capture) -> (Self, watch::Receiver<Link>) {
        let (link, seen) = watch::channel(Link {
            since: Some(SystemTime::now()),
            changed: Some(Instant::now()),
            ..Link::default()
        });
        (Self { link, capture }, seen)
    }

    /// The endpoint's first complete state is here.
    pub(super) fn following(&self, endpoint: &str) {
        metrics::gauge!("sluice_stream_connected").set(1.0);
        metrics::gauge!("sluice_stream_changed_timestamp_seconds").set(super::unix_now());
        self.link.send_modify(|link| {
            link.connected = true;
            link.since = Some(SystemTime::now());
            link.changed = Some(Instant::now());
            endpoint.clone_into(&mut link.endpoint);
        });
        info!(endpoint, "following the controller");
        self.publish(format!("following the controller at {endpoint}"));
    }

    /// An attempt or a stream has ended.
    pub(super) fn ended(&self, endpoint: &str, error: &str) {
        metrics::counter!("sluice_stream_ends_total").increment(1);
        let was_connected = self.link.borrow().connected;
        self.link.send_modify(|link| {
            link.connected = false;
            endpoint.clone_into(&mut link.endpoint);
            error.clone_into(&mut link.last_error);
            if was_connected {
                link.since = Some(SystemTime::now());
                link.changed = Some(Instant::now());
            }
        });
        warn!(endpoint, error, "no stream to the controller");
        if was_connected {
            metrics::gauge!("sluice_stream_connected").set(0.0);
            metrics::gauge!("sluice_stream_changed_timestamp_seconds").set(super::unix_now());
            self.publish(format!("lost the controller at {endpoint}: {error}"));
        }
    }

    fn publish(&self, message: String) {
        self.capture.publish(Event {
            at: SystemTime::now(),
            kind: EventKind::Controller,
            pod: None,
            message,
        });
    }
}
