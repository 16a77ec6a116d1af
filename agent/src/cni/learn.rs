//! What is wanted of a pod that is being created: from the desired state, or,
//! for a pod that was created before its event arrived, from the controller.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{Resolve, Resolved};
use crate::{
    capture::Sandbox,
    desired::{Desired, Intent},
};

/// How long a pod that nobody knows is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two questions.
const AGAIN: Duration = Duration::from_millis(100);

/// What was found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Learned {
    /// What is wanted of it.
    Intent(Intent),
    /// Nobody can say; why.
    Unknown(String),
}

/// Finds out, until `deadline` at the latest.
pub(super) async fn learn<R: Resolve>(
    sandbox: &Sandbox,
    desired: &mut watch::Receiver<Option<Arc<Desired>>>,
    resolver: &R,
    deadline: Instant,
) -> Learned {
    if let Some(intent) = known(sandbox, desired) {
        return Learned::Intent(intent);
    }
    let until = deadline.min(Instant::now() + PATIENCE);
    let streamed = desired.clone();
    tokio::select! {
        intent = stream(sandbox, streamed) => Learned::Intent(intent),
        learned = ask(sandbox, resolver, until) => learned,
    }
}

/// What the desired state says.
pub(super) fn known(
    sandbox: &Sandbox,
    desired: &watch::Receiver<Option<Arc<Desired>>>,
) -> Option<Intent> {
    let desired = desired.borrow();
    sandbox.intent_in(desired.as_deref()?).cloned()
}

/// Waits for the stream to deliver the pod.
async fn stream(sandbox: &Sandbox, mut desired: watch::Receiver<Option<Arc<Desired>>>) -> Intent {
    loop {
        if let Some(intent) = known(sandbox, &desired) {
            return intent;
        }
        if desired.changed().await.is_err() {
            // The engine is gone with its process; the question ends the wait.
            return std::future::pending().await;
        }
    }
}

/// Asks the controller, again while it does not know the pod either: its own
/// watch may be a moment behind the kubelet's.
async fn ask<R: Resolve>(sandbox: &Sandbox, resolver: &R, until: Instant) -> Learned {
    loop {
        let asking = resolver.resolve(&sandbox.pod_uid, &sandbox.namespace, &sandbox.name);
        let why = match timeout_at(until, asking).await {
            Ok(Resolved::Enrolled(intent) | Resolved::NotEnrolled(intent)) => {
                return Learned::Intent(intent);
            }
            Ok(Resolved::NotYours) => {
                return Learned::Unknown("the controller says that it is another node's".into());
            }
            Ok(Resolved::Unreachable(why)) => {
                return Learned::Unknown(format!(
                    "it is not in the last good state, and the controller cannot be asked: {why}"
                ));
            }
            Ok(Resolved::NotKnown) => "the controller does not know it either",
            Err(_) => "the controller has not answered in time",
        };
        if Instant::now() + AGAIN >= until {
            return Learned::Unknown(why.into());
        }
        sleep(AGAIN).await;
    }
}
