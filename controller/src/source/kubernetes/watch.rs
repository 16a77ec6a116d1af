//! Follows one collection: lists it, watches from there, resumes the watch
//! wherever it breaks, and lists again only when the API server has forgotten
//! what came since.

use std::time::Duration;

use futures_util::StreamExt as _;
use kube::{Client, core::WatchEvent};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    api,
    backoff::{Backoff, spread},
    collection::{Change, Collection},
    contact::Contact,
    convert::{Kind, Object, version},
    failure::{Failure, Trouble},
};
use crate::{index::Update, ops::metrics as recorded, source::Problem};

/// An open watch has proved itself after this, or with its first event.
const PROOF: Duration = Duration::from_secs(5);
/// The API server sends a bookmark about every minute: a watch that is silent
/// for longer may be dead, and is opened anew.
const SILENCE: Duration = Duration::from_secs(100);
/// Between a watch that ended as it should and the next, at most.
const PAUSE: Duration = Duration::from_millis(500);
/// Events that are ready are told together, at most this many.
const TOGETHER: usize = 1024;

/// What is new about a collection.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub collection: &'static str,
    pub updates: Vec<Update>,
    pub newest: u64,
    pub reached: u64,
    /// It has been listed to its end.
    pub complete: bool,
    pub trouble: Option<Trouble>,
    /// What of whom is left out.
    pub odd: Vec<Problem>,
}

/// One event, converted, and where to watch on after it.
enum Event<K: Kind> {
    Is(Object<K::Key, K::Body>, String),
    Gone(K::Key, u64, String),
    Bookmark(u64, String),
}

/// Follows one collection.
pub(super) struct Watch<K: Kind> {
    client: Client,
    cluster: String,
    kind: K,
    followed: Followed<K>,
}

/// What is known by following.
struct Followed<K: Kind> {
    collection: Collection<K::Key, K::Body>,
    contact: Contact,
    sink: mpsc::Sender<News>,
    /// Where to watch on; absent: everything has to be listed.
    resume: Option<String>,
    complete: bool,
    trouble: Option<Trouble>,
    backoff: Backoff,
}

impl<K: Kind> Watch<K> {
    pub(super) fn new(
        client: Client,
        cluster: String,
        kind: K,
        contact: Contact,
        sink: mpsc::Sender<News>,
    ) -> Self {
        Self {
            client,
            cluster,
            kind,
            followed: Followed {
                collection: Collection::default(),
                contact,
                sink,
                resume: None,
                complete: false,
                trouble: None,
                backoff: Backoff::default(),
            },
        }
    }

    /// Until nobody listens.
    pub(super) async fn run(mut self) {
        while !self.followed.sink.is_closed() {
            let (result, pause) = match self.followed.resume.clone() {
                None => (self.list().await, Duration::ZERO),
                Some(version) => (self.watch(&version).await, spread(PAUSE)),
            };
            self.followed.contact.closed(K::NAME);
            match result {
                Ok(()) => sleep(pause).await,
                Err(failure) => {
                    self.followed.failed(&failure).await;
                    sleep(self.followed.backoff.next()).await;
                }
            }
        }
    }

    async fn list(&mut self) -> Result<(), Failure> {
        recorded::source_list(K::NAME);
        let found = api::cluster(&self.client).await?;
        if found != self.cluster {
            let known = self.cluster.clone();
            return Err(Failure::OtherCluster { known, found });
        }
        let (objects, at) = self.pages().await?;
        let number = version(Some(&at)).map_err(Failure::garbage)?;
        let (kept, collection) = (objects.len(), &mut self.followed.collection);
        let changes = collection.listed(objects, number)?;
        info!(
            collection = K::NAME,
            objects = kept,
            changes = changes.len(),
            version = at,
            "listed"
        );
        self.followed.resume = Some(at);
        self.followed.complete = true;
        self.followed.works();
        self.followed.tell(changes).await;
        Ok(())
    }

    // Every page, and the version that all of them are of.
    async fn pages(&mut self) -> Result<(Vec<Object<K::Key, K::Body>>, String), Failure> {
        let mut objects = Vec::new();
        let (mut next, mut at): (Option<String>, Option<String>) = (None, None);
        loop {
            let page = api::page::<K>(&self.client, next.as_deref()).await?;
            self.followed.contact.heard(K::NAME);
            let version = page.metadata.resource_version.unwrap_or_default();
            if at.as_ref().is_some_and(|at| *at != version) {
                return Err(Failure::garbage("pages of different resourceVersions"));
            }
            let items = page.items.ok_or_else(|| Failure::garbage("no list"))?;
            for item in items {
                let object = self.kind.convert(item).map_err(Failure::garbage)?;
                objects.push(self.followed.collection.share(object));
            }
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                return Ok((objects, version));
            }
            at = Some(version);
        }
    }

    // Ends well when the server ends it as agreed, or when it has been silent
    // for too long.
    async fn watch(&mut self, version: &str) -> Result<(), Failure> {
        let events = api::watch::<K>(&self.client, version).await?;
        let Self { kind, followed, .. } = self;
        followed.contact.opened(K::NAME);
        let events = events.map(|event| convert(kind, event?));
        let mut events = Box::pin(events.ready_chunks(TOGETHER));
        // An open connection proves nothing yet: it may be cut at once.
        let mut proved = false;
        loop {
            let wait = if proved { SILENCE } else { PROOF };
            match timeout(wait, events.next()).await {
                Ok(Some(chunk)) => {
                    followed.contact.heard(K::NAME);
                    followed.take(chunk).await?;
                    proved = true;
                }
                Ok(None) if proved => return Ok(()),
                Ok(None) => return Err(Failure::Cut),
                Err(_) if proved => {
                    debug!(collection = K::NAME, "the watch is silent; opened anew");
                    return Ok(());
                }
                Err(_) => {
                    proved = true;
                    if followed.works() {
                        followed.tell(Vec::new()).await;
                    }
                }
            }
        }
    }
}

impl<K: Kind> Followed<K> {
    // Takes in what came before the first failure.
    async fn take(&mut self, chunk: Vec<Result<Event<K>, Failure>>) -> Result<(), Failure> {
        let mut changes = Vec::new();
        let mut failure = None;
        for event in chunk {
            let (change, version) = match event {
                Ok(Event::Is(object, at)) => (self.collection.changed(object), at),
                Ok(Event::Gone(key, version, at)) => (self.collection.gone(&key, version), at),
                Ok(Event::Bookmark(version, at)) => {
                    self.collection.bookmark(version);
                    (None, at)
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            };
            changes.extend(change);
            self.resume = Some(version);
        }
        match failure {
            // Only what came whole is a sign that it works.
            Some(failure) => {
                self.tell(changes).await;
                Err(failure)
            }
            None => {
                self.works();
                self.tell(changes).await;
                Ok(())
            }
        }
    }

    async fn failed(&mut self, failure: &Failure) {
        recorded::source_error(K::NAME, failure.word());
        if failure.is_gone() {
            self.resume = None;
        }
        let tries = self.trouble.as_ref().map_or(0, |trouble| trouble.tries);
        let since = match &self.trouble {
            Some(trouble) => trouble.since,
            None => self.contact.last(K::NAME),
        };
        let reason = failure.to_string();
        if tries == 0 {
            warn!(
                collection = K::NAME,
                reason, "the API server is not followed; what was known stays"
            );
        } else {
            debug!(collection = K::NAME, reason, tries, "still not followed");
        }
        self.trouble = Some(Trouble {
            since,
            tries: tries.saturating_add(1),
            reason: reason.into(),
        });
        self.tell(Vec::new()).await;
    }

    // True when it did not before.
    fn works(&mut self) -> bool {
        self.backoff.reset();
        let trouble = self.trouble.take();
        if let Some(trouble) = &trouble {
            info!(
                collection = K::NAME,
                tries = trouble.tries,
                "the API server is followed again"
            );
        }
        trouble.is_some()
    }

    async fn tell(&self, changes: Vec<Change<K::Key, K::Body>>) {
        let odd = self.collection.odd().flat_map(|(body, reasons)| {
            reasons.iter().map(|reason| Problem {
                place: K::place(body),
                line: None,
                reason: format!("{reason}; left out"),
            })
        });
        let news = News {
            collection: K::NAME,
            updates: changes.into_iter().map(K::update).collect(),
            newest: self.collection.newest(),
            reached: self.collection.reached(),
            complete: self.complete,
            trouble: self.trouble.clone(),
            odd: odd.collect(),
        };
        // Nobody listens: the next look at the sink ends this.
        let _ = self.sink.send(news).await;
    }
}

fn convert<K: Kind>(kind: &mut K, event: WatchEvent<K::Document>) -> Result<Event<K>, Failure> {
    match event {
        WatchEvent::Added(document) | WatchEvent::Modified(document) => {
            let at = K::version(&document);
            let object = kind.convert(document).map_err(Failure::garbage)?;
            Ok(Event::Is(object, at))
        }
        WatchEvent::Deleted(document) => {
            let at = K::version(&document);
            let object = kind.convert(document).map_err(Failure::garbage)?;
            Ok(Event::Gone(object.key, object.version, at))
        }
        WatchEvent::Bookmark(bookmark) => {
            let at = bookmark.metadata.resource_version;
            let number = version(Some(&at)).map_err(Failure::garbage)?;
            Ok(Event::Bookmark(number, at))
        }
        WatchEvent::Error(status) => Err(Failure::status(&status)),
    }
}
