//! A folder of ordinary Pod and Namespace YAML, watched.
//!
//! Each file counts as a whole: one that cannot be read or has a wrong document
//! in it is reported, and what it last said stays. Only a file that is gone
//! takes its objects with it.

mod claims;
mod files;
mod folder;
mod parse;
mod watch;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Batch, Problem, Source};
use crate::{
    index::Update,
    model::{Relevant, Revision},
    ops::metrics as recorded,
};
use folder::{Folder, Reloaded};
use watch::Watch;

/// Writers get this long to finish after the last sign of life...
const SETTLE: Duration = Duration::from_millis(50);
/// ...but a folder that is never quiet is read at least this often.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);
/// Watching misses things (network file systems, symlinks into other folders):
/// everything is looked at this often all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A folder as a source.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    relevant: Relevant,
}

impl Directory {
    /// The folder need not exist yet: until it does, the source is not in sync.
    pub fn new(path: PathBuf, relevant: Relevant) -> Self {
        Self { path, relevant }
    }
}

impl Source for Directory {
    async fn run(self, sink: mpsc::Sender<Batch>, stop: CancellationToken) {
        let mut watch = Watch::new(self.path.clone());
        let mut folder = Folder::new(self.path, self.relevant);
        let mut teller = Teller::new();
        loop {
            watch.renew();
            let (back, reloaded) = match tokio::task::spawn_blocking(move || {
                let reloaded = folder.reload();
                (folder, reloaded)
            })
            .await
            {
                Ok(both) => both,
                // Only when the runtime shuts down.
                Err(_) => return,
            };
            folder = back;
            let again = if reloaded.unsettled {
                SETTLE
            } else {
                LOOK_AGAIN
            };
            if let Some(batch) = teller.batch(reloaded)
                && sink.send(batch).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(again) => {}
                () = watch.changed() => settle(&mut watch).await,
            }
        }
    }
}

async fn settle(watch: &mut Watch) {
    let quiet = async { while time::timeout(SETTLE, watch.changed()).await.is_ok() {} };
    // Running out of patience is fine: the files are read as they are.
    let _ = time::timeout(SETTLE_AT_MOST, quiet).await;
}

/// Turns reloads into batches: numbers them, and keeps back what is no news.
struct Teller {
    revision: Revision,
    in_sync: bool,
    problems: Arc<[Problem]>,
    never_read: Arc<[String]>,
}

impl Teller {
    fn new() -> Self {
        let mut run = [0; 8];
        // Without randomness the time still tells runs apart.
        if SystemRandom::new().fill(&mut run).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            run = now.map_or(0, |d| d.as_micros() as u64).to_be_bytes();
        }
        let source = format!("directory:{:016x}", u64::from_be_bytes(run));
        Self {
            revision: Revision {
                source: source.into(),
                pods: 0,
                namespaces: 0,
            },
            in_sync: false,
            problems: [].into(),
            never_read: [].into(),
        }
    }

    fn batch(&mut self, reloaded: Reloaded) -> Option<Batch> {
        self.report(&reloaded.problems);
        let in_sync = self.in_sync || reloaded.complete;
        let news = !reloaded.updates.is_empty()
            || in_sync != self.in_sync
            || *reloaded.problems != *self.problems
            || *reloaded.never_read != *self.never_read;
        if !news {
            return None;
        }
        self.number(&reloaded.updates, in_sync && !self.in_sync);
        self.in_sync = in_sync;
        self.problems = reloaded.problems.into();
        self.never_read = reloaded.never_read.into();
        Some(Batch {
            updates: reloaded.updates,
            revision: self.revision.clone(),
            reached: self.revision.clone(),
            in_sync,
            problems: Arc::clone(&self.problems),
            never_read: Arc::clone(&self.never_read),
            // A folder that cannot be read is a problem, and all there is.
            out_of_touch: None,
        })
    }

    fn number(&mut self, updates: &[Update], first: bool) {
        let is_pod = |update: &Update| matches!(update, Update::Pod(_) | Update::PodGone(_));
        let pods = updates.iter().any(is_pod);
        let namespaces = updates.iter().any(|update| !is_pod(update));
        self.revision.pods += u64::from(pods || first);
        self.revision.namespaces += u64::from(namespaces || first);
        if !updates.is_empty() {
            info!(
                changes = updates.len(),
                pods = self.revision.pods,
                namespaces = self.revision.namespaces,
                "folder read"
            );
        }
    }

    // Each problem once, when it appears.
    fn report(&self, problems: &[Problem]) {
        recorded::source_problems(problems.len());
        for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
            warn!(
                file = problem.place,
                line = problem.line,
                reason = problem.reason,
                "cannot use a part of the folder; what it last said stays"
            );
        }
        if problems.is_empty() && !self.problems.is_empty() {
            info!("every document of the folder is in use again");
        }
    }
}
