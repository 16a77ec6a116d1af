use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use super::{line::parse, *};
use crate::capture::{Journal, Options, kernel::fake::FakeKernel};

/// An engine, and notes for it.
struct Node {
    dir: tempfile::TempDir,
    kernel: FakeKernel,
    capture: Capture,
    notes: Notes,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kernel = FakeKernel::new();
        let capture = start(&kernel, dir.path());
        let notes = Notes::new(dir.path().join("notes.jsonl"), capture.clone());
        Self {
            dir,
            kernel,
            capture,
            notes,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notes.jsonl")
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.path(), lines.concat()).unwrap();
    }

    /// Containers in the journal, oldest first.
    fn known(&self) -> Vec<String> {
        let journal = Journal::open_for_boot(self.dir.path(), "boot").unwrap();
        let entries = journal.load().into_iter();
        entries.map(|entry| entry.sandbox.container_id).collect()
    }

    fn rejected(&self) -> String {
        let read = fs::read(rejected(&self.path())).unwrap_or_default();
        String::from_utf8_lossy(&read).into_owned()
    }
}

fn start(kernel: &FakeKernel, run_dir: &Path) -> Capture {
    let journal = Journal::open_for_boot(run_dir, "boot").unwrap();
    Capture::start(Options::default(), kernel.clone(), journal).unwrap()
}

fn passed(container: &str) -> String {
    sealed(&format!(
        r#"{{"verb":"PASSED","network":"lab","containerId":"{container}","netns":"/run/netns/{container}","ifname":"eth0","podUid":"u-{container}","podNamespace":"n","podName":"p","interfaces":[{{"name":"veth1","mac":""}},{{"name":"eth0","sandbox":"/run/netns/b"}}],"addresses":[{{"cidr":"10.0.0.4/32"}},{{"cidr":"fd00::4/128","interface":1}}]"#
    ))
}

fn del(container: &str) -> String {
    sealed(&format!(
        r#"{{"verb":"DEL","containerId":"{container}","netns":"","ifname":"eth0""#
    ))
}

fn one(line: &[u8]) -> Line {
    let mut lines: Vec<Line> = parse(line).map(|(_, line)| line).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[test]
fn a_line_is_believed_as_it_was_written_only() {
    let Line::Passed(sandbox) = one(passed("b").as_bytes()) else {
        panic!("it is sound");
    };
    assert_eq!(sandbox.host_link.as_deref(), Some("veth1"));
    assert_eq!(sandbox.addresses.len(), 2);
    assert_eq!(one(sealed(r#"{"verb":"LOST""#).as_bytes()), Line::Lost);
    // Any bit that flips, and any end that is missing.
    let good = passed("b");
    let good = good.trim_end().as_bytes();
    for at in 0..good.len() {
        for bit in [0, 3, 7] {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            // It may fall apart in two; neither is believed.
            for (_, line) in parse(&bad) {
                assert!(matches!(line, Line::Rejected(_)), "{line:?}: {at}.{bit}");
            }
        }
        for (_, line) in parse(&good[..at]) {
            assert!(matches!(line, Line::Rejected(_)), "{line:?}: {at}");
        }
    }
    let bad = [
        r#"{"verb":"DEL","containerId":"a","ifname":"eth0"}"#.to_owned(),
        sealed(r#"{"verb":"DEL","containerId":"../x""#),
        sealed(r#"{"verb":"GC","containerId":"a""#),
        sealed(r#"{"containerId":"a""#),
        sealed("not json"),
        sealed(&format!(
            r#"{{"verb":"DEL","podName":"{}""#,
            "x".repeat(20_000)
        )),
    ];
    for bad in bad {
        assert!(matches!(one(bad.as_bytes()), Line::Rejected(_)), "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_set_aside_and_the_others_are_done() {
    let node = Node::new();
    let mut events = node.capture.events();
    let torn = &passed("torn")[..40];
    let mut flipped = passed("flipped").into_bytes();
    flipped[20] ^= 4;
    let long = "x".repeat(100_000);
    let mut all = [passed("a").as_bytes(), b"garbage \xff\xc3\n\n", &flipped].concat();
    all.extend(passed("b").as_bytes());
    all.extend(format!("{long}\n{}{}{torn}", del("a"), passed("c")).as_bytes());
    fs::write(node.path(), &all).unwrap();
    node.notes.take_over().await;
    assert_eq!(node.known(), ["b", "c"]);
    assert_eq!(fs::read(node.path()).unwrap(), b"");
    let kept = fs::read(rejected(&node.path())).unwrap();
    let lines: Vec<&[u8]> = kept.split(|byte| *byte == b'\n').collect();
    // The last is what comes after the last line's end.
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines[0], b"garbage \xff\xc3");
    assert_eq!(lines[1], flipped.trim_ascii_end());
    assert!(lines[2].len() < 20_000 && lines[2].starts_with(b"xxx"));
    assert_eq!(lines[3], torn.as_bytes());
    let mode = fs::metadata(rejected(&node.path())).unwrap().permissions();
    assert_eq!(mode.mode() & 0o7777, 0o600);
    let event = events.recv().await.unwrap();
    assert_eq!(event.kind, EventKind::Sandbox);
    assert!(event.message.starts_with("4 notes"), "{}", event.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_does_not_grow_without_end() {
    let node = Node::new();
    for round in 0..4 {
        let line = format!("{round}{}\n", "x".repeat(9_999));
        fs::write(node.path(), line.repeat(20)).unwrap();
        node.notes.take_over().await;
    }
    let kept = node.rejected();
    assert!(kept.len() <= MAX_REJECTED && kept.len() > 200_000);
    assert!(kept.lines().all(|line| line.len() == 10_000));
    assert!(kept.ends_with(&format!("3{}\n", "x".repeat(9_999))));
    // Something else in its place is not written through.
    let victim = node.dir.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    fs::remove_file(rejected(&node.path())).unwrap();
    symlink(&victim, rejected(&node.path())).unwrap();
    node.write(&["bad\n".into()]);
    node.notes.take_over().await;
    assert_eq!(fs::read(&victim).unwrap(), b"kept");
    assert_eq!(node.rejected(), "bad\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_counts_and_twice_is_as_good_as_once() {
    let node = Node::new();
    let lines = [
        passed("a"),
        del("a"),
        passed("a"),
        passed("b"),
        del("b"),
        del("c"),
    ];
    node.write(&lines);
    node.notes.take_over().await;
    assert_eq!(node.known(), ["a"]);
    // Killed after all was done, and before the file was emptied.
    let capture = start(&node.kernel, node.dir.path());
    let again = Notes::new(node.path(), capture);
    node.write(&lines);
    again.take_over().await;
    assert_eq!(node.known(), ["a"]);
    assert_eq!(fs::read(node.path()).unwrap(), b"");
    // In the middle of it.
    node.write(&lines[..2]);
    again.take_over().await;
    node.write(&lines);
    again.take_over().await;
    assert_eq!(node.known(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_is_told() {
    let node = Node::new();
    let mut events = node.capture.events();
    node.write(&[passed("a"), sealed(r#"{"verb":"LOST""#)]);
    node.notes.take_over().await;
    let event = events.recv().await.unwrap();
    assert!(event.message.contains("more to note"), "{}", event.message);
    assert_eq!(node.known(), ["a"]);
    assert_eq!(node.rejected(), "");
    // What is much too long was not written by the shim.
    let line = passed("b");
    let many = (3 << 20) / line.len();
    fs::write(node.path(), line.repeat(many)).unwrap();
    node.notes.take_over().await;
    assert_eq!(fs::read(node.path()).unwrap(), b"");
    assert_eq!(node.known(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_meanwhile_loses_nothing() {
    let node = Node::new();
    let path = node.path();
    let writing = task::spawn_blocking(move || {
        for number in 0..100 {
            // As the shim does it.
            let mut options = OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path).unwrap();
            file.lock().unwrap();
            file.write_all(passed(&format!("c{number:03}")).as_bytes())
                .unwrap();
        }
    });
    while !writing.is_finished() {
        node.notes.settle().await;
    }
    writing.await.unwrap();
    node.notes.settle().await;
    let expected: Vec<String> = (0..100).map(|number| format!("c{number:03}")).collect();
    assert_eq!(node.known(), expected);
    assert_eq!(node.rejected(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_is_not_waited_for_without_end() {
    let node = Node::new();
    node.write(&[passed("a")]);
    let held = File::open(node.path()).unwrap();
    held.lock().unwrap();
    node.notes.take_over().await;
    assert_eq!(node.known(), [""; 0]);
    // It rests, so that calls are not held up again and again.
    assert!(node.notes.trouble.lock().await.until.is_some());
    node.notes.settle().await;
    held.unlock().unwrap();
    // As after the rest.
    node.notes.trouble.lock().await.until = None;
    node.notes.settle().await;
    assert_eq!(node.known(), ["a"]);
    assert!(node.notes.trouble.lock().await.why.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_left_alone() {
    let node = Node::new();
    // Nothing there.
    node.notes.take_over().await;
    node.notes.settle().await;
    assert!(node.notes.trouble.lock().await.why.is_empty());
    let victim = node.dir.path().join("victim");
    fs::write(&victim, passed("a")).unwrap();
    let trouble = async |what: &str| {
        node.notes.take_over().await;
        let trouble = node.notes.trouble.lock().await;
        assert!(!trouble.why.is_empty(), "{what}");
    };
    symlink(&victim, node.path()).unwrap();
    trouble("a link").await;
    fs::remove_file(node.path()).unwrap();
    mkfifo(&node.path(), Mode::S_IRWXU).unwrap();
    trouble("a pipe").await;
    fs::remove_file(node.path()).unwrap();
    fs::create_dir(node.path()).unwrap();
    trouble("a directory").await;
    assert_eq!(fs::read_to_string(&victim).unwrap(), passed("a"));
    assert_eq!(node.known(), [""; 0]);
}
