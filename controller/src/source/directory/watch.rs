//! Being woken when something happens in the folder.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tracing::warn;

/// A watch on a folder, as good as it gets: the folder may be missing, be
/// replaced, or not be watchable at all. Whoever uses it looks again now and
/// then on his own.
pub(super) struct Watch {
    path: PathBuf,
    watcher: Option<(RecommendedWatcher, FolderId)>,
    wake: mpsc::Sender<()>,
    woken: mpsc::Receiver<()>,
    complained: bool,
}

/// Which folder a path leads to.
pub(super) type FolderId = (u64, u64);

pub(super) fn folder_id(path: &Path) -> Option<FolderId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Watch {
    pub(super) fn new(path: PathBuf) -> Self {
        let (wake, woken) = mpsc::channel(1);
        Self {
            path,
            watcher: None,
            wake,
            woken,
            complained: false,
        }
    }

    /// Watches the folder that the path leads to now.
    pub(super) fn renew(&mut self) {
        let Some(id) = folder_id(&self.path) else {
            self.watcher = None;
            return;
        };
        if self.watcher.as_ref().is_some_and(|(_, old)| *old == id) {
            return;
        }
        match self.watcher() {
            Ok(watcher) => {
                self.watcher = Some((watcher, id));
                self.complained = false;
            }
            Err(error) => {
                self.watcher = None;
                if !self.complained {
                    warn!(
                        folder = %self.path.display(),
                        error = &error as &dyn std::error::Error,
                        "cannot watch the folder; it is read every 2 seconds instead"
                    );
                    self.complained = true;
                }
            }
        }
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading files is an event too, and we read them.
                let read =
                    event.is_ok_and(|event| event.kind.is_access() && !is_closed(&event.kind));
                if !read {
                    // Full: somebody is going to look already.
                    let _ = wake.try_send(());
                }
            })?;
        watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    /// Returns when something may have changed.
    pub(super) async fn changed(&mut self) {
        // Never closed: we hold a sender.
        self.woken.recv().await;
    }
}

fn is_closed(kind: &notify::EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    matches!(
        kind,
        notify::EventKind::Access(AccessKind::Close(AccessMode::Write))
    )
}
