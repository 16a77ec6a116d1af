//! Follows the nodes and the other replicas.

use std::{collections::HashSet, sync::Arc, time::SystemTime};

use futures_util::StreamExt as _;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api as Objects, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    board::Board,
    kube_api::{micro_time, seen_node},
    names::FIELD_MANAGER,
    replica::{EXPIRY, RENEW, Replicas},
};
use crate::model::Name;

/// Leases of replicas carry this label.
const LABEL: (&str, &str) = ("sluice.dev/lease", "controller");

/// Puts every node on the board, and keeps it so until `stop`.
pub async fn follow_nodes(
    client: Client,
    board: Arc<Board>,
    startup_taint: String,
    stop: CancellationToken,
) {
    let nodes: Objects<Node> = Objects::all(client);
    let config = watcher::Config::default().page_size(200);
    let mut events = watcher(nodes, config).default_backoff().boxed();
    let mut listed: HashSet<Name> = HashSet::new();
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let see = |node: &Node| {
            board.see_node(&node.name_any(), seen_node(node, &startup_taint));
        };
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(node)) => {
                listed.insert(node.name_any().into());
                see(&node);
            }
            Ok(Event::InitDone) => board.only_nodes(&listed),
            Ok(Event::Apply(node)) => see(&node),
            Ok(Event::Delete(node)) => board.lose_node(&node.name_any()),
            Err(error) => warn!(%error, "the nodes cannot be followed; trying again"),
        }
    }
}

/// Keeps this replica's Lease, and follows those of the others, until `stop`;
/// then gives it up, so that nobody waits for it to expire.
pub async fn follow_replicas(
    client: Client,
    namespace: String,
    instance: String,
    replicas: Arc<Replicas>,
    stop: CancellationToken,
) {
    let leases: Objects<Lease> = Objects::namespaced(client, &namespace);
    let watching = follow_leases(leases.clone(), Arc::clone(&replicas), stop.clone());
    let renewing = renew(leases.clone(), &instance, &replicas, stop);
    tokio::join!(watching, renewing);
    let params = DeleteParams::default();
    if let Ok(Err(error)) = timeout(RENEW, leases.delete(&instance, &params)).await {
        debug!(%error, "the Lease is left to expire");
    }
}

async fn follow_leases(leases: Objects<Lease>, replicas: Arc<Replicas>, stop: CancellationToken) {
    let config = watcher::Config::default().labels(&format!("{}={}", LABEL.0, LABEL.1));
    let mut events = watcher(leases, config).default_backoff().boxed();
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Apply(lease) | Event::InitApply(lease)) => {
                let renewed = lease.spec.as_ref().and_then(|s| s.renew_time.as_ref());
                let renewed = renewed.map(|time| time.0.to_string()).unwrap_or_default();
                replicas.see(&lease.name_any(), &renewed, Instant::now());
            }
            Ok(Event::Delete(lease)) => replicas.lose(&lease.name_any()),
            Ok(Event::Init) => {}
            Ok(Event::InitDone) => replicas.set_in_sync(),
            Err(error) => warn!(%error, "the other replicas cannot be followed; trying again"),
        }
    }
}

async fn renew(
    leases: Objects<Lease>,
    instance: &str,
    replicas: &Replicas,
    stop: CancellationToken,
) {
    let mut ticks = interval(RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let lease = Patch::Apply(json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": instance, "labels": { (LABEL.0): LABEL.1 } },
            "spec": {
                "holderIdentity": instance,
                "leaseDurationSeconds": EXPIRY.as_secs(),
                "renewTime": micro_time(SystemTime::now()),
            },
        }));
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match timeout(RENEW, leases.patch(instance, &params, &lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "this replica's Lease is not renewed; trying again"),
            Err(_) => warn!("this replica's Lease is not renewed in time; trying again"),
        }
        for gone in replicas.long_gone(Instant::now()) {
            debug!(
                instance = gone,
                "sweeping the Lease of a replica that is gone"
            );
            let _ = timeout(RENEW, leases.delete(&gone, &DeleteParams::default())).await;
        }
    }
}
