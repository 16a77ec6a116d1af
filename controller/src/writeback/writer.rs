//! Carries out what is decided: one loop, some writes at a time, each key at
//! one place.

mod plan;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    api::{Api, ApiError, NodeWrite, PodRef},
    board::{Board, Key},
    decide::NodeCase,
    events::{self, Teller},
    limit::{Bucket, Spacing},
    queue::{Queue, Went},
    replica::Replicas,
    seen::{Condition, SeenNode, SeenPod},
};
use crate::{
    fleet::Fleet,
    model::{Name, Uid},
    ops::metrics as recorded,
};

/// How much may be written.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Per second, over time; twice that at once.
    pub writes_per_second: f64,
    /// On their way at the same time.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            writes_per_second: 100.0,
            concurrent: 8,
        }
    }
}

/// Writes back what the fleet knows.
#[derive(Debug)]
pub struct Writer<A> {
    api: Arc<A>,
    fleet: Arc<Fleet>,
    board: Arc<Board>,
    replicas: Arc<Replicas>,
    limits: Limits,
    queue: Queue,
    bucket: Bucket,
    pods: HashMap<Uid, PodMemory>,
    nodes: HashMap<Name, NodeMemory>,
    out: JoinSet<Answer>,
    flights: HashMap<Id, Flight>,
    events: Option<Teller>,
}

/// What is remembered of a pod whose node's stream is here.
#[derive(Debug, Default)]
struct PodMemory {
    /// As our last write or read found it, until the source has got there.
    seen: Option<SeenPod>,
    spacing: Spacing,
    /// The annotation is somebody else's business.
    foreign: bool,
    /// A write has not gone as expected: look before the next.
    look: bool,
    /// Name of the last event told of it.
    told: Option<String>,
}

/// What is remembered of a node.
#[derive(Debug, Default)]
struct NodeMemory {
    /// The stream that the claim is for, and the revision of the node with it.
    claimed: Option<(String, u64)>,
    spacing: Spacing,
    look: bool,
    /// When the claim was last known to be the API server's latest word.
    verified: Option<Instant>,
    /// Since when nobody has the stream that the claim on it names.
    lost: Option<(Option<String>, Instant)>,
}

/// One request.
#[derive(Debug)]
enum Job {
    Look {
        pod: Option<PodRef>,
        node: Name,
    },
    Annotate {
        pod: PodRef,
        revision: Option<u64>,
        force: bool,
    },
    Remove {
        pod: PodRef,
        revision: Option<u64>,
    },
    RemoveOwn {
        pod: PodRef,
        revision: Option<u64>,
    },
    Condition {
        node: Name,
        write: NodeWrite,
        before: Option<Condition>,
    },
    Untaint {
        node: Name,
    },
}

impl Job {
    fn word(&self) -> &'static str {
        match self {
            Self::Look { .. } => "look",
            Self::Annotate { .. } => "annotate",
            Self::Remove { .. } | Self::RemoveOwn { .. } => "remove_annotation",
            Self::Condition { .. } => "condition",
            Self::Untaint { .. } => "untaint",
        }
    }
}

// On its way, for this stream of the node.
#[derive(Debug)]
struct Flight {
    key: Key,
    node: Name,
    token: Option<String>,
    kind: &'static str,
    started: Instant,
    abort: AbortHandle,
}

// What a request found.
#[derive(Debug)]
struct Answer {
    job: Job,
    result: Result<Found, ApiError>,
}

#[derive(Debug)]
enum Found {
    Pod(SeenPod),
    Node(SeenNode),
    Both(Option<SeenPod>, Option<SeenNode>),
}

/// What comes of looking at a key.
#[derive(Debug)]
enum Step {
    Nothing,
    Later(Duration),
    Do {
        job: Box<Job>,
        node: Name,
        token: Option<String>,
    },
}

impl<A: Api> Writer<A> {
    pub fn new(
        api: Arc<A>,
        fleet: Arc<Fleet>,
        board: Arc<Board>,
        replicas: Arc<Replicas>,
        limits: Limits,
    ) -> Self {
        Self {
            api,
            fleet,
            board,
            replicas,
            limits,
            queue: Queue::default(),
            bucket: Bucket::new(limits.writes_per_second, Instant::now()),
            pods: HashMap::new(),
            nodes: HashMap::new(),
            out: JoinSet::new(),
            flights: HashMap::new(),
            events: None,
        }
    }

    /// Writes until `stop`; what is on its way then is given up.
    pub async fn run(mut self, stop: CancellationToken) {
        self.events = Some(Teller::start(Arc::clone(&self.api), stop.clone()));
        let board = Arc::clone(&self.board);
        loop {
            self.take_marks();
            let next = self.launch();
            recorded::writes_waiting(self.queue.len());
            tokio::select! {
                () = stop.cancelled() => return,
                () = board.marked() => {}
                () = sleep_until(next.unwrap_or_else(far)), if next.is_some() => {}
                Some(landed) = self.out.join_next_with_id() => self.land(landed),
            }
        }
    }

    fn take_marks(&mut self) {
        let now = Instant::now();
        for key in self.board.take_marks() {
            if let Key::Node(node) = &key {
                self.drop_flights(node);
            }
            self.queue.mark(key, now);
        }
    }

    // A stream that is lost takes its writes along.
    fn drop_flights(&self, node: &Name) {
        let token = self.fleet.node_case(node).token;
        for flight in self.flights.values() {
            if flight.node == *node && flight.token.is_some() && flight.token != token {
                flight.abort.abort();
            }
        }
    }

    // Starts what may be started; says when there may be more.
    fn launch(&mut self) -> Option<Instant> {
        let now = Instant::now();
        while self.out.len() < self.limits.concurrent {
            let Some(key) = self.queue.next(now) else {
                return self.queue.next_due();
            };
            match self.step(&key, now) {
                Step::Nothing => self.queue.done(key, Went::Done, now),
                Step::Later(wait) => self.queue.done(key, Went::Later(wait), now),
                Step::Do { job, node, token } => match self.bucket.take(now) {
                    Ok(()) => self.start(key, *job, node, token),
                    Err(when) => {
                        self.queue.done(key, Went::Later(when - now), now);
                        return Some(when);
                    }
                },
            }
        }
        None
    }

    fn step(&mut self, key: &Key, now: Instant) -> Step {
        match key {
            Key::Pod(uid) => self.pod_step(uid, now),
            Key::Node(name) => self.node_step(name, now),
        }
    }

    fn start(&mut self, key: Key, job: Job, node: Name, token: Option<String>) {
        let kind = job.word();
        let api = Arc::clone(&self.api);
        let abort = self.out.spawn(async move {
            let result = carry_out(&*api, &job).await;
            Answer { job, result }
        });
        let flight = Flight {
            key,
            node,
            token,
            kind,
            started: Instant::now(),
            abort: abort.clone(),
        };
        self.flights.insert(abort.id(), flight);
    }

    fn land(&mut self, landed: Result<(Id, Answer), JoinError>) {
        let id = landed.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(flight) = self.flights.remove(&id) else {
            return;
        };
        let now = Instant::now();
        let went = match landed {
            Ok((_, Answer { job, result })) => {
                let word = result.as_ref().map_or_else(ApiError::word, |_| "ok");
                recorded::write(flight.kind, word, now - flight.started);
                self.take_in(&flight, job, result, now)
            }
            // Nobody knows whether it was written.
            Err(_) => {
                recorded::write(flight.kind, "dropped", now - flight.started);
                self.look(&flight.key);
                Went::Later(Duration::ZERO)
            }
        };
        self.queue.done(flight.key, went, now);
    }

    fn look(&mut self, key: &Key) {
        match key {
            Key::Pod(uid) => self.pods.entry(Arc::clone(uid)).or_default().look = true,
            Key::Node(name) => self.nodes.entry(Arc::clone(name)).or_default().look = true,
        }
    }

    fn take_in(
        &mut self,
        flight: &Flight,
        job: Job,
        result: Result<Found, ApiError>,
        now: Instant,
    ) -> Went {
        match result {
            Ok(found) => {
                debug!(key = ?flight.key, kind = flight.kind, "done");
                let looked = matches!(found, Found::Both(..));
                self.found(flight, job, found, now);
                // Is there more to do?
                if looked {
                    Went::Again
                } else {
                    Went::Later(Duration::ZERO)
                }
            }
            Err(ApiError::Gone { .. }) => {
                if let Key::Pod(uid) = &flight.key {
                    // Its removal is on its way; nothing written is left.
                    self.fleet.unwritten(uid);
                }
                Went::Done
            }
            Err(error) => {
                if !matches!(error, ApiError::Conflict { .. }) {
                    let source = std::error::Error::source(&error);
                    warn!(key = ?flight.key, %error, source, "not written");
                }
                self.look(&flight.key);
                Went::Failed
            }
        }
    }

    fn found(&mut self, flight: &Flight, job: Job, found: Found, now: Instant) {
        match (found, &flight.key) {
            (Found::Pod(seen), Key::Pod(uid)) => {
                let memory = self.pods.entry(Arc::clone(uid)).or_default();
                match job {
                    Job::Annotate { .. } => memory.spacing.written(now),
                    // Not only ours: it is not for us to take.
                    Job::RemoveOwn { .. } => memory.foreign = seen.annotation.is_some(),
                    _ => {}
                }
                memory.seen = Some(seen);
            }
            (Found::Both(pod, node), key) => {
                let asked = matches!(&job, Job::Look { pod: Some(_), .. });
                if let (Key::Pod(uid), true) = (key, asked) {
                    let memory = self.pods.entry(Arc::clone(uid)).or_default();
                    memory.look = false;
                    memory.seen = pod;
                }
                let memory = self.nodes.entry(Arc::clone(&flight.node)).or_default();
                memory.look = false;
                memory.verified = Some(now);
                match node {
                    Some(node) => drop(self.board.see_node(&flight.node, node)),
                    None => self.board.lose_node(&flight.node),
                }
            }
            (Found::Node(seen), _) => self.node_written(flight, job, seen, now),
            (Found::Pod(_), Key::Node(_)) => {}
        }
    }

    fn node_written(&mut self, flight: &Flight, job: Job, seen: SeenNode, now: Instant) {
        let memory = self.nodes.entry(Arc::clone(&flight.node)).or_default();
        if let Job::Condition { write, before, .. } = job {
            memory.spacing.written(now);
            memory.verified = Some(now);
            let first = memory.claimed.as_ref().map(|(token, _)| token) != write.claim.as_ref();
            memory.claimed = write.claim.map(|claim| (claim, seen.revision));
            if let Some(event) = events::of_node(&flight.node, before.as_ref(), &seen) {
                self.tell(event);
            }
            self.board.see_node(&flight.node, seen);
            if first {
                // Now its pods may be written to.
                self.fleet.mark_pods_of(&flight.node);
            }
        } else {
            self.board.see_node(&flight.node, seen);
        }
    }

    fn tell(&self, event: events::Event) {
        if let Some(teller) = &self.events {
            teller.tell(event);
        }
    }
}

async fn carry_out(api: &impl Api, job: &Job) -> Result<Found, ApiError> {
    Ok(match job {
        Job::Look { pod, node } => {
            let pod = match pod {
                Some(pod) => api.pod(pod).await?,
                None => None,
            };
            // After the pod: who had the node then still has it now.
            Found::Both(pod, api.node(node).await?)
        }
        Job::Annotate {
            pod,
            revision,
            force,
        } => Found::Pod(api.annotate(pod, *revision, *force).await?),
        Job::Remove { pod, revision } => Found::Pod(api.remove_annotation(pod, *revision).await?),
        Job::RemoveOwn { pod, revision } => {
            Found::Pod(api.remove_own_annotation(pod, *revision).await?)
        }
        Job::Condition { node, write, .. } => Found::Node(api.set_condition(node, write).await?),
        Job::Untaint { node } => Found::Node(api.remove_taint(node).await?),
    })
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

#[cfg(test)]
mod tests;
