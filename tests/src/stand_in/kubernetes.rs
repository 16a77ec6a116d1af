//! The mesh as the API server tells it: what istiod would tell a ztunnel.
//!
//! A pod whose annotation says that it is captured is called through its proxy;
//! every other one is called plainly. Policies come from a file, if any.

mod convert;

use std::sync::Arc;

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream::select_all};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use super::mesh::Mesh;
use crate::workloads::Policy;

#[derive(Debug, thiserror::Error)]
#[error("no way to the API server; the stand-in must run in a pod, or with KUBECONFIG")]
pub struct NoCluster(#[source] kube::Error);

/// What one watch has to tell.
enum News {
    /// Everything there is has been told.
    Complete(usize),
    Changed,
    Trouble(watcher::Error),
}

type Watched<K> = (
    reflector::Store<K>,
    std::pin::Pin<Box<dyn Stream<Item = News> + Send>>,
);

/// Follows the cluster, and keeps `changed` at what it says. Returns when
/// everything has been told once.
pub(super) async fn follow(
    policies: Vec<Policy>,
    changed: watch::Sender<Arc<Mesh>>,
) -> Result<(), NoCluster> {
    // An error only says that it is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_default().await.map_err(NoCluster)?;
    let complete = Arc::new(Notify::new());
    tokio::spawn(run(client, policies, changed, Arc::clone(&complete)));
    complete.notified().await;
    Ok(())
}

async fn run(
    client: Client,
    policies: Vec<Policy>,
    changed: watch::Sender<Arc<Mesh>>,
    complete: Arc<Notify>,
) {
    let (pods, first) = watched::<Pod>(client.clone(), 0);
    let (services, second) = watched::<Service>(client.clone(), 1);
    let (slices, third) = watched::<EndpointSlice>(client, 2);
    let mut news = select_all([first, second, third]);
    let mut told = [false; 3];
    while let Some(first) = news.next().await {
        // Whatever else there is already changes the mesh only once.
        let more = std::iter::from_fn(|| news.next().now_or_never().flatten());
        for one in std::iter::once(first).chain(more) {
            match one {
                News::Complete(index) => told[index] = true,
                News::Changed => {}
                News::Trouble(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "watch; trying again"
                    );
                }
            }
        }
        if told.contains(&false) {
            continue;
        }
        let all = convert::workloads(
            &pods.state(),
            &services.state(),
            &slices.state(),
            policies.clone(),
        );
        tracing::debug!(workloads = all.workloads.len(), "the mesh changed");
        changed.send_replace(Arc::new(Mesh::new(all)));
        complete.notify_one();
    }
}

fn watched<K>(client: Client, index: usize) -> Watched<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(Api::<K>::all(client), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(move |event| match event {
            Ok(watcher::Event::InitDone) => News::Complete(index),
            Ok(_) => News::Changed,
            Err(error) => News::Trouble(error),
        });
    (store, events.boxed())
}
