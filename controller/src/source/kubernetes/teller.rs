//! From the news of the collections to batches. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{failure::Trouble, watch::News};
use crate::{
    model::Revision,
    source::{Batch, Problem},
};

/// At most this many problems are kept and shown.
const MAX_PROBLEMS: usize = 1000;

/// Joins what is known of each collection.
#[derive(Debug)]
pub(super) struct Teller {
    cluster: String,
    /// Tells this run from others, if resource versions cannot.
    run: u64,
    pods: State,
    namespaces: State,
    answers: Option<Trouble>,
    in_sync: bool,
}

#[derive(Debug, Default)]
struct State {
    newest: u64,
    reached: u64,
    complete: bool,
    /// Its versions are no numbers: batches are counted instead.
    opaque: bool,
    trouble: Option<Trouble>,
    odd: Vec<Problem>,
}

impl Teller {
    pub(super) fn new(cluster: String, run: u64) -> Self {
        Self {
            cluster,
            run,
            pods: State::default(),
            namespaces: State::default(),
            answers: None,
            in_sync: false,
        }
    }

    /// Whether the API server answers.
    pub(super) fn answers(&mut self, trouble: Option<Trouble>) {
        self.answers = trouble;
    }

    /// One batch of everything that came together.
    pub(super) fn batch(&mut self, news: Vec<News>) -> Batch {
        let mut updates = Vec::new();
        for mut news in news {
            updates.append(&mut news.updates);
            let state = match news.collection {
                super::PODS => &mut self.pods,
                _ => &mut self.namespaces,
            };
            state.take(news, self.in_sync);
        }
        self.in_sync = self.pods.complete && self.namespaces.complete;
        Batch {
            updates,
            revision: self.revision(|state| state.newest),
            reached: self.revision(|state| state.reached),
            in_sync: self.in_sync,
            problems: self.problems().into(),
            never_read: Arc::new([]),
            out_of_touch: self.out_of_touch(),
        }
    }

    // Of versions that are no numbers nothing can be told older or newer: then
    // this run compares with no other.
    fn revision(&self, of: impl Fn(&State) -> u64) -> Revision {
        let source = if self.pods.opaque || self.namespaces.opaque {
            format!("kubernetes:{}:{:016x}", self.cluster, self.run)
        } else {
            format!("kubernetes:{}", self.cluster)
        };
        Revision {
            source: source.into(),
            pods: of(&self.pods),
            namespaces: of(&self.namespaces),
        }
    }

    fn troubles(&self) -> impl Iterator<Item = (&'static str, &Trouble)> {
        let all = [
            ("pods", &self.pods.trouble),
            ("namespaces", &self.namespaces.trouble),
            ("as a whole", &self.answers),
        ];
        all.into_iter()
            .filter_map(|(what, trouble)| Some((what, trouble.as_ref()?)))
    }

    fn out_of_touch(&self) -> Option<Instant> {
        self.troubles().map(|(_, trouble)| trouble.since).min()
    }

    fn problems(&self) -> Vec<Problem> {
        let troubles = self.troubles().map(|(what, trouble)| trouble.problem(what));
        let opaque = (self.pods.opaque || self.namespaces.opaque).then(|| Problem {
            place: "API server".to_owned(),
            line: None,
            reason: "its resourceVersions are not numbers, so replicas cannot tell which of them \
                     knows more: a node that moves to another replica may be told something older"
                .to_owned(),
        });
        let odd: BTreeMap<_, _> = self
            .pods
            .odd
            .iter()
            .chain(&self.namespaces.odd)
            .map(|problem| (problem, ()))
            .collect();
        troubles
            .chain(opaque)
            .chain(odd.into_keys().cloned())
            .take(MAX_PROBLEMS)
            .collect()
    }
}

impl State {
    fn take(&mut self, news: News, in_sync: bool) {
        let listed = news.complete && !self.complete;
        self.complete = news.complete;
        if listed && news.reached == 0 && !in_sync {
            self.opaque = true;
        }
        if self.opaque {
            self.newest += 1;
            self.reached = self.newest;
        } else {
            self.newest = news.newest;
            self.reached = news.reached;
        }
        self.trouble = news.trouble;
        self.odd = news.odd;
    }
}

#[cfg(test)]
mod tests;
