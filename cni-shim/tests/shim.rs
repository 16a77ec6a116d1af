//! The real program against a stand-in for the agent: every row of the table of
//! failures, and every kind of malformed input.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests; the program under test is a process"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use serde_json::json;
use sluice_proto::agent::v1::AddOutcome;
use tonic::{Code, Status};

#[path = "shim/agent.rs"]
mod agent;
#[path = "shim/deadline.rs"]
mod deadline;
#[path = "shim/hostile.rs"]
mod hostile;
#[path = "shim/malformed.rs"]
mod malformed;
#[path = "shim/run.rs"]
mod run;
#[path = "shim/verbs.rs"]
mod verbs;

use agent::{Answers, FakeAgent};
use run::{Call, Ended, PREV_RESULT};

const NOT_ENROLLED: &str = r#"{"enrolled":["other"],"notEnrolled":["shop"]}"#;
const ENROLLED: &str = r#"{"enrolled":["shop"],"notEnrolled":["other"]}"#;

fn quick(verb: &str) -> Call {
    Call::new(verb).conf("timeoutSeconds", "0.6")
}

/// What is wrong, and how that is set up.
type Away = (&'static str, fn(&Call));

/// The ways in which an agent can be away, each set up at a call's socket.
fn away() -> Vec<Away> {
    vec![
        ("no socket", |_| {}),
        ("nobody behind it", |call| {
            drop(UnixListener::bind(call.socket()).unwrap());
        }),
        ("a file", |call| fs::write(call.socket(), "x").unwrap()),
        ("hung before it accepts", |call| {
            // Kept open until the tests end.
            Box::leak(Box::new(UnixListener::bind(call.socket()).unwrap()));
        }),
        ("busy, with a full queue", |call| {
            let queue = socket(
                AddressFamily::Unix,
                SockType::Stream,
                SockFlag::empty(),
                None,
            );
            let queue = queue.unwrap();
            bind(queue.as_raw_fd(), &UnixAddr::new(&call.socket()).unwrap()).unwrap();
            listen(&queue, Backlog::new(1).unwrap()).unwrap();
            let waiting = [(); 2].map(|()| UnixStream::connect(call.socket()).unwrap());
            Box::leak(Box::new((queue, waiting)));
        }),
        ("hung after it accepts", |call| {
            let agent = FakeAgent::start(&call.socket(), Answers::Never);
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(5));
                drop(agent);
            });
        }),
        ("dies when asked", |call| {
            FakeAgent::start(&call.socket(), Answers::Never).die_when_asked();
        }),
        ("hangs up", |call| serve_bytes(call, b"")),
        ("speaks something else", |call| {
            serve_bytes(call, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }),
    ]
}

fn serve_bytes(call: &Call, bytes: &'static [u8]) {
    let listener = UnixListener::bind(call.socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.read(&mut [0; 64]);
        }
    });
}

#[test]
fn add_hands_on_what_came_before_once_the_agent_is_sure() {
    for outcome in [AddOutcome::Passed, AddOutcome::Captured, AddOutcome::Proxy] {
        let call = Call::new("ADD");
        let agent = FakeAgent::start(&call.socket(), Answers::With(outcome));
        let ended = call.run();
        assert_eq!(ended.result(), PREV_RESULT);
        assert_eq!(ended.stderr, "");
        assert_eq!(agent.asked_once().verb, "ADD");
        assert!(call.notes().is_empty());
    }
}

#[test]
fn the_agent_hears_everything_there_is_to_know() {
    let call = Call::new("ADD")
        .set(
            "TRACEPARENT",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .set("BAGGAGE", "tenant=\u{e4}\n");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    call.run().result();
    let asked = agent.asked_once();
    let sandbox = &asked.sandbox;
    assert_eq!(sandbox.container_id, "c1");
    assert_eq!(sandbox.netns, "/run/netns/p");
    assert_eq!(sandbox.ifname, "eth0");
    assert_eq!(sandbox.network, "net");
    assert_eq!(sandbox.pod_uid, "u-1");
    assert_eq!(sandbox.pod_namespace, "shop");
    assert_eq!(sandbox.pod_name, "cart");
    let add = asked.add.unwrap();
    let interfaces: Vec<_> = add
        .interfaces
        .iter()
        .map(|i| (&*i.name, &*i.sandbox))
        .collect();
    assert_eq!(interfaces, [("veth1", ""), ("eth0", "/run/netns/p")]);
    let addresses: Vec<_> = add
        .addresses
        .iter()
        .map(|a| (&*a.cidr, a.interface))
        .collect();
    assert_eq!(
        addresses,
        [("10.0.0.2/24", Some(1)), ("fd00::2/64", Some(1))]
    );
    assert!(!add.excluded);
    assert!(
        (9_000..=10_000).contains(&add.deadline_ms),
        "{}",
        add.deadline_ms
    );
    let trace = asked.metadata.get("traceparent").unwrap();
    assert!(trace.to_str().unwrap().starts_with("00-0af7"));
    assert!(
        asked.metadata.get("baggage").is_none(),
        "it cannot be a header"
    );
}

#[test]
fn a_refusal_is_told_with_the_code_of_the_table() {
    for (status, code) in [
        (Code::InvalidArgument, 7),
        (Code::NotFound, 3),
        (Code::Unavailable, 11),
        (Code::DeadlineExceeded, 11),
        (Code::FailedPrecondition, 100),
        (Code::PermissionDenied, 101),
        (Code::Internal, 102),
        (Code::Unimplemented, 102),
    ] {
        for verb in ["ADD", "CHECK"] {
            // Even where the namespace could pass: the agent has spoken.
            let call = Call::new(verb).list(NOT_ENROLLED);
            let status = Status::new(status, "no proxy on node n1");
            let agent = FakeAgent::start(&call.socket(), Answers::Refusing(status));
            let (told, text) = call.run().error();
            assert_eq!(told, code, "{verb}: {text}");
            assert!(text.contains("no proxy on node n1"), "{text}");
            assert_eq!(agent.asked_once().verb, verb);
            assert!(call.notes().is_empty());
        }
    }
    let call = Call::new("ADD");
    let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Unspecified));
    assert_eq!(call.run().error().0, 102);
}

#[test]
fn an_excluded_namespace_is_told_or_noted_and_never_held_up() {
    let status = Status::internal("no");
    for answers in [
        Answers::With(AddOutcome::Proxy),
        Answers::Refusing(status),
        Answers::Never,
    ] {
        let call = Call::new("ADD").namespace("istio-system");
        let agent = FakeAgent::start(&call.socket(), answers);
        let ended = call.run();
        assert_eq!(ended.result(), PREV_RESULT);
        assert!(ended.took < Duration::from_secs(3), "{ended:?}");
        assert!(agent.asked_once().add.unwrap().excluded);
    }
    for (how, set_up) in away() {
        for policy in ["known", "deny"] {
            let call = Call::new("ADD")
                .namespace("kube-system")
                .conf("onAgentDown", &json!(policy).to_string());
            set_up(&call);
            let ended = call.run();
            assert_eq!(ended.result(), PREV_RESULT, "{how}");
            assert!(ended.took < Duration::from_secs(3), "{how}: {ended:?}");
            // It may be the proxy, which the agent then learns of.
            let notes = call.notes();
            assert_eq!(notes.len(), 1, "{how}");
            assert_eq!(notes[0]["verb"], "PASSED", "{how}");
            assert_eq!(notes[0]["netns"], "/run/netns/p", "{how}");
        }
    }
    let own = Call::new("ADD").conf("excludeNamespaces", r#"["shop"]"#);
    own.run().result();
}

#[test]
fn without_an_agent_only_what_is_known_not_to_be_enrolled_passes() {
    for (how, set_up) in away() {
        let call = quick("ADD").list(NOT_ENROLLED);
        set_up(&call);
        let ended = call.run();
        assert_eq!(ended.result(), PREV_RESULT, "{how}");
        assert!(ended.took < Duration::from_secs(3), "{how}: {ended:?}");
        let notes = call.notes();
        assert_eq!(notes.len(), 1, "{how}");
        assert_eq!(notes[0]["verb"], "PASSED");
        assert_eq!(notes[0]["podUid"], "u-1");
        assert_eq!(notes[0]["interfaces"][0]["name"], "veth1");
        assert_eq!(
            notes[0]["addresses"][1],
            json!({"cidr": "fd00::2/64", "interface": 1})
        );

        for list in [ENROLLED, "", "{}", "garbage", &" ".repeat(2 << 20)] {
            let call = quick("ADD").list(list);
            set_up(&call);
            denied(how, &call, &call.run());
        }
        let call = quick("ADD")
            .list(NOT_ENROLLED)
            .conf("onAgentDown", "\"deny\"");
        set_up(&call);
        denied(how, &call, &call.run());
    }
    let call = quick("ADD");
    denied("no list", &call, &call.run());
}

fn denied(how: &str, call: &Call, ended: &Ended) {
    let (code, text) = ended.error();
    assert_eq!(code, 11, "{how}: {text}");
    assert!(
        text.contains("agent") && text.contains("shop/cart"),
        "{how}: {text}"
    );
    assert!(
        text.contains(call.socket().to_str().unwrap()),
        "{how}: {text}"
    );
    assert!(ended.took < Duration::from_secs(3), "{how}: {ended:?}");
    assert!(call.notes().is_empty(), "{how}");
}

#[test]
fn a_sandbox_that_is_no_pod_passes() {
    for (how, set_up) in away() {
        for arguments in ["", "IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=c1"] {
            let call = quick("ADD").set("CNI_ARGS", arguments);
            set_up(&call);
            assert_eq!(call.run().result(), PREV_RESULT, "{how}");
            assert!(call.notes().is_empty());
        }
    }
}

#[test]
fn del_succeeds_whatever_happens_and_leaves_a_note() {
    let call = Call::new("DEL").without("prevResult").unset("CNI_NETNS");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    call.run().silent();
    call.run().silent();
    assert_eq!(agent.asked().len(), 2);
    assert_eq!(agent.asked()[0].sandbox.netns, "");
    assert!(call.notes().is_empty(), "the agent knows");

    for (how, set_up) in away() {
        for broken in [PREV_RESULT, "7", r#"{"ips":7}"#, "null"] {
            let call = quick("DEL").conf("prevResult", broken);
            set_up(&call);
            let ended = call.run();
            ended.silent();
            assert!(ended.took < Duration::from_secs(3), "{how}: {ended:?}");
            assert!(ended.stderr.contains("agent.sock"), "{how}: {ended:?}");
            let notes = call.notes();
            assert_eq!(notes.len(), 1, "{how}");
            assert_eq!(notes[0]["verb"], "DEL");
            assert_eq!(notes[0]["containerId"], "c1");
        }
    }
    let call = Call::new("DEL");
    let _agent = FakeAgent::start(
        &call.socket(),
        Answers::Refusing(Status::internal("kernel")),
    );
    let ended = call.run();
    ended.silent();
    assert!(ended.stderr.contains("kernel"), "{ended:?}");
    assert_eq!(call.notes().len(), 1);
}

#[test]
fn a_note_that_cannot_be_written_stops_nothing() {
    for path in ["\"/proc/none/notes\"", "\"/\"", "\"/dev/full\""] {
        let call = quick("DEL").conf("notesFile", path);
        let ended = call.run();
        ended.silent();
        assert!(ended.stderr.contains("no note"), "{ended:?}");
        let call = quick("ADD").list(NOT_ENROLLED).conf("notesFile", path);
        assert_eq!(call.run().result(), PREV_RESULT);
    }
}

#[test]
fn check_asks_the_agent() {
    let call = Call::new("CHECK");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    call.run().silent();
    assert_eq!(agent.asked_once().verb, "CHECK");

    let call = Call::new("CHECK").without("prevResult");
    assert_eq!(call.run().error().0, 7);
    for version in ["\"0.3.0\"", "\"0.3.1\""] {
        let (code, text) = Call::new("CHECK").conf("cniVersion", version).run().error();
        assert_eq!(code, 1);
        assert!(text.contains("CHECK"), "{text}");
    }
    Call::new("CHECK").namespace("kube-system").run().silent();
    let call = quick("CHECK").list(NOT_ENROLLED);
    call.run().silent();
    assert!(call.notes().is_empty());
    assert_eq!(quick("CHECK").list(ENROLLED).run().error().0, 11);
}

#[test]
fn results_are_handed_on_in_the_version_that_was_asked_for() {
    let old = r#"{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.0.0.2/24"}],"dns":{}}"#;
    let new = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"dns":{}}"#;
    for (asked, given, expected) in [
        ("\"1.0.0\"", old, new),
        ("\"0.3.1\"", new, old),
        ("\"0.3.1\"", old, old),
        ("\"0.4.0\"", old, &old.replace("0.3.1", "0.4.0")),
        ("\"0.3.0\"", new, &old.replace("0.3.1", "0.3.0")),
        ("\"1.1.0\"", old, &new.replace("1.0.0", "1.1.0")),
        ("\"1.1.0\"", new, &new.replace("1.0.0", "1.1.0")),
        ("\"0.3.1\"", &new.replace("1.0.0", "1.1.0"), old),
    ] {
        let call = Call::new("ADD")
            .conf("cniVersion", asked)
            .conf("prevResult", given);
        let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
        assert_eq!(call.run().result(), expected);
    }
}

#[test]
fn many_at_once_each_get_their_own() {
    let call = Call::new("ADD");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(call.run().result(), PREV_RESULT));
        }
    });
    assert_eq!(agent.asked().len(), 40);
}
