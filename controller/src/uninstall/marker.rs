//! What the replicas make of it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api as Objects, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{MARKER, run::is_finished};
use crate::fleet::{Fleet, Uninstall};

/// Tells the fleet whether the cluster is to be left, until `stop`.
pub async fn follow(client: Client, namespace: String, fleet: Arc<Fleet>, stop: CancellationToken) {
    let markers: Objects<ConfigMap> = Objects::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={MARKER}"));
    let mut events = watcher(markers, config).default_backoff().boxed();
    let mut known = Uninstall::NotAsked;
    let mut listed = Uninstall::NotAsked;
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let seen = match event {
            Ok(Event::Init) => {
                listed = Uninstall::NotAsked;
                continue;
            }
            Ok(Event::InitApply(marker)) => {
                listed = read(&marker);
                continue;
            }
            Ok(Event::InitDone) => listed,
            Ok(Event::Apply(marker)) => read(&marker),
            Ok(Event::Delete(_)) => Uninstall::NotAsked,
            // What was known stays.
            Err(error) => {
                warn!(%error, marker = MARKER, "cannot be followed; trying again");
                continue;
            }
        };
        known = next(known, seen);
        fleet.set_uninstall(known);
    }
}

// The marker goes with the installation, and may go before the last controller
// does: nodes that have left for good are not asked to join again.
fn next(known: Uninstall, seen: Uninstall) -> Uninstall {
    match (known, seen) {
        (Uninstall::Finished, Uninstall::NotAsked) => Uninstall::Finished,
        (_, seen) => seen,
    }
}

fn read(marker: &ConfigMap) -> Uninstall {
    // On its way out with the installation that it ended.
    if marker.metadata.deletion_timestamp.is_some() {
        return Uninstall::NotAsked;
    }
    if is_finished(marker) {
        Uninstall::Finished
    } else {
        Uninstall::Asked
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Uninstall::{Asked, Finished, NotAsked},
        next,
    };

    #[test]
    fn only_what_is_not_finished_is_withdrawn_by_deleting_it() {
        assert_eq!(next(Asked, NotAsked), NotAsked);
        assert_eq!(next(Finished, NotAsked), Finished);
        assert_eq!(next(next(Finished, Asked), NotAsked), NotAsked);
    }
}
