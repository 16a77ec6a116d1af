//! Pods and namespaces of a cluster, watched.
//!
//! One task per collection lists it and watches on from there (`watch`); what
//! it knows is a `collection`, in which a new list is compared with what was
//! known and never passes for deletions. A third asks whether the API server is
//! still there when nothing is heard (`probe`). Their news are joined to
//! batches here. Nothing is ever written.
//!
//! Of an API server that is slow, wrong or gone every failure is the same: what
//! was known stays, it is said so since when, and it is tried again later.

mod api;
mod backoff;
mod collection;
mod connect;
mod contact;
mod convert;
mod document;
mod failure;
mod probe;
mod teller;
mod watch;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use kube::Client;
use tokio::{
    sync::{mpsc, watch::channel},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Batch, Problem, Source};
use crate::{
    model::{Relevant, Revision},
    ops::metrics as recorded,
};
use backoff::Backoff;
pub use connect::{ConnectError, connect};
use contact::Contact;
use convert::{Kind, Namespaces, Pods};
use teller::Teller;
use watch::Watch;

const PODS: &str = Pods::NAME;
/// News on their way.
const NEWS: usize = 64;

/// A cluster as a source.
pub struct Kubernetes {
    client: Client,
    relevant: Relevant,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// The API server need not be there yet.
    pub fn new(client: Client, relevant: Relevant) -> Self {
        Self { client, relevant }
    }
}

impl Source for Kubernetes {
    async fn run(self, sink: mpsc::Sender<Batch>, stop: CancellationToken) {
        let cluster = tokio::select! {
            cluster = self.identify(&sink) => cluster,
            () = stop.cancelled() => return,
        };
        info!(cluster, "following the API server");
        let contact = Contact::new(&[Pods::NAME, Namespaces::NAME]);
        let (news, mut inbox) = mpsc::channel(NEWS);
        let (answers, mut answering) = channel(None);
        let mut tasks = JoinSet::new();
        let Self { client, relevant } = self;
        tasks.spawn(
            Watch::new(
                client.clone(),
                cluster.clone(),
                Namespaces::new(relevant.clone()),
                contact.clone(),
                news.clone(),
            )
            .run(),
        );
        tasks.spawn(
            Watch::new(
                client.clone(),
                cluster.clone(),
                Pods::new(relevant),
                contact.clone(),
                news,
            )
            .run(),
        );
        tasks.spawn(probe::run(client, cluster.clone(), contact, answers));
        let mut teller = Teller::new(cluster, random());
        loop {
            let mut ready = Vec::new();
            tokio::select! {
                () = stop.cancelled() => return,
                received = inbox.recv_many(&mut ready, NEWS) => if received == 0 {
                    return;
                },
                Ok(()) = answering.changed() => {
                    teller.answers(answering.borrow_and_update().clone());
                }
            }
            let batch = teller.batch(ready);
            recorded::source_problems(batch.problems.len());
            if sink.send(batch).await.is_err() {
                return;
            }
        }
    }
}

impl Kubernetes {
    // Which cluster it is comes before everything else.
    async fn identify(&self, sink: &mpsc::Sender<Batch>) -> String {
        let mut backoff = Backoff::default();
        loop {
            let failure = match api::cluster(&self.client).await {
                Ok(cluster) => return cluster,
                Err(failure) => failure,
            };
            recorded::source_error("probe", failure.word());
            warn!(reason = %failure, "cannot begin to follow the API server; trying again");
            let problem = Problem {
                place: "API server".to_owned(),
                line: None,
                reason: failure.to_string(),
            };
            recorded::source_problems(1);
            let batch = Batch {
                problems: [problem].into(),
                ..Batch::nothing(Revision::default())
            };
            // Nobody listens: the end comes by itself.
            let _ = sink.send(batch).await;
            sleep(backoff.next()).await;
        }
    }
}

fn random() -> u64 {
    let mut run = [0; 8];
    // Without randomness the time still tells runs apart.
    if SystemRandom::new().fill(&mut run).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        return now.map_or(0, |now| now.as_micros() as u64);
    }
    u64::from_be_bytes(run)
}
