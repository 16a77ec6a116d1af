//! Being woken when something changes in a directory.

use std::{error::Error, fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;
use tracing::warn;

/// A watch on directories, as good as it gets: one may be missing, be replaced,
/// or not be watchable. Whoever uses it looks again now and then on his own.
pub(super) struct Watch {
    directories: Vec<Watched>,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
}

struct Watched {
    path: PathBuf,
    watcher: Option<(RecommendedWatcher, (u64, u64))>,
    complained: bool,
}

impl Watch {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        let (wake, woken) = mpsc::channel(1);
        let watched = directories.into_iter().map(|path| Watched {
            path,
            watcher: None,
            complained: false,
        });
        Self {
            directories: watched.collect(),
            wake,
            woken,
        }
    }

    /// Watches what the paths lead to now.
    pub(super) fn renew(&mut self) {
        for watched in &mut self.directories {
            watched.renew(&self.wake);
        }
    }

    /// Returns when something may have changed.
    pub(super) async fn changed(&mut self) {
        // Never closed: we hold a sender.
        self.woken.recv().await;
    }
}

impl Watched {
    fn renew(&mut self, wake: &mpsc::Sender<()>) {
        let Ok(metadata) = fs::metadata(&self.path) else {
            self.watcher = None;
            return;
        };
        let id = (metadata.dev(), metadata.ino());
        if self.watcher.as_ref().is_some_and(|(_, old)| *old == id) {
            return;
        }
        match watcher(&self.path, wake.clone()) {
            Ok(watcher) => {
                self.watcher = Some((watcher, id));
                self.complained = false;
            }
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.complained, true) {
                    warn!(
                        directory = %self.path.display(),
                        error = &error as &dyn Error,
                        "cannot watch the directory; it is looked at now and then"
                    );
                }
            }
        }
    }
}

fn watcher(path: &std::path::Path, wake: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading files is an event too, and we read them.
        let read = event.is_ok_and(|event| is_reading(event.kind));
        if !read {
            // Full: somebody is going to look already.
            let _ = wake.try_send(());
        }
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_reading(kind: EventKind) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    kind.is_access() && kind != written
}
