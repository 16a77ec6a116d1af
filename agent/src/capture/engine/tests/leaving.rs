//! The node is told to leave, and finds proxies that nobody told of.

use std::{path::PathBuf, sync::Mutex};

use sluice_kernel::model::NetnsId;

use super::*;
use crate::{
    capture::search::{Find, Wanted as Missing},
    status::{FileState, Leaving},
};

fn file(present: bool) -> FileState {
    FileState {
        path: "/etc/cni/net.d/02-sluice.conflist".into(),
        present,
        current: present,
        message: String::new(),
        source: String::new(),
    }
}

impl Node {
    fn told_to_leave(&mut self, leave: bool) {
        self.desired.leave = leave;
        self.send();
    }

    async fn until_leaving(&self, leaving: Leaving) -> Arc<NodeStatus> {
        self.until(|status| status.leaving == leaving).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_once_no_pod_is_wanted_and_no_file_is_there() {
    let mut node = Node::ready().await;
    node.capture.set_files(|files| files.cni = Some(file(true)));
    let sandbox = node.added("a", 11, "10.0.0.4").await;
    node.until(|status| status.capture_ready).await;
    node.desired.leave = true;
    node.want(intent("a", Wanted::Releasing, &["10.0.0.4"]));
    let status = node.until_leaving(Leaving::Releasing).await;
    assert!(!status.capture_ready && status.pods[&uid("a")].steered);
    assert_eq!(node.programmed(), ["a"]);
    // A restart does not make it forget, nor hurry.
    node.restart();
    node.capture.set_files(|files| files.cni = Some(file(true)));
    node.send();
    let status = node.until_leaving(Leaving::Releasing).await;
    assert!(status.pods[&uid("a")].steered);
    node.want(intent("a", Wanted::Nothing, &["10.0.0.4"]));
    let status = node.until_leaving(Leaving::Cleared).await;
    assert_eq!(status.pods[&uid("a")].state, PodState::Released);
    assert!(node.kernel.state().cleanups > 0);
    assert_eq!(node.programmed(), [""; 0]);
    node.capture
        .set_files(|files| files.cni = Some(file(false)));
    let status = node.until_leaving(Leaving::Left).await;
    assert_eq!(
        status.message,
        "the node has left: nothing of Sluice is on it"
    );
    // Whoever wants something now is not captured.
    node.want(intent("a", Wanted::Nothing, &[]));
    assert!(matches!(
        node.add(&sandbox).await,
        Err(AddError::NotReady { .. })
    ));
    // Withdrawn: it joins again.
    node.told_to_leave(false);
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.capture.set_files(|files| files.cni = Some(file(true)));
    node.until_pod("a", PodState::Captured, None).await;
    node.until(|status| status.leaving == Leaving::No && status.capture_ready)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_told_and_tried_again() {
    let mut node = Node::ready().await;
    node.kernel.change(|state| state.broken = true);
    node.told_to_leave(true);
    let status = node
        .until(|status| status.message.contains("out of memory"))
        .await;
    assert_eq!(status.leaving, Leaving::Releasing);
    node.kernel.change(|state| state.broken = false);
    node.until_leaving(Leaving::Left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_shim_is_not_ready() {
    let node = Node::ready().await;
    node.until(|status| status.capture_ready).await;
    let amiss = FileState {
        message: "somebody else's sorts before it".into(),
        ..file(false)
    };
    node.capture.set_files(|files| files.cni = Some(amiss));
    let status = node.until(|status| !status.capture_ready).await;
    assert_eq!(
        status.message,
        "the shim is not in place: somebody else's sorts before it"
    );
    node.capture.set_files(|files| files.cni = Some(file(true)));
    node.until(|status| status.capture_ready).await;
}

/// Finds what a test lets it find.
#[derive(Clone, Debug, Default)]
struct Finding(Arc<Mutex<(BTreeMap<PodUid, NetnsId>, usize)>>);

impl Find for Finding {
    fn find(&mut self, wanted: &Missing) -> Result<NetnsId, String> {
        let mut known = self.0.lock().unwrap();
        known.1 += 1;
        let found = known.0.get(&wanted.uid).cloned();
        found.ok_or_else(|| "it is nowhere".into())
    }
}

impl Finding {
    fn let_find(&self, name: &str, path: &str, inode: u64) {
        let netns = NetnsId {
            path: PathBuf::from(path),
            device: 4,
            inode,
        };
        self.0.lock().unwrap().0.insert(uid(name), netns);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_was_there_before_is_found_and_remembered() {
    let mut node = Node::new();
    let finding = Finding::default();
    let searching = |node: &mut Node| {
        let journal = Journal::open_for_boot(node.run_dir.path(), "boot").unwrap();
        let find: Box<dyn Find> = Box::new(finding.clone());
        let kernel = node.kernel.clone();
        node.capture =
            Capture::start_with(Options::default(), kernel, journal, Some(find)).unwrap();
    };
    searching(&mut node);
    node.want(intent("zt", Wanted::Proxy, &["10.0.0.200"]));
    let status = node
        .until(|status| status.proxy.message.contains("it is nowhere"))
        .await;
    assert!(status.proxy.message.contains("shop/zt"), "{status:?}");
    // Not one that has gone by now.
    finding.let_find("zt", "/run/netns/zt", 77);
    finding.let_find("zt", "/run/netns/zt", 1);
    let status = node.until(|status| status.proxy.ready).await;
    assert_eq!(status.proxy.pod_uid, Some(uid("zt")));
    assert!(status.proxy.message.is_empty());
    assert_eq!(node.journal(), ["found-zt"]);
    // Known, it is not looked for any more, also after a restart.
    let looks = finding.0.lock().unwrap().1;
    searching(&mut node);
    node.send();
    node.until(|status| status.proxy.ready).await;
    assert_eq!(finding.0.lock().unwrap().1, looks);
    // Another pod takes its place, and nobody tells of it.
    node.kernel
        .attach("/run/netns/zt2", 2, "veth-zt2", &["10.0.0.201"]);
    node.kernel.listen("/run/netns/zt2", &[15001, 15006, 15008]);
    node.kernel.change(|state| {
        state.netns.remove(std::path::Path::new("/run/netns/zt"));
        state.links.remove("veth-zt");
    });
    finding.let_find("zt2", "/run/netns/zt2", 2);
    node.desired.pods.remove(&uid("zt"));
    node.want(intent("zt2", Wanted::Proxy, &["10.0.0.201"]));
    node.until(|status| status.proxy.ready && status.proxy.pod_uid == Some(uid("zt2")))
        .await;
}
