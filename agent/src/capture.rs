//! Makes the kernel what the controller wants, and says what is true.
//!
//! One thread owns the kernel. Inputs: the desired state ([`Capture::set_desired`]),
//! sandboxes ([`Capture::add`], [`Capture::note`], [`Capture::del`] and the
//! journal), and the kernel's own change notices. Outputs: a [`NodeStatus`] and
//! [`Event`]s. Nothing is written to the kernel before the first desired state.
//!
//! [`plan`] decides, `engine` does and reads back, [`journal`] remembers
//! across a restart.

mod engine;
pub mod journal;
pub mod kernel;
mod locate;
mod memory;
pub mod plan;
mod proxy;
pub mod sandbox;
pub mod search;
mod steering;
mod verdict;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use sluice_kernel::model::{Evidence, PodUid, Repair};
use tokio::{
    runtime::Handle,
    sync::{broadcast, oneshot, watch},
};

use self::{
    engine::{Channels, Command, Engine},
    search::Search,
};
pub use self::{
    journal::{Journal, JournalError},
    kernel::{Fault, Kernel},
    sandbox::{Attached, Sandbox},
    search::Find,
};
use crate::{
    desired::{Desired, Intent},
    status::{Event, NodeFiles, NodeStatus, PodStatus},
};

/// Commands that may wait for the engine. More are refused, not queued.
const QUEUE: usize = 1024;
/// Pause before a full queue is tried again.
const FULL: Duration = Duration::from_millis(5);
/// Events a slow reader may lag behind before it loses some.
const EVENTS: usize = 1024;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Interval of the full look at the kernel.
    pub resync: Duration,
    /// The proxy's namespace, when the configuration names it directly.
    pub proxy_netns: Option<PathBuf>,
    /// The proxy's addresses, when no proxy pod is in the intents.
    pub proxy_addresses: BTreeSet<IpAddr>,
    /// How long a sandbox is to be gone before it is forgotten without a DEL.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resync: Duration::from_secs(30),
            proxy_netns: None,
            proxy_addresses: BTreeSet::new(),
            grace: Duration::from_secs(20),
        }
    }
}

/// Handle of the engine. The engine ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Capture {
    commands: SyncSender<Command>,
    desired: Arc<watch::Sender<Option<Arc<Desired>>>>,
    files: Arc<watch::Sender<NodeFiles>>,
    status: watch::Receiver<Arc<NodeStatus>>,
    events: broadcast::Sender<Event>,
    tickets: Tickets,
}

/// A place in the order of ADDs, DELs and GCs: an ADD whose ticket is older than
/// a DEL of its container is void, however long it waited.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket(u64);

/// Gives out places in that order.
#[derive(Clone, Debug)]
struct Tickets(Arc<AtomicU64>);

impl Tickets {
    fn next(&self) -> Ticket {
        Ticket(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A pod that was captured and read back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Added {
    pub uid: PodUid,
    pub interface: String,
}

/// Why a pod could not be captured while it was being created. Nothing
/// half-applied is left.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AddError {
    /// Worth trying again once the status changes.
    #[error("{reason}")]
    NotReady { reason: String },
    /// The pod or the node cannot be captured as asked.
    #[error("{reason}")]
    Refused { reason: String },
    /// The kernel refused.
    #[error("{reason}")]
    Kernel { reason: String },
    /// A DEL of the same container came in between.
    #[error("container {container_id} was deleted while it was being added; add it again")]
    Deleted { container_id: String },
}

/// Why a check failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The sandbox was never added.
    #[error("no sandbox {container_id} was added for an enrolled pod; delete and add it again")]
    NotFound { container_id: String },
    /// Cannot tell, or cannot promise, right now.
    #[error("{reason}")]
    NotReady { reason: String },
    /// What ADD promised does not hold.
    #[error("{reason}")]
    Broken { reason: String },
    /// The kernel could not be read.
    #[error("{reason}")]
    Kernel { reason: String },
}

/// What a resync or an explanation can fail with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LookError {
    #[error("the agent has no desired state yet; nothing of the kernel is judged before it has")]
    NoState,
    #[error("no pod of uid {uid} is known on this node")]
    UnknownPod { uid: PodUid },
    #[error("the capture engine is busy or stopped; try again")]
    Busy,
    #[error("the kernel could not be read")]
    Kernel(#[source] Fault),
}

/// One pod, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    pub status: PodStatus,
    /// Each object that its capture consists of, freshly read.
    pub evidence: Vec<Evidence>,
    /// Native commands that list the same.
    pub commands: Vec<String>,
}

/// Why the engine could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread of the capture engine")]
pub struct StartError(#[from] std::io::Error);

impl Capture {
    /// Starts the engine on a thread of its own. Must be called inside a tokio
    /// runtime: the kernel's change notices are read on it.
    pub fn start<K: Kernel>(
        options: Options,
        kernel: K,
        journal: Journal,
    ) -> Result<Self, StartError> {
        Self::start_with(options, kernel, journal, None)
    }

    /// As [`Capture::start`], with somebody who finds the namespaces of proxies
    /// that were there before the agent.
    pub fn start_with<K: Kernel>(
        options: Options,
        kernel: K,
        journal: Journal,
        find: Option<Box<dyn Find>>,
    ) -> Result<Self, StartError> {
        let (commands, inbox) = sync_channel(QUEUE);
        let (status_out, status) = watch::channel(Arc::new(NodeStatus::default()));
        let (desired, desired_in) = watch::channel(None);
        let (files, files_in) = watch::channel(NodeFiles::default());
        let (events, _) = broadcast::channel(EVENTS);
        let tickets = Tickets(Arc::new(AtomicU64::new(1)));
        let search = find
            .map(|find| Search::start(find, commands.clone()))
            .transpose()?;
        let channels = Channels {
            inbox,
            wake: commands.clone(),
            desired: desired_in,
            files: files_in,
            status: status_out,
            events: events.clone(),
            tickets: tickets.clone(),
            runtime: Handle::current(),
        };
        thread::Builder::new()
            .name("capture".into())
            .spawn(move || Engine::new(options, kernel, journal, search, channels).run())?;
        Ok(Self {
            commands,
            desired: Arc::new(desired),
            files: Arc::new(files),
            status,
            events,
            tickets,
        })
    }

    /// The whole desired state. Returns at once; the kernel follows.
    pub fn set_desired(&self, desired: Arc<Desired>) {
        self.desired.send_replace(Some(desired));
        // A full queue means that the engine is about to look anyway.
        let _ = self.commands.try_send(Command::Wake);
    }

    /// The desired state as last set.
    pub fn desired(&self) -> watch::Receiver<Option<Arc<Desired>>> {
        self.desired.subscribe()
    }

    /// Whether the node was told to leave the mesh for good.
    pub fn is_leaving(&self) -> bool {
        let desired = self.desired.borrow();
        desired.as_deref().is_some_and(|desired| desired.leave)
    }

    /// How files of ours on the node are now.
    pub fn set_files(&self, change: impl FnOnce(&mut NodeFiles)) {
        let changed = self.files.send_if_modified(|files| {
            let before = files.clone();
            change(files);
            *files != before
        });
        if changed {
            let _ = self.commands.try_send(Command::Wake);
        }
    }

    /// A place in the order of ADDs and DELs, to be taken when an ADD arrives.
    pub fn ticket(&self) -> Ticket {
        self.tickets.next()
    }

    /// Whether there is an engine at all. It ends with its process, or by a
    /// defect.
    pub fn is_running(&self) -> bool {
        self.status.has_changed().is_ok()
    }

    /// One attempt to capture the pod of a new sandbox. `intent` is what the
    /// controller answered for a pod that the desired state does not have yet.
    /// [`AddError::NotReady`] is worth repeating when the status changes.
    pub async fn add(
        &self,
        ticket: Ticket,
        sandbox: Sandbox,
        intent: Option<Intent>,
    ) -> Result<Added, AddError> {
        self.ask(|reply| Command::Add {
            ticket,
            sandbox: Box::new(sandbox),
            intent: intent.map(Box::new),
            reply,
        })
        .await
        .unwrap_or_else(|| {
            Err(AddError::NotReady {
                reason: LookError::Busy.to_string(),
            })
        })
    }

    /// Takes note of a sandbox that is not to be captured now: it may be the
    /// proxy's, or its pod may be enrolled later. Never waits.
    pub fn note(&self, ticket: Ticket, sandbox: Sandbox) {
        let command = Command::Note {
            ticket,
            sandbox: Box::new(sandbox),
            reply: None,
        };
        if let Err(TrySendError::Full(command)) = self.commands.try_send(command) {
            let capture = self.clone();
            tokio::spawn(async move { capture.send(command).await });
        }
    }

    /// As [`Capture::note`], and waits until it is in the journal.
    pub async fn noted(&self, sandbox: Sandbox) {
        let (reply, done) = oneshot::channel();
        self.send(Command::Note {
            ticket: self.ticket(),
            sandbox: Box::new(sandbox),
            reply: Some(reply),
        })
        .await;
        let _ = done.await;
    }

    /// Forgets a sandbox and removes the rules that belong to it. `ifname` is
    /// the interface inside the pod; empty means any.
    pub async fn del(&self, container_id: String, ifname: String) {
        let ticket = self.ticket();
        let (reply, done) = oneshot::channel();
        self.send(Command::Del {
            ticket,
            container_id,
            ifname,
            reply,
        })
        .await;
        // The engine is gone with its process only; the next start sweeps.
        let _ = done.await;
    }

    /// Forgets every sandbox of a network but those that are valid, as
    /// [`Capture::del`] does. Returns how many those were.
    pub async fn gc(&self, network: String, valid: BTreeSet<Attached>) -> Result<usize, LookError> {
        let ticket = self.ticket();
        let collected = self.ask(|reply| Command::Gc {
            ticket,
            network,
            valid,
            reply,
        });
        collected.await.ok_or(LookError::Busy)
    }

    /// Whether what ADD promised still holds, freshly read from the kernel.
    pub async fn check(&self, sandbox: Sandbox) -> Result<(), CheckError> {
        self.ask(|reply| Command::Check {
            sandbox: Box::new(sandbox),
            reply,
        })
        .await
        .unwrap_or_else(|| {
            Err(CheckError::NotReady {
                reason: LookError::Busy.to_string(),
            })
        })
    }

    /// Looks at everything at once and repairs what differs. Returns what was
    /// repaired.
    pub async fn resync(&self) -> Result<Vec<Repair>, LookError> {
        self.ask(|reply| Command::Resync { reply })
            .await
            .unwrap_or(Err(LookError::Busy))
    }

    /// One pod: its status, what was found in the kernel, and how to list it.
    pub async fn explain(&self, uid: PodUid) -> Result<Explained, LookError> {
        self.ask(|reply| Command::Explain { uid, reply })
            .await
            .unwrap_or(Err(LookError::Busy))
    }

    /// The truth, replaced on each change.
    pub fn status(&self) -> watch::Receiver<Arc<NodeStatus>> {
        self.status.clone()
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// For events that others have to tell, such as the controller's stream.
    pub fn publish(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Waits for room in the queue: for what must not be lost.
    async fn send(&self, mut command: Command) {
        while let Err(TrySendError::Full(refused)) = self.commands.try_send(command) {
            command = refused;
            tokio::time::sleep(FULL).await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        match self.commands.try_send(command(reply)) {
            Ok(()) => answer.await.ok(),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }
}
