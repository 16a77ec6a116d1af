//! The loop: takes commands, looks at the kernel when something may have
//! changed, makes it what is wanted, and publishes what was read back.

mod add;
mod alone;
mod collect;
mod leave;
mod look;
mod pass;
mod proxies;
mod publish;
mod sweep;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use sluice_kernel::model::{NetnsId, PodUid, Repair};
use tokio::{
    runtime::Handle,
    sync::{broadcast, oneshot, watch},
    task::JoinHandle,
};

use self::pass::Cause;
use super::{
    AddError, Added, CheckError, Explained, LookError, Options, Ticket, Tickets,
    journal::{Entry, Journal},
    kernel::{Changes, Kernel},
    locate,
    memory::Memory,
    sandbox::{Attached, Sandbox},
    search::{Search, Searched},
    steering::Steering,
};
use crate::{
    desired::{Desired, Intent},
    status::{Event, NodeFiles, NodeStatus},
};

/// Between two looks at what the kernel does not announce.
const TICK: Duration = Duration::from_millis(500);
/// Changes that come this close together are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The same while something keeps failing: our own attempts are changes too.
const DEBOUNCE_FAILING: Duration = Duration::from_secs(1);
/// Pods that are being added put the look at changes off by this much at most:
/// most of those changes are our own.
const PATIENCE: Duration = Duration::from_millis(400);
/// Least time between two change notices.
const NOTICE: Duration = Duration::from_millis(50);

/// What the engine can be asked.
#[derive(Debug)]
pub(super) enum Command {
    /// The desired state was set.
    Wake,
    /// Something in the kernel may have changed.
    Changed,
    Add {
        ticket: Ticket,
        sandbox: Box<Sandbox>,
        intent: Option<Box<Intent>>,
        reply: oneshot::Sender<Result<Added, AddError>>,
    },
    Note {
        ticket: Ticket,
        sandbox: Box<Sandbox>,
        reply: Option<oneshot::Sender<()>>,
    },
    Del {
        ticket: Ticket,
        container_id: String,
        ifname: String,
        reply: oneshot::Sender<()>,
    },
    Gc {
        ticket: Ticket,
        network: String,
        valid: BTreeSet<Attached>,
        reply: oneshot::Sender<usize>,
    },
    Check {
        sandbox: Box<Sandbox>,
        reply: oneshot::Sender<Result<(), CheckError>>,
    },
    Resync {
        reply: oneshot::Sender<Result<Vec<Repair>, LookError>>,
    },
    Explain {
        uid: PodUid,
        reply: oneshot::Sender<Result<Explained, LookError>>,
    },
    /// Proxies were looked for.
    Searched(Box<Searched>),
}

/// How the engine is spoken to and how it speaks.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) inbox: Receiver<Command>,
    pub(super) wake: SyncSender<Command>,
    pub(super) desired: watch::Receiver<Option<Arc<Desired>>>,
    pub(super) files: watch::Receiver<NodeFiles>,
    pub(super) status: watch::Sender<Arc<NodeStatus>>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) tickets: Tickets,
    pub(super) runtime: Handle,
}

/// The engine. Lives on its thread.
#[derive(Debug)]
pub(super) struct Engine<K: Kernel> {
    options: Options,
    channels: Channels,
    memory: Memory,
    steering: Steering<K>,
    /// Looks for proxies that nobody told of.
    search: Option<Search>,
    watching: Option<Watching>,
    /// Sandboxes that are gone, since when that has been seen.
    missing: BTreeMap<String, Instant>,
    /// Repairs of tampering since start.
    repairs: u64,
    tick: Instant,
    resync: Instant,
    /// When the next pass is due, whatever happens.
    due: Option<Instant>,
    /// The kernel told of changes that no pass has looked at yet.
    noticed: Option<Noticed>,
}

/// Changes in the kernel, to be looked at.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    first: Instant,
    due: Instant,
}

/// The task that forwards the kernel's change notices.
#[derive(Debug)]
struct Watching {
    proxy: Option<NetnsId>,
    task: JoinHandle<()>,
}

impl<K: Kernel> Engine<K> {
    pub(super) fn new(
        options: Options,
        kernel: K,
        journal: Journal,
        search: Option<Search>,
        channels: Channels,
    ) -> Self {
        let mut steering = Steering::new(kernel);
        let tickets = channels.tickets.clone();
        let memory = Memory::load(journal, tickets, |entry| {
            locate::agrees(&mut steering.kernel, entry)
        });
        let now = Instant::now();
        Self {
            resync: now + options.resync,
            options,
            channels,
            memory,
            steering,
            search,
            watching: None,
            missing: BTreeMap::new(),
            repairs: 0,
            tick: now + TICK,
            due: None,
            noticed: None,
        }
    }

    /// Runs until every handle is gone.
    pub(super) fn run(mut self) {
        self.publish_waiting();
        // A desired state may have been set before this thread ran.
        self.due = Some(Instant::now());
        loop {
            self.turn();
            let wait = self.next().saturating_duration_since(Instant::now());
            match self.channels.inbox.recv_timeout(wait) {
                Ok(command) => self.handle(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.channels.desired.has_changed().is_err() {
                return;
            }
        }
    }

    fn next(&self) -> Instant {
        let noticed = self.noticed.map(|noticed| noticed.due);
        let soonest = self.tick.min(self.resync);
        self.due
            .into_iter()
            .chain(noticed)
            .fold(soonest, Instant::min)
    }

    /// A pod was added by itself: what it changed is ours, and the next one is
    /// not to wait for a look at everything.
    fn put_off(&mut self) {
        if let Some(noticed) = &mut self.noticed {
            let later = noticed.due.max(Instant::now() + DEBOUNCE);
            noticed.due = later.min(noticed.first + PATIENCE);
        }
    }

    /// Does what is due.
    fn turn(&mut self) {
        let now = Instant::now();
        if now >= self.tick {
            self.tick = now + TICK;
            self.look_around();
        }
        if now >= self.resync {
            self.pass(Cause::Resync);
            return;
        }
        let noticed = self.noticed.map(|noticed| noticed.due);
        if self.due.into_iter().chain(noticed).any(|due| now >= due) {
            self.pass(Cause::Change);
        }
    }

    /// Looks at what the kernel does not announce.
    fn look_around(&mut self) {
        if self.channels.desired.borrow().is_none() {
            return;
        }
        let retry = self.steering.backoff.due();
        let changed = self.steering.look_at_proxies() || self.steering.is_reborn(&self.options);
        if changed
            || self.steering.may_have_changed()
            || !self.steering.kernel.sysctls_ok()
            || retry.is_some_and(|due| due <= Instant::now())
        {
            self.due = Some(Instant::now());
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Wake => self.due = Some(Instant::now()),
            Command::Changed => {
                let debounce = if self.steering.backoff.is_failing() {
                    DEBOUNCE_FAILING
                } else {
                    DEBOUNCE
                };
                let first = Instant::now();
                let due = first + debounce;
                self.noticed.get_or_insert(Noticed { first, due });
            }
            Command::Add {
                ticket,
                sandbox,
                intent,
                reply,
            } => {
                let added = self.add(ticket, *sandbox, intent.map(|intent| *intent));
                let _ = reply.send(added);
            }
            Command::Note {
                ticket,
                sandbox,
                reply,
            } => {
                self.note(ticket, *sandbox);
                // Whoever does not wait has dropped the other end.
                reply.map(|reply| reply.send(()));
            }
            Command::Del {
                ticket,
                container_id,
                ifname,
                reply,
            } => {
                self.del(ticket, container_id, &ifname);
                let _ = reply.send(());
            }
            Command::Gc {
                ticket,
                network,
                valid,
                reply,
            } => {
                let _ = reply.send(self.collect(ticket, &network, &valid));
            }
            Command::Check { sandbox, reply } => {
                let _ = reply.send(self.check(&sandbox));
            }
            Command::Resync { reply } => {
                let _ = reply.send(self.resync());
            }
            Command::Explain { uid, reply } => {
                let _ = reply.send(self.explain(&uid));
            }
            Command::Searched(searched) => self.searched(*searched),
        }
    }

    /// Follows the proxy with the watch for changes.
    fn watch(&mut self) {
        let proxy = self
            .steering
            .node
            .proxy
            .as_ref()
            .map(|proxy| proxy.netns.clone());
        let current = self.watching.as_ref();
        if current.is_some_and(|w| w.proxy == proxy && !w.task.is_finished()) {
            return;
        }
        let _entered = self.channels.runtime.enter();
        match self.steering.kernel.watch(proxy.as_ref()) {
            Ok(changes) => {
                let wake = self.channels.wake.clone();
                let task = self.channels.runtime.spawn(forward(changes, wake));
                if let Some(old) = self.watching.replace(Watching { proxy, task }) {
                    old.task.abort();
                }
                // What changed before the watch was there, nobody told us.
                self.due = Some(Instant::now() + DEBOUNCE);
            }
            Err(fault) => tracing::warn!(
                %fault,
                "cannot watch the kernel for changes; the next pass tries again"
            ),
        }
    }
}

impl<K: Kernel> Drop for Engine<K> {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.task.abort();
        }
    }
}

/// Tells the engine of every change, until the watch breaks.
async fn forward<C: Changes>(mut changes: C, wake: SyncSender<Command>) {
    loop {
        let seen = changes.changed().await;
        let broken = seen.is_err();
        if let Err(error) = seen {
            tracing::warn!(
                error = &error as &dyn Error,
                "the watch for changes broke; it is started anew"
            );
            tokio::time::sleep(DEBOUNCE_FAILING).await;
        }
        // A full queue means that the engine is about to look anyway.
        let _ = wake.try_send(Command::Changed);
        if broken {
            return;
        }
        tokio::time::sleep(NOTICE).await;
    }
}

/// A sandbox as the journal keeps it, before anything was applied for it.
fn fresh(sandbox: Sandbox, uid: Option<PodUid>, netns: Option<NetnsId>, order: u64) -> Entry {
    Entry {
        sandbox,
        uid,
        netns,
        order,
        link: None,
        digest: None,
        intent: None,
    }
}

#[cfg(test)]
mod tests;
