//! GC, and what comes and goes at the same time.

use std::{sync::mpsc, thread};

use super::*;

fn attached(containers: &[&str]) -> BTreeSet<(String, String)> {
    let attached = |container: &&str| ((*container).to_owned(), "eth0".to_owned());
    containers.iter().map(attached).collect()
}

impl Node {
    async fn gc(&self, valid: &[&str]) -> usize {
        let collected = self.capture.gc("net".into(), attached(valid));
        collected.await.unwrap()
    }

    /// Nothing gets to the kernel, and thus out of the engine, until this is
    /// dropped.
    fn hold(&self) -> Held {
        let (release, released) = mpsc::channel::<()>();
        let (locked, is_locked) = mpsc::channel();
        let kernel = self.kernel.clone();
        let thread = thread::spawn(move || {
            let _state = kernel.state();
            locked.send(()).unwrap();
            let _ = released.recv_timeout(SOON);
        });
        is_locked.recv().unwrap();
        Held {
            release: Some(release),
            thread: Some(thread),
        }
    }
}

struct Held {
    release: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release.take());
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_listed_is_forgotten_and_the_rest_stays() {
    let mut node = Node::ready().await;
    for (name, inode, address) in [
        ("a", 11, "10.0.0.4"),
        ("b", 12, "10.0.0.5"),
        ("c", 13, "fd00::6"),
    ] {
        node.added(name, inode, address).await;
    }
    assert_eq!(node.gc(&["zt", "a", "b", "c"]).await, 0);
    assert_eq!(node.gc(&["zt", "b", "strange"]).await, 2);
    assert_eq!(node.programmed(), ["b"]);
    assert_eq!(node.journal(), ["zt", "b"]);
    // By its address alone it is not captured again.
    node.capture.resync().await.unwrap();
    assert_eq!(node.programmed(), ["b"]);
    let elsewhere = node.capture.gc("other".into(), BTreeSet::new()).await;
    assert_eq!(elsewhere, Ok(0));
    // The list is of interfaces, not of containers.
    let other = BTreeSet::from([("b".to_owned(), "net1".to_owned())]);
    assert_eq!(node.capture.gc("net".into(), other).await, Ok(2));
    assert_eq!(node.programmed(), [""; 0]);
    assert_eq!(node.journal(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_says_which_network_a_sandbox_is_of() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.restart();
    node.send();
    node.until_pod("a", PodState::Captured, None).await;
    assert_eq!(node.gc(&["zt"]).await, 1);
    assert_eq!(node.programmed(), [""; 0]);
    // Of one from before it is not known.
    let old = Sandbox {
        network: String::new(),
        ..node.pod("b", 12, "10.0.0.5")
    };
    node.add(&old).await.unwrap();
    assert_eq!(node.gc(&["zt"]).await, 0);
    assert_eq!(node.programmed(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_was_not_over_stays() {
    let mut node = Node::ready().await;
    node.added("old", 10, "10.0.0.3").await;
    let a = node.pod("a", 11, "10.0.0.4");
    let b = node.pod("b", 12, "10.0.0.5");
    node.until(|status| status.pods.contains_key(&uid("b")))
        .await;
    // Begun before the GC came, handled before it, and over only after it came.
    let held = node.hold();
    let capture = node.capture.clone();
    let ticket = capture.ticket();
    let adding = tokio::spawn(async move { capture.add(ticket, a, None).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let capture = node.capture.clone();
    let collecting = tokio::spawn(async move { capture.gc("net".into(), attached(&["zt"])).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(held);
    soon(adding).await.unwrap().unwrap();
    assert_eq!(soon(collecting).await.unwrap(), Ok(1));
    assert_eq!(node.programmed(), ["a"]);
    // Begun before, and tried again after.
    let early = node.capture.ticket();
    assert_eq!(node.gc(&["zt", "a"]).await, 0);
    node.capture.add(early, b, None).await.unwrap();
    assert_eq!(node.programmed(), ["a", "b"]);
    // The next one finds them.
    assert_eq!(node.gc(&["zt"]).await, 2);
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_and_del_of_one_sandbox_do_not_hinder_each_other() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    let waiting = node.capture.ticket();
    let held = node.hold();
    let (gone, collected) = (node.capture.clone(), node.capture.clone());
    let deleting = tokio::spawn(async move { gone.del("a".into(), "eth0".into()).await });
    let collecting =
        tokio::spawn(async move { collected.gc("net".into(), attached(&["zt"])).await });
    drop(held);
    soon(deleting).await.unwrap();
    assert!(soon(collecting).await.unwrap().unwrap() <= 1);
    assert_eq!(node.programmed(), [""; 0]);
    // The DEL still counts against an ADD that is older.
    let sandbox = sandbox("a", "a", &["10.0.0.4"]);
    let late = node.capture.add(waiting, sandbox, None).await;
    assert!(matches!(late, Err(AddError::Deleted { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_removed_is_tried_again_and_stops_nothing() {
    let mut node = Node::ready().await;
    for (name, inode, address) in [("a", 11, "10.0.0.4"), ("b", 12, "10.0.0.5")] {
        node.added(name, inode, address).await;
    }
    node.kernel.change(|state| state.broken = true);
    assert_eq!(node.gc(&["zt"]).await, 2);
    assert_eq!(node.journal(), ["zt"]);
    let pod = node.capture.status().borrow().pods[&uid("a")].clone();
    assert!(pod.steered, "{pod:?}");
    node.kernel.change(|state| state.broken = false);
    node.until(|status| status.pods.values().all(|pod| !pod.steered))
        .await;
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_sandbox_of_the_pod_keeps_its_rules() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel
        .attach("/run/netns/a2", 12, "veth-a2", &["10.0.0.5"]);
    node.add(&sandbox("a2", "a", &["10.0.0.5"])).await.unwrap();
    assert_eq!(node.gc(&["zt", "a2"]).await, 1);
    assert_eq!(node.programmed(), ["a"]);
    assert_eq!(node.journal(), ["zt", "a2"]);
}
