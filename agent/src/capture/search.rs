//! Looks for the namespaces of proxies that were there before the agent: on a
//! thread of its own, less and less often while nothing is found.

pub mod cgroup;
mod host;
mod process;

use std::{
    collections::BTreeSet,
    fmt,
    net::IpAddr,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel},
    thread,
    time::Duration,
};

use sluice_kernel::model::{NetnsId, PodUid};

pub use self::host::HostFind;
use super::{StartError, engine::Command};
use crate::desired::Intent;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Whoever can find the namespace of a pod. May block.
pub trait Find: fmt::Debug + Send + 'static {
    /// The pod's namespace, or in words why there is none.
    fn find(&mut self, wanted: &Wanted) -> Result<NetnsId, String>;
}

/// A pod whose namespace is looked for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Wanted {
    pub uid: PodUid,
    /// For a static pod what the runtime calls it.
    pub static_uid: Option<String>,
    /// `namespace/name`, for people.
    pub name: String,
    pub addresses: BTreeSet<IpAddr>,
}

/// A pod that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) uid: PodUid,
    pub(super) netns: NetnsId,
}

/// What a search came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Searched {
    pub(super) found: Vec<Found>,
    /// Why others were not found.
    pub(super) why: Option<String>,
}

/// The engine's side.
#[derive(Debug)]
pub(super) struct Search {
    requests: Sender<BTreeSet<Wanted>>,
    asked: BTreeSet<Wanted>,
    why: Option<String>,
}

impl Search {
    /// Starts the thread; it ends when this is dropped.
    pub(super) fn start(
        find: Box<dyn Find>,
        tell: SyncSender<Command>,
    ) -> Result<Self, StartError> {
        let (requests, inbox) = channel();
        thread::Builder::new()
            .name("search".into())
            .spawn(move || run(find, &inbox, &tell))?;
        Ok(Self {
            requests,
            asked: BTreeSet::new(),
            why: None,
        })
    }

    /// Has these looked for from now on, and no others.
    pub(super) fn ask(&mut self, intents: Vec<&Intent>) {
        let wanted: BTreeSet<Wanted> = intents.into_iter().map(Wanted::of).collect();
        if wanted != self.asked {
            self.why = None;
            self.asked.clone_from(&wanted);
            // The thread only ends with us.
            let _ = self.requests.send(wanted);
        }
    }

    /// What came of it.
    pub(super) fn told(&mut self, searched: &Searched) {
        self.why.clone_from(&searched.why);
        // Should one be gone at once, it is asked for anew.
        for found in &searched.found {
            self.asked.retain(|wanted| wanted.uid != found.uid);
        }
    }

    /// Why those that are looked for were not found.
    pub(super) fn why(&self) -> Option<String> {
        self.why.clone().filter(|_| !self.asked.is_empty())
    }
}

impl Wanted {
    fn of(intent: &Intent) -> Self {
        Self {
            uid: intent.uid.clone(),
            static_uid: intent.static_uid.clone(),
            name: intent.full_name(),
            addresses: intent.addresses.clone(),
        }
    }
}

fn run(mut find: Box<dyn Find>, inbox: &Receiver<BTreeSet<Wanted>>, tell: &SyncSender<Command>) {
    let mut wanted = BTreeSet::new();
    let mut pause = FIRST;
    loop {
        let received = if wanted.is_empty() {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            inbox.recv_timeout(pause)
        };
        match received {
            Ok(newest) => {
                wanted = inbox.try_iter().last().unwrap_or(newest);
                pause = FIRST;
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if wanted.is_empty() {
            continue;
        }
        let searched = search(find.as_mut(), &wanted);
        let found: BTreeSet<PodUid> = searched.found.iter().map(|one| one.uid.clone()).collect();
        match tell.try_send(Command::Searched(Box::new(searched))) {
            Ok(()) => wanted.retain(|one| !found.contains(&one.uid)),
            // It is found again.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Disconnected(_)) => return,
        }
    }
}

fn search(find: &mut dyn Find, wanted: &BTreeSet<Wanted>) -> Searched {
    let mut searched = Searched::default();
    for one in wanted {
        match find.find(one) {
            Ok(netns) => searched.found.push(Found {
                uid: one.uid.clone(),
                netns,
            }),
            Err(why) => {
                tracing::debug!(pod = one.name, why, "a proxy's namespace is not found");
                let why = format!("pod {} was looked for: {why}", one.name);
                searched.why.get_or_insert(why);
            }
        }
    }
    searched
}
