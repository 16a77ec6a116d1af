//! Writes the newest state to disk beside everything else, one at a time.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{sync::watch, task, time};
use tracing::warn;

use super::store::Store;
use crate::{desired::Desired, error::chain};

/// Pause before a failed write is tried again when nothing newer comes.
const AGAIN: Duration = Duration::from_secs(10);

/// A state and its place in the order of states.
type Ordered = (u64, Arc<Desired>);

/// Hands states to the writer. A newer one replaces one that still waits.
#[derive(Debug)]
pub(super) struct Keeper {
    newest: watch::Sender<Option<Ordered>>,
    /// For each session to watch.
    pub(super) done: watch::Receiver<Done>,
    handed_over: u64,
}

/// What has become of the states so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Every state up to this place has been written, or a newer one has; or it
    /// could not be.
    pub(super) place: u64,
    /// Why not, with its causes.
    pub(super) failure: Option<String>,
}

impl Keeper {
    /// Starts the writer; it ends when the keeper is dropped.
    pub(super) fn start(store: Store) -> Self {
        let (newest, inbox) = watch::channel(None);
        let (outbox, done) = watch::channel(Done::default());
        tokio::spawn(write(store, inbox, outbox));
        Self {
            newest,
            done,
            handed_over: 0,
        }
    }

    /// Keeps this state, and says its place in the order.
    pub(super) fn keep(&mut self, desired: Arc<Desired>) -> u64 {
        self.handed_over += 1;
        self.newest.send_replace(Some((self.handed_over, desired)));
        self.handed_over
    }
}

async fn write(
    store: Store,
    mut inbox: watch::Receiver<Option<Ordered>>,
    outbox: watch::Sender<Done>,
) {
    while inbox.changed().await.is_ok() {
        loop {
            let Some((place, desired)) = inbox.borrow_and_update().clone() else {
                break;
            };
            let failure = save(&store, desired).await;
            let failed = failure.is_some();
            outbox.send_replace(Done { place, failure });
            if !failed {
                break;
            }
            // Either something newer comes, or the disk has room again.
            if let Ok(Err(_)) = time::timeout(AGAIN, inbox.changed()).await {
                return;
            }
        }
    }
}

async fn save(store: &Store, desired: Arc<Desired>) -> Option<String> {
    let store = store.clone();
    let saved = task::spawn_blocking(move || store.save(&desired)).await;
    let error: Box<dyn Error> = match saved {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    };
    warn!(
        error = &*error,
        "the newest state is in force and not on disk; trying again"
    );
    Some(chain(&*error))
}
