use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Directory,
    folder::{Folder, Reloaded},
};
use crate::{
    index::Update,
    model::Relevant,
    source::{Batch, Source as _},
};

struct Fixture {
    dir: TempDir,
    folder: Folder,
    /// Names of the objects in use.
    known: BTreeSet<String>,
    uids: std::collections::BTreeMap<String, String>,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("pods"), Relevant::default());
        fs::create_dir(dir.path().join("pods")).unwrap();
        Self {
            dir,
            folder,
            known: BTreeSet::new(),
            uids: Default::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("pods").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn reload(&mut self) -> Reloaded {
        let reloaded = self.folder.reload();
        for update in &reloaded.updates {
            match update {
                Update::Pod(pod) => {
                    self.uids.insert(pod.uid.to_string(), pod.name.to_string());
                    self.known.insert(format!("pod {}", pod.name));
                }
                Update::PodGone(uid) => {
                    let name = self.uids.remove(&**uid).unwrap();
                    if !self.uids.values().any(|other| *other == name) {
                        self.known.remove(&format!("pod {name}"));
                    }
                }
                Update::Namespace(namespace) => {
                    self.known.insert(format!("ns {}", namespace.name));
                }
                Update::NamespaceGone(name) => {
                    self.known.remove(&format!("ns {name}"));
                }
            }
        }
        reloaded
    }

    // What is in use and what is wrong, after another look.
    fn look(&mut self) -> (Vec<String>, Vec<String>) {
        let reloaded = self.reload();
        let place = self.dir.path().to_string_lossy().into_owned();
        let problems = reloaded
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&place, ""));
        (self.known.iter().cloned().collect(), problems.collect())
    }

    // The same, when nothing may be wrong.
    fn fine(&mut self) -> Vec<String> {
        let (known, problems) = self.look();
        assert_eq!(problems, Vec::<String>::new());
        known
    }
}

fn pod(name: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n")
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

#[test]
fn added_changed_renamed_removed() {
    let mut f = Fixture::new();
    assert!(f.fine().is_empty());
    f.write(
        "a.yaml",
        &format!("{}---\n{}", pod("web"), namespace("shop")),
    );
    f.write(
        "b.json",
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"db"}}"#,
    );
    f.write(".hidden.yaml", &pod("hidden"));
    f.write("c.yaml~", &pod("backup"));
    fs::create_dir(f.path("subfolder")).unwrap();
    assert_eq!(f.fine(), ["ns shop", "pod db", "pod web"]);
    f.write("a.yaml", &pod("web"));
    assert_eq!(f.fine(), ["pod db", "pod web"]);
    fs::rename(f.path("a.yaml"), f.path("z.yml")).unwrap();
    assert!(f.reload().updates.is_empty(), "renamed: the same objects");
    fs::remove_file(f.path("b.json")).unwrap();
    assert_eq!(f.fine(), ["pod web"]);
    fs::remove_file(f.path("z.yml")).unwrap();
    assert!(f.fine().is_empty());
}

#[test]
fn nothing_new_is_nothing() {
    let mut f = Fixture::new();
    f.write("a.yaml", &pod("web"));
    assert_eq!(f.reload().updates.len(), 1);
    assert!(f.reload().updates.is_empty());
    // Touched, and written anew with the same contents.
    f.write("a.yaml", &pod("web"));
    assert!(f.reload().updates.is_empty());
}

#[test]
fn of_a_wrong_file_the_last_good_version_stays() {
    let mut f = Fixture::new();
    f.write("a.yaml", &format!("{}---\n{}", pod("web"), pod("db")));
    f.write("b.yaml", &pod("other"));
    f.fine();
    f.write(
        "a.yaml",
        &format!("{}---\n{}", pod("web2"), "kind: Pod\nmetadata: {"),
    );
    f.write("b.yaml", &pod("other2"));
    let (known, problems) = f.look();
    assert_eq!(known, ["pod db", "pod other2", "pod web"]);
    assert_eq!(problems, ["a.yaml:6: unclosed bracket '{'"]);
    assert_eq!(f.look().1.len(), 1, "reported as long as it lasts");
    f.write("a.yaml", &pod("web3"));
    assert_eq!(f.fine(), ["pod other2", "pod web3"]);
}

#[test]
fn a_wrong_file_that_goes_takes_its_objects_along() {
    let mut f = Fixture::new();
    f.write("a.yaml", &pod("web"));
    f.fine();
    f.write("a.yaml", "{");
    assert_eq!(f.look().0, ["pod web"]);
    fs::remove_file(f.path("a.yaml")).unwrap();
    assert!(f.fine().is_empty());
}

#[test]
fn half_written_files() {
    let mut f = Fixture::new();
    let whole = format!("{}---\n{}", pod("web"), pod("db"));
    f.write("a.yaml", &whole);
    f.fine();
    // `> a.yaml` has emptied it, and nothing has been written yet.
    f.write("a.yaml", "");
    let (known, problems) = f.look();
    assert_eq!(known, ["pod db", "pod web"]);
    assert_eq!(problems.len(), 1);
    // Cut wherever it does not end a document.
    for cut in [5, 20, whole.len() - 8] {
        f.write("a.yaml", &whole[..cut]);
        assert_eq!(f.look().0, ["pod db", "pod web"], "{cut}");
    }
    f.write("a.yaml", &whole);
    assert_eq!(f.fine(), ["pod db", "pod web"]);
    // Emptied on purpose.
    f.write("a.yaml", "# nothing any more\n");
    assert!(f.fine().is_empty());
}

#[test]
fn what_cannot_be_read_is_not_gone() {
    let mut f = Fixture::new();
    f.write("a.yaml", &pod("web"));
    f.write("b.yaml", &pod("db"));
    symlink(f.path("b.yaml"), f.path("c.yaml")).unwrap();
    f.look();
    // Not text; too large; a link to nowhere; a folder.
    fs::write(f.path("a.yaml"), b"\xff\xfe").unwrap();
    assert_eq!(f.look().0, ["pod db", "pod web"]);
    fs::File::create(f.path("a.yaml"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    let (known, problems) = f.look();
    assert_eq!(known, ["pod db", "pod web"]);
    assert!(
        problems[0].contains("larger than 4194304 bytes"),
        "{problems:?}"
    );
    fs::remove_file(f.path("a.yaml")).unwrap();
    symlink("/nowhere/at/all", f.path("a.yaml")).unwrap();
    let (known, problems) = f.look();
    assert_eq!(known, ["pod db", "pod web"]);
    assert!(
        problems[0].starts_with("a.yaml: cannot be read"),
        "{problems:?}"
    );
    fs::remove_file(f.path("a.yaml")).unwrap();
    fs::create_dir(f.path("a.yaml")).unwrap();
    assert_eq!(f.look().0, ["pod db", "pod web"]);
    fs::remove_dir(f.path("a.yaml")).unwrap();
    f.write("a.yaml", &pod("web"));
    fs::remove_file(f.path("c.yaml")).unwrap();
    assert_eq!(f.fine(), ["pod db", "pod web"]);
}

#[test]
fn a_folder_that_vanishes_is_not_an_empty_one() {
    let mut f = Fixture::new();
    f.write("a.yaml", &pod("web"));
    f.fine();
    let (home, away) = (f.dir.path().join("pods"), f.dir.path().join("away"));
    fs::rename(&home, &away).unwrap();
    let (known, problems) = f.look();
    assert_eq!(known, ["pod web"]);
    assert!(
        problems[0].starts_with("/pods: the folder cannot be read"),
        "{problems:?}"
    );
    // As when a volume is not mounted any more.
    fs::create_dir(&home).unwrap();
    let (known, problems) = f.look();
    assert_eq!(known, ["pod web"]);
    assert!(
        problems[0].contains("replaced by an empty one"),
        "{problems:?}"
    );
    f.write("b.yaml", &pod("db"));
    assert_eq!(f.fine(), ["pod db"]);
    fs::remove_file(f.path("b.yaml")).unwrap();
    assert!(f.fine().is_empty());
}

#[test]
fn a_folder_behind_a_link_as_kubernetes_swaps_it() {
    let mut f = Fixture::new();
    for (version, name) in [("..1", "web"), ("..2", "db")] {
        fs::create_dir(f.path(version)).unwrap();
        fs::write(f.path(version).join("a.yaml"), pod(name)).unwrap();
    }
    symlink("..1", f.path("..data")).unwrap();
    symlink("..data/a.yaml", f.path("a.yaml")).unwrap();
    assert_eq!(f.fine(), ["pod web"]);
    symlink("..2", f.path("..new")).unwrap();
    fs::rename(f.path("..new"), f.path("..data")).unwrap();
    assert_eq!(f.fine(), ["pod db"]);
}

#[test]
fn the_same_object_twice_is_reported() {
    let mut f = Fixture::new();
    f.write("b.yaml", &format!("# other\n{}", pod("web")));
    f.fine();
    f.write("a.yaml", &pod("web"));
    let (known, problems) = f.look();
    assert_eq!(known, ["pod web"]);
    assert_eq!(
        problems,
        ["b.yaml:2: Pod default/web is already at a.yaml:1, which is used; remove one of them"]
    );
    fs::remove_file(f.path("a.yaml")).unwrap();
    assert_eq!(f.fine(), ["pod web"]);
}

#[test]
fn complete_once_every_file_has_been_tried() {
    let mut f = Fixture::new();
    fs::remove_dir(f.dir.path().join("pods")).unwrap();
    let reloaded = f.reload();
    assert!(!reloaded.complete);
    fs::create_dir(f.dir.path().join("pods")).unwrap();
    f.write("a.yaml", "{");
    f.write("b.yaml", &pod("web"));
    f.write("c.yaml", "");
    let reloaded = f.reload();
    assert!(reloaded.complete);
    assert_eq!(reloaded.never_read, ["a.yaml", "c.yaml"]);
    f.write("a.yaml", &pod("db"));
    fs::remove_file(f.path("c.yaml")).unwrap();
    assert!(f.reload().never_read.is_empty());
}

async fn next(batches: &mut mpsc::Receiver<Batch>) -> Batch {
    timeout(Duration::from_secs(20), batches.recv())
        .await
        .unwrap()
        .unwrap()
}

fn start(path: &Path, stop: &CancellationToken) -> mpsc::Receiver<Batch> {
    let (sink, batches) = mpsc::channel(4);
    let source = Directory::new(path.to_owned(), Relevant::default());
    tokio::spawn(source.run(sink, stop.clone()));
    batches
}

#[tokio::test]
async fn watched_and_numbered() {
    let f = Fixture::new();
    let stop = CancellationToken::new();
    let path = f.dir.path().join("pods");
    let mut batches = start(&path, &stop);
    let first = next(&mut batches).await;
    assert!(first.in_sync);
    assert_eq!((first.revision.pods, first.revision.namespaces), (1, 1));
    f.write("a.yaml", &pod("web"));
    let second = next(&mut batches).await;
    assert_eq!(second.updates.len(), 1);
    assert_eq!(second.revision.source, first.revision.source);
    assert_eq!((second.revision.pods, second.revision.namespaces), (2, 1));
    f.write("b.yaml", &namespace("shop"));
    let third = next(&mut batches).await;
    assert_eq!((third.revision.pods, third.revision.namespaces), (2, 2));
    f.write("b.yaml", "{");
    let fourth = next(&mut batches).await;
    assert_eq!(fourth.problems.len(), 1);
    assert_eq!(fourth.revision, third.revision, "nothing else is different");
    stop.cancel();
    assert!(batches.recv().await.is_none());

    let other = next(&mut start(&path, &CancellationToken::new())).await;
    assert_ne!(
        other.revision.source, first.revision.source,
        "of another run"
    );
}

#[tokio::test]
async fn a_folder_that_comes_later() {
    let f = Fixture::new();
    let path = f.dir.path().join("later");
    let mut batches = start(&path, &CancellationToken::new());
    let first = next(&mut batches).await;
    assert!(!first.in_sync);
    assert_eq!(first.problems.len(), 1);
    fs::create_dir(&path).unwrap();
    let second = next(&mut batches).await;
    assert!(second.in_sync);
    assert_eq!(second.problems.len(), 0);
    // Watched by now.
    fs::write(path.join("a.yaml"), pod("web")).unwrap();
    assert_eq!(next(&mut batches).await.updates.len(), 1);
}
