//! Everything this replica knows: the index, and the streams of the nodes it
//! serves. The one place where they meet, under one lock that is never held
//! across anything that waits.

mod cases;
mod stream;
pub mod touch;
mod view;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tracing::info;

pub use stream::Stream;
pub use view::{NodeView, PodView, Written};

use crate::{
    index::{Changes, Index, NodeState, Question, Resolved, Update},
    model::{Intent, Name, Revision, Wanted},
    ops::metrics as recorded,
    select::Rules,
    serve::{Grace, Outbox, Snapshot},
    source::{Batch, Problem},
    writeback::Board,
};

/// What this replica knows.
#[derive(Debug)]
pub struct Fleet {
    grace: Grace,
    /// Absent where there is nobody to write to.
    board: Option<Arc<Board>>,
    state: Mutex<State>,
    position: watch::Sender<Position>,
    /// Since when the source has not been followed.
    lost: watch::Sender<Option<Instant>>,
}

#[derive(Debug)]
struct State {
    index: Index,
    in_sync: bool,
    reached: Revision,
    lost: Option<Instant>,
    problems: Arc<[Problem]>,
    never_read: Arc<[String]>,
    streams: HashMap<Name, Arc<Stream>>,
    uninstall: Uninstall,
}

/// Whether Sluice is asked to leave the cluster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Uninstall {
    /// Not known yet: no agent is answered.
    Unknown,
    #[default]
    NotAsked,
    Asked,
    /// Every node has left: nothing is written any more.
    Finished,
}

impl Uninstall {
    fn leaves(self) -> bool {
        matches!(self, Self::Asked | Self::Finished)
    }
}

/// How far the source has been followed.
#[derive(Clone, Debug, Default)]
pub struct Position {
    pub in_sync: bool,
    pub revision: Revision,
}

/// What an agent says when it opens its stream.
#[derive(Debug, Default)]
pub struct Greeting {
    pub agent_version: String,
    pub newest: Option<Revision>,
    pub steered: HashSet<String>,
}

/// Why a node is not served now.
#[derive(Debug, thiserror::Error)]
pub enum NotNow {
    #[error("the source is not in sync yet; try another replica, or again soon")]
    NotInSync,
    #[error("this replica is behind what the agent has seen; try another")]
    Behind,
    #[error("this replica has lost touch with its source; try another")]
    OutOfTouch,
    /// What the node holds may be in what could not be read: speaking now would
    /// let go of it.
    #[error(
        "pod {uid} is steered on the node, and may be in {place}, which could never be read; \
         correct or remove that first"
    )]
    Unread { uid: String, place: String },
}

impl Fleet {
    /// Knows nothing, and is not in sync.
    pub fn new(rules: Rules, release_after: Duration) -> Self {
        let state = State {
            index: Index::new(rules),
            in_sync: false,
            reached: Revision::default(),
            lost: None,
            problems: [].into(),
            never_read: [].into(),
            streams: HashMap::new(),
            uninstall: Uninstall::NotAsked,
        };
        Self {
            grace: Grace {
                release_after,
                unwritten_within: None,
            },
            board: None,
            state: Mutex::new(state),
            position: watch::Sender::default(),
            lost: watch::Sender::default(),
        }
    }

    /// With somebody who writes back what is on the board: a pod that leaves
    /// keeps its rules until what is written about it is taken back, or for
    /// `unwritten_within`.
    pub fn written_back(mut self, board: Arc<Board>, unwritten_within: Duration) -> Self {
        self.grace.unwritten_within = Some(unwritten_within);
        self.board = Some(board);
        self.state().uninstall = Uninstall::Unknown;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in everything a source says, until it ends.
    pub async fn follow(&self, mut batches: mpsc::Receiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            self.apply(batch);
        }
    }

    /// Takes in one batch, and queues what it changes for the nodes' streams.
    pub fn apply(&self, batch: Batch) {
        let started = Instant::now();
        let position = {
            let mut state = self.state();
            let touched = self.touched(&batch.updates);
            let changes = state.index.apply(batch.updates, batch.revision.clone());
            state.problems = batch.problems;
            state.never_read = batch.never_read;
            state.in_sync |= batch.in_sync;
            state.reached = batch.reached.clone();
            state.lost = batch.out_of_touch;
            self.spread(&state, changes, started);
            self.mark_touched(&state, touched);
            state.record();
            Position {
                in_sync: state.in_sync,
                revision: batch.reached,
            }
        };
        recorded::source_in_sync(position.in_sync);
        recorded::source_in_touch(batch.out_of_touch.is_none());
        recorded::apply(started.elapsed());
        self.position.send_replace(position);
        self.lost.send_if_modified(|lost| {
            let changed = *lost != batch.out_of_touch;
            *lost = batch.out_of_touch;
            changed
        });
    }

    /// How far the source has been followed, and how it goes on.
    pub fn position(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Since when the source has not been followed, and how it goes on.
    pub fn lost(&self) -> watch::Receiver<Option<Instant>> {
        self.lost.subscribe()
    }

    /// Ready when agents are answered, and with what is so now; or why not.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.state();
        let why = if !state.in_sync {
            "the source is not in sync yet"
        } else if touch::is_lost(state.lost, Instant::now()) {
            "the source is not followed"
        } else if state.uninstall == Uninstall::Unknown {
            "it is not known yet whether Sluice is asked to leave the cluster"
        } else {
            return Ok(());
        };
        Err(match state.problems.first() {
            Some(problem) => format!("{why}: {problem}"),
            None => why.to_owned(),
        })
    }

    /// Opens the node's stream; an older one of the same node ends.
    ///
    /// From the snapshot on, the stream's outbox has everything that changes.
    pub fn join(
        &self,
        node: &Name,
        greeting: &Greeting,
    ) -> Result<(Arc<Stream>, Snapshot), NotNow> {
        let mut state = self.state();
        let told = state.index.node(node);
        state.check(greeting, &told)?;
        // What the agent has seen is in what is known here, also when the newest
        // change that is known here is older.
        let newest = greeting.newest.clone().unwrap_or_default();
        let revision = state.index.revision().clone().not_before(&newest);
        let now = Instant::now();
        let (outbox, snapshot) = Outbox::begin(told, &greeting.steered, revision, self.grace, now);
        let token = self.board.as_ref().map(|board| board.token());
        let stream = Arc::new(Stream::new(
            greeting.agent_version.clone(),
            token.unwrap_or_default(),
            outbox,
            state.uninstall.leaves(),
        ));
        let old = state.streams.insert(Arc::clone(node), Arc::clone(&stream));
        if let Some(old) = old {
            info!(%node, "a newer stream replaces the node's");
            old.replace();
        }
        recorded::streams(state.streams.len());
        self.mark_node(&state, node);
        Ok((stream, snapshot))
    }

    /// The stream has ended.
    pub fn leave(&self, node: &Name, stream: &Arc<Stream>) {
        let mut state = self.state();
        let current = state.streams.get(node);
        if current.is_some_and(|current| Arc::ptr_eq(current, stream)) {
            state.streams.remove(node);
        }
        recorded::streams(state.streams.len());
        self.mark_node(&state, node);
    }

    /// One pod, for the node that asks.
    pub fn resolve(&self, node: &str, question: Question<'_>) -> Result<Resolved, NotNow> {
        let state = self.state();
        if !state.in_sync {
            return Err(NotNow::NotInSync);
        }
        let mut resolved = state.index.resolve(node, question);
        let unsure = matches!(resolved, Resolved::NotKnown | Resolved::NotYours);
        if unsure && touch::is_lost(state.lost, Instant::now()) {
            return Err(NotNow::OutOfTouch);
        }
        // While a pod is released its node holds on to it.
        if let Resolved::Yours(intent) = &mut resolved
            && let Some(stream) = state.streams.get(node)
            && let Some(said) = stream.said(&intent.pod.uid)
        {
            *intent = said;
        }
        Ok(resolved)
    }

    /// All that is wrong with the source now.
    pub fn problems(&self) -> Arc<[Problem]> {
        Arc::clone(&self.state().problems)
    }
}

impl State {
    fn check(&self, greeting: &Greeting, told: &NodeState) -> Result<(), NotNow> {
        if !self.in_sync || self.uninstall == Uninstall::Unknown {
            return Err(NotNow::NotInSync);
        }
        let newest = greeting.newest.as_ref();
        if newest.is_some_and(|newest| self.reached.is_behind(newest)) {
            return Err(NotNow::Behind);
        }
        if touch::sends_away(self.lost, Instant::now()) {
            return Err(NotNow::OutOfTouch);
        }
        // Nothing is let go of because something is not known yet: neither a
        // pod that may be in an unread file, nor one whose namespace may be.
        let Some(place) = self.never_read.first() else {
            return Ok(());
        };
        let unsure = |uid: &&String| match told.pods.get(uid.as_str()) {
            None => true,
            Some(intent) => {
                !intent.wanted.is_enrolled() && !self.index.knows_namespace(&intent.pod.namespace)
            }
        };
        match greeting.steered.iter().find(unsure) {
            None => Ok(()),
            Some(uid) => Err(NotNow::Unread {
                uid: uid.clone(),
                place: place.clone(),
            }),
        }
    }

    fn record(&self) {
        for wanted in Wanted::ALL {
            recorded::pods(wanted, self.index.count(wanted));
        }
        recorded::nodes(self.index.nodes().count());
    }

    // What the pod's node is told of it now.
    fn said(&self, intent: &Arc<Intent>) -> Arc<Intent> {
        let node = intent.pod.node.as_ref();
        let stream = node.and_then(|node| self.streams.get(node));
        let said = stream.and_then(|stream| stream.said(&intent.pod.uid));
        said.unwrap_or_else(|| Arc::clone(intent))
    }
}
