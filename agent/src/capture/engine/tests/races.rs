//! What comes at once, late, twice, or not at all.

use super::*;
use crate::{capture::Added, status::EventKind};

impl Node {
    /// Sandboxes that are gone are forgotten at the second look.
    async fn without_grace() -> Self {
        let mut node = Self::ready().await;
        node.start_with(Options {
            grace: Duration::ZERO,
            ..Options::default()
        });
        node.send();
        node.until(|status| status.proxy.ready).await;
        node
    }

    fn start_with(&mut self, options: Options) {
        let journal = Journal::open_for_boot(self.run_dir.path(), "boot").unwrap();
        self.capture = Capture::start(options, self.kernel.clone(), journal).unwrap();
    }

    /// A sandbox goes, and nobody says so.
    fn vanish(&self, name: &str) {
        self.kernel.change(|state| {
            state
                .netns
                .remove(std::path::Path::new(&format!("/run/netns/{name}")));
            state.links.remove(&format!("veth-{name}"));
        });
    }

    async fn looked_at(&self, times: usize) {
        for _ in 0..times {
            self.capture.resync().await.unwrap();
        }
    }

    fn link_of(&self, name: &str) -> String {
        self.kernel.state().node.pods[&uid(name)].link.name.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn add_and_del_at_once_end_in_one_or_the_other() {
    let mut node = Node::ready().await;
    let sandbox = node.pod("a", 11, "10.0.0.4");
    for round in 0..50 {
        let ticket = node.capture.ticket();
        let (capture, sandbox) = (node.capture.clone(), sandbox.clone());
        let adding = tokio::spawn(async move { capture.add(ticket, sandbox, None).await });
        node.capture.del("a".into(), "eth0".into()).await;
        // The DEL came after the ADD: whoever was quicker, nothing is left.
        let added: Result<Added, AddError> = adding.await.unwrap();
        if let Err(error) = added {
            assert!(
                matches!(error, AddError::Deleted { .. }),
                "{round}: {error}"
            );
        }
        assert_eq!(node.programmed(), [""; 0], "{round}");
        assert_eq!(node.journal(), ["zt"], "{round}");
    }
    node.add(&sandbox).await.unwrap();
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_dels_do_not_make_an_add_that_waits_valid() {
    let mut node = Node::ready().await;
    let sandbox = node.pod("a", 11, "10.0.0.4");
    let waiting = node.capture.ticket();
    // More than are remembered, none of them old.
    for number in 0..4200 {
        node.capture.del(format!("x{number}"), String::new()).await;
    }
    node.capture.del("a".into(), "eth0".into()).await;
    let late = node.capture.add(waiting, sandbox, None).await;
    assert!(matches!(late, Err(AddError::Deleted { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_of_two_sandboxes_goes_first() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.kernel
        .attach("/run/netns/a2", 12, "veth-a2", &["10.0.0.5"]);
    node.add(&sandbox("a2", "a", &["10.0.0.5"])).await.unwrap();
    node.capture.del("a2".into(), "eth0".into()).await;
    // Its rules do not stay: the other one is the pod's only one now.
    let is_first = |pod: &PodStatus| pod.interface.as_deref() == Some("veth-a");
    node.until(|status| status.pods.get(&uid("a")).is_some_and(is_first))
        .await;
    assert_eq!(node.link_of("a"), "veth-a");
    node.capture.del("a".into(), "eth0".into()).await;
    assert_eq!(node.journal(), ["zt"]);
    assert_eq!(node.programmed(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_same_name_is_another_pod() {
    let mut node = Node::ready().await;
    let named = |uid_of: &str, container: &str, address: &str| Sandbox {
        name: "db-0".into(),
        ..sandbox(container, uid_of, &[address])
    };
    let want = |node: &mut Node, uid_of: &str| {
        let mut wanted = intent(uid_of, Wanted::Captured, &[]);
        wanted.name = "db-0".into();
        node.want(wanted);
    };
    want(&mut node, "old");
    node.kernel
        .attach("/run/netns/o", 11, "veth-o", &["10.0.0.4"]);
    node.add(&named("old", "o", "10.0.0.4")).await.unwrap();
    // The next one of the set, before the old one's DEL.
    node.desired.pods.remove(&uid("old"));
    want(&mut node, "new");
    node.kernel
        .attach("/run/netns/n", 12, "veth-n", &["10.0.0.5"]);
    node.add(&named("new", "n", "10.0.0.5")).await.unwrap();
    assert_eq!(node.link_of("new"), "veth-n");
    node.capture.del("o".into(), "eth0".into()).await;
    node.looked_at(1).await;
    assert_eq!(node.programmed(), ["new"]);
    assert_eq!(node.link_of("new"), "veth-n");
    assert_eq!(node.journal(), ["zt", "n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_goes_on_at_once_when_its_owner_is_gone() {
    let mut node = Node::ready().await;
    let mut events = node.capture.events();
    node.added("a", 11, "10.0.0.4").await;
    // The API server still says that it has the address.
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    let b = node.pod("b", 12, "10.0.0.4");
    // Half of the evidence is none.
    node.kernel
        .change(|state| drop(state.netns.remove(std::path::Path::new("/run/netns/a"))));
    let taken = node.add(&b).await;
    assert!(matches!(taken, Err(AddError::Refused { .. })), "{taken:?}");
    assert_eq!(node.programmed(), ["a"]);
    node.vanish("a");
    node.add(&b).await.unwrap();
    assert_eq!(node.programmed(), ["b"]);
    assert_eq!(node.journal(), ["zt", "b"]);
    node.until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
    let swept = async {
        loop {
            let event = events.recv().await.unwrap();
            if event.kind == EventKind::Sandbox {
                return event;
            }
        }
    };
    assert_eq!(soon(swept).await.pod, Some(uid("a")));
    // The DEL comes after all.
    node.capture.del("a".into(), "eth0".into()).await;
    assert_eq!(node.programmed(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_a_pod_that_nobody_added_goes_on_too() {
    let mut node = Node::ready().await;
    node.kernel
        .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.until_pod("a", PodState::Captured, None).await;
    let b = node.pod("b", 12, "10.0.0.4");
    let taken = node.add(&b).await;
    assert!(matches!(taken, Err(AddError::Refused { .. })), "{taken:?}");
    node.vanish("a");
    node.add(&b).await.unwrap();
    assert_eq!(node.programmed(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_forgotten_after_a_while() {
    let mut node = Node::without_grace().await;
    let a = node.added("a", 11, "10.0.0.4").await;
    node.added("b", 12, "10.0.0.5").await;
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    let only = |what: &str| {
        node.kernel.change(|state| match what {
            "netns" => drop(state.netns.remove(&a.netns)),
            _ => drop(state.links.remove("veth-a")),
        });
    };
    let back = || {
        node.kernel
            .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
    };
    // Half of it is gone.
    for half in ["netns", "link"] {
        only(half);
        node.looked_at(3).await;
        assert_eq!(node.journal(), ["zt", "a", "b"], "{half}");
        back();
    }
    // It cannot be looked at.
    node.vanish("a");
    node.kernel.state().blind = true;
    node.looked_at(3).await;
    assert_eq!(node.journal(), ["zt", "a", "b"]);
    // Once is not enough.
    node.kernel.state().blind = false;
    node.looked_at(1).await;
    assert_eq!(node.journal(), ["zt", "a", "b"]);
    back();
    node.looked_at(1).await;
    node.vanish("a");
    node.looked_at(1).await;
    assert_eq!(node.journal(), ["zt", "a", "b"]);
    node.looked_at(1).await;
    assert_eq!(node.journal(), ["zt", "b"]);
    assert_eq!(node.programmed(), ["b"]);
    let pod = node
        .until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
    assert!(!pod.steered);
    // It is not held against the pod's next sandbox.
    back();
    node.add(&a).await.unwrap();
    assert_eq!(node.programmed(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_is_given() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.vanish("a");
    node.looked_at(5).await;
    assert_eq!(node.journal(), ["zt", "a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_used_again_do_not_keep_what_is_gone() {
    let mut node = Node::without_grace().await;
    // Namespace and link have the numbers of those before; the path, too.
    node.added("a", 11, "10.0.0.4").await;
    node.vanish("a");
    node.kernel
        .attach("/run/netns/a", 11, "veth-b", &["10.0.0.5"]);
    node.want(intent("b", Wanted::Captured, &[]));
    let b = Sandbox {
        netns: "/run/netns/a".into(),
        ..sandbox("b", "b", &["10.0.0.5"])
    };
    node.add(&b).await.unwrap();
    node.looked_at(2).await;
    assert_eq!(node.journal(), ["zt", "b"]);
    assert_eq!(node.programmed(), ["b"]);
    assert_eq!(node.link_of("b"), "veth-b");
    // Another namespace behind the same path, and nobody's link of that number:
    // it may be the same link under another name.
    node.added("c", 21, "10.0.0.6").await;
    node.vanish("c");
    node.kernel
        .attach("/run/netns/other", 21, "renamed", &["10.0.0.7"]);
    node.looked_at(3).await;
    assert_eq!(node.journal(), ["zt", "b", "c"]);
    node.kernel
        .change(|state| drop(state.links.remove("renamed")));
    node.looked_at(2).await;
    assert_eq!(node.journal(), ["zt", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_while_the_agent_was_away_is_forgotten_at_start() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    node.added("b", 12, "10.0.0.5").await;
    node.want(intent("a", Wanted::Captured, &["10.0.0.4"]));
    node.vanish("a");
    std::fs::write(node.run_dir.path().join("journal/odd.json"), "{").unwrap();
    node.restart();
    node.send();
    node.until_pod("b", PodState::Captured, None).await;
    node.until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
    assert_eq!(node.programmed(), ["b"]);
    let left = std::fs::read_dir(node.run_dir.path().join("journal")).unwrap();
    assert_eq!(left.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_the_journal_is_not_believed() {
    let mut node = Node::ready().await;
    node.added("a", 11, "10.0.0.4").await;
    // Everything has the same names and numbers again, but is another pod's.
    node.kernel
        .change(|state| state.node = sluice_kernel::model::Node::default());
    let journal = Journal::open_for_boot(node.run_dir.path(), "another boot").unwrap();
    node.capture = Capture::start(Options::default(), node.kernel.clone(), journal).unwrap();
    node.desired.origin = Origin::Disk;
    node.send();
    node.until_pod("a", PodState::Pending, Some(Reason::NoSandbox))
        .await;
    assert_eq!(node.programmed(), [""; 0]);
    assert_eq!(node.journal(), [""; 0]);
    // The state from the disk answers, once the proxy has been added again.
    node.capture
        .noted(sandbox("zt", "zt", &["10.0.0.200"]))
        .await;
    node.until(|status| status.proxy.ready).await;
    let again = sandbox("a", "a", &["10.0.0.4"]);
    node.add(&again).await.unwrap();
    assert_eq!(node.programmed(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_at_once_come_and_go() {
    let mut node = Node::ready().await;
    let sandboxes: Vec<Sandbox> = (0..64)
        .map(|number| {
            node.pod(
                &format!("p{number:02}"),
                100 + number,
                &format!("10.0.1.{number}"),
            )
        })
        .collect();
    let adding: Vec<_> = sandboxes
        .iter()
        .map(|sandbox| {
            let (capture, sandbox) = (node.capture.clone(), sandbox.clone());
            tokio::spawn(async move { capture.add(capture.ticket(), sandbox, None).await })
        })
        .collect();
    for added in adding {
        added.await.unwrap().unwrap();
    }
    assert_eq!(node.programmed().len(), 64);
    let deleting: Vec<_> = sandboxes
        .iter()
        .map(|sandbox| {
            let (capture, id) = (node.capture.clone(), sandbox.container_id.clone());
            tokio::spawn(async move { capture.del(id, "eth0".into()).await })
        })
        .collect();
    for deleted in deleting {
        deleted.await.unwrap();
    }
    assert_eq!(node.programmed(), [""; 0]);
    assert_eq!(node.journal(), ["zt"]);
}
