//! What comes at once, late, or not at all, through the real shim.

use std::{
    collections::BTreeSet,
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sluice_proto::capture::v1::PodState;
use sluice_tests::lab::{
    Lab,
    cni::{Attachment, Chain, CniError},
    disk::Disk,
    netns::Netns,
    observe::Snapshot,
    pod::PodSpec,
    wait,
};

/// A sandbox of an enrolled pod, not attached yet.
struct Sandbox {
    link_of: Mutex<Option<String>>,
    _netns: Netns,
    chain: Chain,
    attachment: Attachment,
}

impl Sandbox {
    fn new(lab: &Lab, host: u8) -> Self {
        let spec = PodSpec::new(&format!("p{host}"), "na", host, "shop");
        lab.folder.pod(&spec.document(&[]));
        let (netns, chain, attachment) = lab.sandbox(&spec, true);
        Self {
            link_of: Mutex::default(),
            _netns: netns,
            chain,
            attachment,
        }
    }

    fn add(&self, node: &Netns) -> Result<(), CniError> {
        let result = self.chain.add(node, &self.attachment)?;
        let mut links = result["interfaces"].as_array().into_iter().flatten();
        let host = links.find(|one| one.get("sandbox").is_none_or(|at| at == ""));
        let name = host.and_then(|one| one["name"].as_str()).map(str::to_owned);
        assert!(name.is_some(), "{result}");
        *self.link_of.lock().unwrap() = name;
        Ok(())
    }

    fn del(&self, node: &Netns) {
        assert_eq!(self.chain.del(node, &self.attachment), Ok(()));
        *self.link_of.lock().unwrap() = None;
    }

    /// Again, as kubelet does, until it succeeds.
    fn add_at_last(&self, node: &Netns) {
        wait::value("an ADD to succeed", wait::LONG, || {
            self.add(node).map_err(|error| {
                // Its own failure is not the news.
                let _ = self.chain.del(node, &self.attachment);
                format!("{error:?}")
            })
        });
    }

    fn link(&self) -> Option<String> {
        self.link_of.lock().unwrap().clone()
    }
}

/// Containers in the agent's journal.
fn journal(lab: &Lab) -> BTreeSet<String> {
    let files = fs::read_dir(lab.node("na").run_dir().join("journal")).unwrap();
    let names = files.flatten().map(|file| file.file_name());
    names
        .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
        .collect()
}

/// What is configured on the node for capture: links of pods come and go.
fn rules(lab: &Lab) -> String {
    let all = Snapshot::configuration(lab.ns("na"));
    ["nft", "rules4", "rules6", "routes4", "routes6"]
        .map(|section| all.section(section).to_owned())
        .concat()
}

fn notes(lab: &Lab) -> String {
    let file = lab.node("na").state_dir().join("cni-notes.jsonl");
    fs::read_to_string(file).unwrap_or_default()
}

fn signal(lab: &mut Lab, signal: Signal) {
    let agent = lab.agent_mut("na");
    agent.process.as_ref().unwrap().signal(signal);
}

/// What follows the node's addresses may come a moment later.
fn until_rules_are(lab: &Lab, before: &str) {
    wait::value("the node to be as before", wait::LONG, || {
        let now = rules(lab);
        if now == before { Ok(()) } else { Err(now) }
    });
}

/// Waits until these containers, and no others, are in the agent's journal.
fn until_journal_is(lab: &Lab, expected: &BTreeSet<String>) {
    wait::value("the journal to be right", wait::LONG, || {
        let found = journal(lab);
        if found == *expected {
            Ok(())
        } else {
            Err(format!("{found:?}, not {expected:?}"))
        }
    });
}

#[track_caller]
fn is_captured(rules: &str, link: &str) {
    let quoted = format!("\"{link}\"");
    assert!(rules.contains(&quoted), "{link} is not steered: {rules}");
}

#[test]
fn a_del_voids_an_add_that_waits_for_the_proxy() {
    let mut lab = Lab::new(1);
    lab.enrol();
    lab.start_controller();
    lab.start_agent("na", &[]);
    lab.add_pod(PodSpec::proxy("za", "na"));
    let sandbox = Sandbox::new(&lab, 5);
    let node = lab.ns("na").clone();
    thread::scope(|scope| {
        let adding = scope.spawn(|| sandbox.add(&node));
        thread::sleep(Duration::from_millis(800));
        assert!(!adding.is_finished(), "ADD must wait for the proxy");
        sandbox.del(&node);
        lab.start_proxy("na");
        let error = adding.join().unwrap().expect_err("the ADD is void");
        assert_eq!(error.plugin, "sluice-cni", "{error:?}");
        assert!(error.msg.contains("deleted"), "{error:?}");
    });
    assert!(!journal(&lab).contains(&sandbox.attachment.container_id));
    let address = lab.node("na").pod4(5).to_string();
    let left = rules(&lab);
    assert!(!left.contains(&format!("{address} ")), "{left}");
}

#[test]
fn sixty_four_sandboxes_at_once_come_and_go() {
    let mut lab = Lab::one_node_with(&["--add-deadline", "60s"], Vec::new());
    let shim = &mut lab.node_mut("na").shim;
    shim.insert("timeoutSeconds".into(), json!(90));
    let (before, known) = (rules(&lab), journal(&lab));
    let all: Vec<Sandbox> = (20..84).map(|host| Sandbox::new(&lab, host)).collect();
    let node = lab.ns("na").clone();
    thread::scope(|scope| {
        for sandbox in &all {
            scope.spawn(|| assert_eq!(sandbox.add(&node), Ok(())));
        }
    });
    let steered = rules(&lab);
    for sandbox in &all {
        is_captured(&steered, &sandbox.link().unwrap());
    }
    assert_eq!(journal(&lab).len(), known.len() + 64);
    thread::scope(|scope| {
        for sandbox in &all {
            scope.spawn(|| sandbox.del(&node));
        }
    });
    assert_eq!(journal(&lab), known);
    until_rules_are(&lab, &before);
    assert!(lab.through_proxy("a1", "u1"));
}

#[test]
fn killed_again_and_again_nothing_is_left_and_nothing_uncaptured() {
    let mut lab = Lab::one_node();
    let (before, known) = (rules(&lab), journal(&lab));
    let all: Vec<Sandbox> = (20..84).map(|host| Sandbox::new(&lab, host)).collect();
    let node = lab.ns("na").clone();
    let finished = AtomicUsize::new(0);
    let (stay, go): (Vec<_>, Vec<_>) = all.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let workers = 8;
    thread::scope(|scope| {
        for part in all.chunks(all.len() / workers) {
            let (node, finished) = (&node, &finished);
            scope.spawn(move || {
                for (at, sandbox) in part.iter().enumerate() {
                    sandbox.add_at_last(node);
                    if at % 2 == 1 {
                        sandbox.del(node);
                    }
                }
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
        let end = Instant::now() + Duration::from_secs(240);
        while finished.load(Ordering::SeqCst) < workers {
            assert!(Instant::now() < end, "the sandboxes do not come to an end");
            let agent = lab.agent_mut("na");
            agent.kill();
            // Anywhere between the socket and the last write.
            let pause = RandomState::new().build_hasher().finish() % 1500;
            agent.launch();
            thread::sleep(Duration::from_millis(100 + pause));
        }
    });
    lab.agent_mut("na").kill();
    lab.agent_mut("na").start();
    wait::value("the notes to be taken", wait::LONG, || {
        let left = notes(&lab);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    lab.wait_captured(&["a1", "a2"]);
    let expected: BTreeSet<String> = stay
        .iter()
        .map(|(_, sandbox)| sandbox.attachment.container_id.clone())
        .chain(known.iter().cloned())
        .collect();
    until_journal_is(&lab, &expected);
    lab.agent("na").resync().unwrap();
    let steered = rules(&lab);
    for (_, sandbox) in &stay {
        is_captured(&steered, &sandbox.link().unwrap());
    }
    for (_, sandbox) in &stay {
        sandbox.del(&node);
    }
    assert!(go.iter().all(|(_, sandbox)| sandbox.link().is_none()));
    assert_eq!(journal(&lab), known);
    until_rules_are(&lab, &before);
}

#[test]
fn what_vanished_is_forgotten() {
    let mut lab = Lab::one_node_with(&["--resync-interval", "1s"], Vec::new());
    let known = journal(&lab);
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    lab.vanish("a5");
    until_journal_is(&lab, &known);
    assert!(lab.metrics("na").contains("sluice_sandboxes_swept_total 1"));
    // Its object is still there.
    lab.wait_state("a5", PodState::Pending);
    assert!(lab.through_proxy("a1", "u1"));
}

#[test]
fn an_agent_that_hung_takes_the_notes_when_it_answers_again() {
    let mut lab = Lab::one_node();
    let known = journal(&lab);
    let shim = &mut lab.node_mut("na").shim;
    shim.insert("timeoutSeconds".into(), json!(1));
    let sandbox = Sandbox::new(&lab, 5);
    let node = lab.ns("na").clone();
    sandbox.add_at_last(&node);
    signal(&mut lab, Signal::SIGSTOP);
    sandbox.del(&node);
    assert!(notes(&lab).contains(&sandbox.attachment.container_id));
    signal(&mut lab, Signal::SIGCONT);
    wait::value("the note to be taken", wait::LONG, || {
        let (left, found) = (notes(&lab), journal(&lab));
        if left.is_empty() && found == known {
            Ok(())
        } else {
            Err(format!("{left} {found:?}"))
        }
    });
}

#[test]
fn a_full_disk_stops_no_del_and_what_is_gone_is_found() {
    let mut lab = Lab::one_node();
    let known = journal(&lab);
    let dir = lab.dir().join("full");
    let disk = Disk::mount(&dir, 4);
    disk.fill();
    let file = dir.join("cni-notes.jsonl");
    let shim = &mut lab.node_mut("na").shim;
    shim.insert("notesFile".into(), json!(file));
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    lab.agent_mut("na").kill();
    let pod = lab.pod("a5");
    let (chain, attachment) = (pod.chain.clone(), pod.attachment.clone());
    assert_eq!(chain.del(lab.ns("na"), &attachment), Ok(()));
    assert_eq!(fs::read(&file).unwrap(), b"");
    lab.vanish("a5");
    lab.agent_mut("na").start();
    until_journal_is(&lab, &known);
    lab.wait_state("a5", PodState::Pending);
    drop(disk);
}

#[test]
fn after_a_reboot_the_journal_is_not_believed_and_the_last_state_is() {
    let mut lab = Lab::one_node();
    let known = PodSpec::new("a5", "na", 5, "shop");
    lab.folder.pod(&known.document(&[]));
    wait::value("the agent to know a5", wait::LONG, || {
        lab.agent("na").pod("a5")
    });
    lab.stop_controller();
    lab.agent_mut("na").kill();
    let folder = lab.node("na").run_dir().join("journal");
    for file in fs::read_dir(&folder).unwrap().flatten() {
        let text = fs::read(file.path()).unwrap();
        let mut entry: Value = serde_json::from_slice(&text).unwrap();
        entry["boot"] = json!("another-boot");
        fs::write(file.path(), entry.to_string()).unwrap();
    }
    let before = journal(&lab);
    lab.agent_mut("na").start();
    // The proxy is looked for, and pods of the last state are captured.
    lab.wait_captured(&["a1", "a2"]);
    assert!(journal(&lab).is_disjoint(&before));
    lab.attach_unannounced(known, true)
        .expect("known from the last good state");
    assert!(lab.through_proxy("a5", "u1"));
}
