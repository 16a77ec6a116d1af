//! The list of namespaces that the shim reads while the agent does not answer.

use std::{
    collections::BTreeSet,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::watch, task, time::sleep};

use crate::{
    desired::{Desired, Wanted},
    files,
};

/// Before a failed write is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The file. What is in neither list is not known to be free of enrolled pods.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    enrolled: BTreeSet<String>,
    not_enrolled: BTreeSet<String>,
}

impl Namespaces {
    /// As the desired state has them. A namespace with one enrolled pod counts
    /// as enrolled, whatever its label says.
    pub fn of(desired: &Desired) -> Self {
        let pods = desired.pods.values();
        let mut enrolled: BTreeSet<String> = pods
            .filter(|intent| match intent.wanted {
                Wanted::Captured | Wanted::Releasing | Wanted::Unsupported => true,
                Wanted::Nothing | Wanted::Proxy => false,
            })
            .map(|intent| intent.namespace.clone())
            .collect();
        let labelled = desired.namespaces.iter().filter(|(_, enrolled)| **enrolled);
        enrolled.extend(labelled.map(|(name, _)| name.clone()));
        let not_enrolled = desired
            .namespaces
            .keys()
            .filter(|name| !enrolled.contains(*name))
            .cloned()
            .collect();
        Self {
            enrolled,
            not_enrolled,
        }
    }
}

/// Keeps the file current until the engine is gone. A file of a previous run
/// stays as it is until there is a state.
pub async fn keep(path: PathBuf, mut desired: watch::Receiver<Option<Arc<Desired>>>) {
    let mut written: Option<Namespaces> = None;
    loop {
        let current = desired.borrow_and_update().as_deref().map(Namespaces::of);
        let mut pause = None;
        if let Some(current) = current
            && written.as_ref() != Some(&current)
        {
            if write(path.clone(), &current).await {
                written = Some(current);
            } else {
                pause = Some(AGAIN);
            }
        }
        let changed = async {
            match pause {
                Some(pause) => tokio::select! {
                    changed = desired.changed() => changed,
                    () = sleep(pause) => Ok(()),
                },
                None => desired.changed().await,
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

async fn write(path: PathBuf, namespaces: &Namespaces) -> bool {
    let contents = match serde_json::to_vec(namespaces) {
        Ok(contents) => contents,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot encode the list of namespaces"
            );
            return false;
        }
    };
    let written = task::spawn_blocking(move || write_blocking(&path, &contents)).await;
    written.unwrap_or(false)
}

fn write_blocking(path: &Path, contents: &[u8]) -> bool {
    match files::write_atomic(path, contents) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn Error,
                "cannot write the list of namespaces; while the agent is down the shim decides \
                 with an old one"
            );
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sluice_kernel::model::PodUid;

    use super::*;
    use crate::desired::{Intent, Origin};

    fn desired() -> Desired {
        let uid = PodUid::new("u").unwrap();
        let intent = Intent {
            namespace: "odd".into(),
            name: "pod".into(),
            ..Intent::bare(uid.clone(), Wanted::Captured)
        };
        Desired {
            origin: Origin::Disk,
            revision: None,
            pods: BTreeMap::from([(uid, intent)]),
            namespaces: BTreeMap::from([
                ("b".into(), true),
                ("a".into(), true),
                ("plain".into(), false),
                // Its label says no, and one of its pods says yes.
                ("odd".into(), false),
            ]),
            leave: false,
        }
    }

    #[tokio::test]
    async fn the_file_follows_the_state() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("namespaces.json");
        let (sender, receiver) = watch::channel(None);
        let keeper = tokio::spawn(keep(path.clone(), receiver));
        sender.send_replace(Some(Arc::new(desired())));
        while !path.exists() {
            sleep(Duration::from_millis(1)).await;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        insta::assert_snapshot!(text, @r#"{"enrolled":["a","b","odd"],"notEnrolled":["plain"]}"#);
        drop(sender);
        keeper.await.unwrap();
    }
}
