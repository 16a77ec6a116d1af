//! What is found out about pods and nodes, written back to the API server: the
//! annotation of captured pods, the condition and the start-up taint of nodes,
//! and events for people.
//!
//! Done by the replica that holds a node's stream, without a leader. Whoever
//! opens a stream puts its token on the node (the *claim*), together with the
//! condition; nothing about the node or its pods is written before that, and a
//! replica that finds another's token where its own was has been overtaken: it
//! stops, and ends its own stream, so that an agent that is really there
//! comes back. Every later write names the object's revision it was decided by.
//!
//! [`decide`] says what to write, purely; `queue` says when; [`Api`] does it.

pub mod api;
mod board;
pub mod decide;
pub mod events;
mod kube_api;
mod limit;
mod names;
mod queue;
mod replica;
mod seen;
mod watch;
mod writer;

pub use api::{Api, ApiError, NodeWrite, PodRef};
pub use board::{Board, Key};
pub use decide::{NodeCase, PodCase, Reported};
pub use kube_api::KubeApi;
pub(crate) use kube_api::now;
pub use names::{ANNOTATION_ENABLED, CLAIM, CONDITION, FIELD_MANAGER, STARTUP_TAINT};
pub use replica::Replicas;
pub use seen::{Condition, SeenNode, SeenPod, Ternary};
pub use watch::{follow_nodes, follow_replicas};
pub use writer::{Limits, Writer};

use std::{env, sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{fleet::Fleet, uninstall};

/// A pod's annotation that cannot be taken away keeps its rules no longer.
const UNWRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// What is written where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own namespace.
    pub namespace: String,
    /// Empty: none.
    pub startup_taint: String,
    pub limits: Limits,
}

/// Writing back to one API server.
#[derive(Debug)]
pub struct WriteBack {
    api: Arc<KubeApi>,
    client: Unprinted<Client>,
    settings: Settings,
    board: Arc<Board>,
}

struct Unprinted<T>(T);

impl<T> std::fmt::Debug for Unprinted<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

impl WriteBack {
    /// Writes nothing yet.
    pub fn new(client: Client, settings: Settings) -> Self {
        let instance = instance(&host_name());
        let api = KubeApi::new(client.clone(), &settings.startup_taint, &instance);
        Self {
            api: Arc::new(api),
            client: Unprinted(client),
            settings,
            board: Arc::new(Board::new(instance)),
        }
    }

    /// The fleet whose knowledge is written.
    pub fn attach(&self, fleet: Fleet) -> Arc<Fleet> {
        Arc::new(fleet.written_back(Arc::clone(&self.board), UNWRITTEN_WITHIN))
    }

    /// Follows what has to be followed and writes, until `stop`.
    pub fn start(self, fleet: Arc<Fleet>, stop: &CancellationToken) {
        let Self {
            api,
            client: Unprinted(client),
            settings,
            board,
        } = self;
        let Settings {
            namespace,
            startup_taint,
            limits,
        } = settings;
        let instance = board.instance().to_owned();
        let replicas = Arc::new(Replicas::new(instance.clone()));
        tokio::spawn(follow_nodes(
            client.clone(),
            Arc::clone(&board),
            startup_taint,
            stop.clone(),
        ));
        tokio::spawn(follow_replicas(
            client.clone(),
            namespace.clone(),
            instance,
            Arc::clone(&replicas),
            stop.clone(),
        ));
        tokio::spawn(uninstall::follow(
            client,
            namespace,
            Arc::clone(&fleet),
            stop.clone(),
        ));
        tokio::spawn(Writer::new(api, fleet, board, replicas, limits).run(stop.clone()));
    }
}

fn host_name() -> String {
    let name = env::var("SLUICE_POD_NAME").or_else(|_| env::var("HOSTNAME"));
    name.unwrap_or_default()
}

// A name that no other run of any replica has: it is also that of a Lease.
fn instance(host: &str) -> String {
    let mut random = [0; 4];
    // Without randomness the host's name has to do.
    let _ = SystemRandom::new().fill(&mut random);
    let random = u32::from_be_bytes(random);
    let host: String = host
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(100)
        .collect();
    let host = match host.trim_matches('-') {
        "" => "sluice-controller",
        host => host,
    };
    format!("{host}-{random:08x}")
}

#[cfg(test)]
mod tests {
    use super::instance;

    #[test]
    fn an_instance_is_a_name_for_an_object() {
        for host in ["", "Node_1.example", "--", "sluice-controller-7d4-x2x"] {
            let name = instance(host);
            let (stem, random) = name.rsplit_once('-').unwrap();
            assert_eq!(random.len(), 8, "{name}");
            assert!(
                stem.starts_with(|c: char| c.is_ascii_alphanumeric()),
                "{name}"
            );
            assert!(!name.contains(['_', '.', '/']), "{name}");
        }
    }
}
