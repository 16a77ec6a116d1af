//! Keeps files as they should be: looks when something may have changed, and
//! now and then.

use std::{error::Error, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task, time};

use super::watch::Watch;
use crate::{
    capture::Capture,
    desired::Desired,
    status::{FileState, Leaving, NodeFiles, NodeStatus},
};

/// A look is due after this even if nobody told of a change.
const POLL: Duration = Duration::from_secs(10);
/// Changes that come this close together are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What is to become of the files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Goal {
    /// Nothing is known yet, or pods are still being released: left as they are.
    Wait,
    Install,
    /// Taken away.
    Leave,
}

/// Files that are kept. Every method may block.
pub trait Keep: Send + 'static {
    /// Makes them what they should be, and says what they are.
    fn look(&mut self, goal: Goal) -> Looked;
    /// Where they are.
    fn directories(&self) -> Vec<PathBuf>;
}

/// What a look came to.
#[derive(Clone, Debug)]
pub struct Looked {
    pub state: FileState,
    /// When to look again at the latest, if that is soon.
    pub again: Option<Duration>,
}

/// Keeps files until the engine is gone, and tells it how they are.
pub async fn keep<K: Keep>(
    mut files: K,
    capture: Capture,
    tell: fn(&mut NodeFiles, Option<FileState>),
) {
    let mut desired = capture.desired();
    let mut status = capture.status();
    let mut directories = files.directories();
    let mut watch = Watch::new(directories.clone());
    let mut said = String::new();
    loop {
        if directories != files.directories() {
            directories = files.directories();
            watch = Watch::new(directories.clone());
        }
        watch.renew();
        let goal = goal(
            desired.borrow_and_update().as_deref(),
            &status.borrow_and_update(),
        );
        let before = relevant(&status.borrow());
        let looking = task::spawn_blocking(move || {
            let looked = files.look(goal);
            (files, looked)
        });
        let looked = match looking.await {
            Ok((back, looked)) => {
                files = back;
                looked
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "a file's keeper has ended");
                return;
            }
        };
        if said != looked.state.message {
            said.clone_from(&looked.state.message);
            if !said.is_empty() {
                tracing::warn!(path = looked.state.path, "{said}");
            }
        }
        capture.set_files(|files| tell(files, Some(looked.state)));
        let pause = looked.again.unwrap_or(POLL).min(POLL);
        let woken = async {
            tokio::select! {
                () = watch.changed() => time::sleep(DEBOUNCE).await,
                () = time::sleep(pause) => {}
                Ok(()) = desired.changed() => {}
                () = other(&mut status, before) => {}
            }
        };
        woken.await;
        // The engine is gone.
        if status.has_changed().is_err() {
            return;
        }
    }
}

type Relevant = (bool, bool, Leaving);

/// What of the status matters to files.
fn relevant(status: &NodeStatus) -> Relevant {
    (status.origin.is_some(), status.proxy.ready, status.leaving)
}

/// Waits until what matters is another, or the engine is gone.
async fn other(status: &mut watch::Receiver<Arc<NodeStatus>>, before: Relevant) {
    let _ = status.wait_for(|status| relevant(status) != before).await;
}

fn goal(desired: Option<&Desired>, status: &NodeStatus) -> Goal {
    match desired {
        None => Goal::Wait,
        // The engine has not looked at the node yet.
        Some(_) if status.origin.is_none() => Goal::Wait,
        Some(desired) if !desired.leave => Goal::Install,
        Some(_) => match status.leaving {
            Leaving::Cleared | Leaving::Left => Goal::Leave,
            Leaving::No | Leaving::Releasing => Goal::Wait,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::desired::Origin;

    #[test]
    fn nothing_is_installed_or_removed_before_the_node_is_known() {
        let desired = |leave| Desired {
            origin: Origin::Disk,
            revision: None,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            leave,
        };
        let mut status = NodeStatus::default();
        assert_eq!(goal(None, &status), Goal::Wait);
        assert_eq!(goal(Some(&desired(false)), &status), Goal::Wait);
        status.origin = Some(Origin::Disk);
        assert_eq!(goal(Some(&desired(false)), &status), Goal::Install);
        status.leaving = Leaving::Releasing;
        assert_eq!(goal(Some(&desired(true)), &status), Goal::Wait);
        for leaving in [Leaving::Cleared, Leaving::Left] {
            status.leaving = leaving;
            assert_eq!(goal(Some(&desired(true)), &status), Goal::Leave);
            // Withdrawn, and the engine does not know it yet.
            assert_eq!(goal(Some(&desired(false)), &status), Goal::Install);
        }
    }
}
