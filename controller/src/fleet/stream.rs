//! One node's stream, as the rest of the controller sees it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    index::NodeChange,
    model::{Intent, Revision},
    ops::metrics as recorded,
    serve::{Delta, Outbox, Reports},
};

/// A stream that is open.
#[derive(Debug)]
pub struct Stream {
    pub agent_version: String,
    pub connected_at: SystemTime,
    /// Names this stream among all that the node ever had.
    pub(super) token: String,
    outbox: Mutex<Outbox>,
    reports: Mutex<Reports>,
    wake: Notify,
    leave: Mutex<Leave>,
    replaced: CancellationToken,
}

/// What is asked of the node itself.
#[derive(Clone, Copy, Debug)]
struct Leave {
    asked: bool,
    said: bool,
}

impl Stream {
    pub(super) fn new(agent_version: String, token: String, outbox: Outbox, leave: bool) -> Self {
        Self {
            agent_version,
            token,
            leave: Mutex::new(Leave {
                asked: leave,
                said: false,
            }),
            connected_at: SystemTime::now(),
            outbox: Mutex::new(outbox),
            reports: Mutex::default(),
            wake: Notify::new(),
            replaced: CancellationToken::new(),
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the agent has reported.
    pub fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: NodeChange, revision: Revision, now: Instant) {
        {
            let mut reports = self.reports();
            let gone = change.pods.iter().filter(|(_, intent)| intent.is_none());
            for (uid, _) in gone {
                reports.forget(uid);
            }
        }
        self.counted(|outbox| outbox.change(change, revision, now));
        self.wake.notify_one();
    }

    /// The next delta, if something is to be sent.
    pub fn next(&self, limit: usize) -> Option<Delta> {
        self.counted(|outbox| outbox.next(limit, Instant::now()))
    }

    /// A delta for what is neither of a pod nor of a namespace.
    pub fn nothing_else(&self) -> Delta {
        self.outbox().nothing()
    }

    /// Lets go of pods that have been releasing for long enough.
    pub fn release(&self) {
        self.counted(|outbox| outbox.release(Instant::now()));
    }

    /// When there is something to let go of.
    pub fn next_release(&self) -> Option<Instant> {
        self.outbox().next_release()
    }

    fn leave(&self) -> MutexGuard<'_, Leave> {
        self.leave.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is the node to leave? Absent: said already.
    pub fn take_leave(&self) -> Option<bool> {
        let mut leave = self.leave();
        let news = (!leave.said).then_some(leave.asked);
        leave.said = true;
        news
    }

    pub(super) fn set_leave(&self, asked: bool) {
        let mut leave = self.leave();
        let said = leave.said && leave.asked == asked;
        *leave = Leave { asked, said };
        drop(leave);
        self.wake.notify_one();
    }

    /// True when something is to be sent.
    pub fn has_news(&self) -> bool {
        self.outbox().unsent() > 0 || !self.leave().said
    }

    pub(super) fn unwritten(&self, uid: &str) {
        if self.outbox().unwritten(uid, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// What is said of the pod now.
    pub fn said(&self, uid: &str) -> Option<Arc<Intent>> {
        self.outbox().said(uid).cloned()
    }

    /// Returns when there may be news.
    pub async fn news(&self) {
        self.wake.notified().await;
    }

    pub(super) fn replace(&self) {
        self.replaced.cancel();
    }

    /// Returns when a newer stream of the same node has taken over.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    fn counted<T>(&self, f: impl FnOnce(&mut Outbox) -> T) -> T {
        let mut outbox = self.outbox();
        let before = outbox.unsent();
        let result = f(&mut outbox);
        recorded::queue_depth(before, outbox.unsent());
        result
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        recorded::queue_depth(self.outbox().unsent(), 0);
    }
}
