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

use super::{FINISHED, MARKER};
use crate::fleet::{Fleet, Uninstall};

/// Tells the fleet whether the cluster is to be left, until `stop`.
pub async fn follow(client: Client, namespace: String, fleet: Arc<Fleet>, stop: CancellationToken) {
    let markers: Objects<ConfigMap> = Objects::namespaced(client, &namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={MARKER}"));
    let mut events = watcher(markers, config).default_backoff().boxed();
    let mut listed = Uninstall::NotAsked;
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Init) => listed = Uninstall::NotAsked,
            Ok(Event::InitApply(marker)) => listed = read(&marker),
            Ok(Event::InitDone) => fleet.set_uninstall(listed),
            Ok(Event::Apply(marker)) => fleet.set_uninstall(read(&marker)),
            Ok(Event::Delete(_)) => fleet.set_uninstall(Uninstall::NotAsked),
            // What was known stays.
            Err(error) => warn!(%error, marker = MARKER, "cannot be followed; trying again"),
        }
    }
}

fn read(marker: &ConfigMap) -> Uninstall {
    // On its way out with the installation that it ended.
    if marker.metadata.deletion_timestamp.is_some() {
        return Uninstall::NotAsked;
    }
    let data = marker.data.as_ref();
    if data.is_some_and(|data| data.contains_key(FINISHED)) {
        Uninstall::Finished
    } else {
        Uninstall::Asked
    }
}
