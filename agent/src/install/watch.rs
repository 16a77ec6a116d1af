//! Being woken when something changes in a directory.

use std::{error::Error, fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::mpsc;
use tracing::warn;

use crate::files::is_temporary;

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
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.map_or(true, |event| matters(&event)) {
            // Full: somebody is going to look already.
            let _ = wake.try_send(());
        }
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reading files is an event too, and we read them; and what we begin to write and
/// cannot end must not make us begin anew at once.
fn matters(event: &Event) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let reading = event.kind.is_access() && event.kind != written;
    let begun = !event.paths.is_empty() && event.paths.iter().all(|path| is_temporary(path));
    !reading && !begun
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::files;

    #[tokio::test]
    async fn what_others_do_wakes_and_what_we_only_begin_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("02-sluice.conflist");
        let mut watch = Watch::new(vec![folder.path().to_owned()]);
        watch.renew();
        let woken = async |watch: &mut Watch, limit| {
            let limit = Duration::from_millis(limit);
            timeout(limit, watch.changed()).await.is_ok()
        };
        let begun = files::temporary(&path).unwrap();
        fs::write(&begun, "half").unwrap();
        fs::remove_file(&begun).unwrap();
        assert!(!woken(&mut watch, 300).await);
        // Also by a rename of such a name.
        files::write_atomic(&path, b"whole").unwrap();
        assert!(woken(&mut watch, 10_000).await);
        while woken(&mut watch, 300).await {}
        fs::read(&path).unwrap();
        assert!(!woken(&mut watch, 300).await);
        fs::remove_file(&path).unwrap();
        assert!(woken(&mut watch, 10_000).await);
    }
}
