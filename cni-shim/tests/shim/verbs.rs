//! STATUS, GC and the rest of CNI 1.1.0.

use std::{
    env, fs,
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use super::*;

fn newest(verb: &str) -> Call {
    Call::new(verb).conf("cniVersion", "\"1.1.0\"")
}

/// As libcni calls for no sandbox: the variables are there, and empty.
fn of_no_sandbox(verb: &str) -> Call {
    ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"]
        .into_iter()
        .fold(newest(verb).without("prevResult"), |call, name| {
            call.set(name, "")
        })
}

fn status() -> Call {
    of_no_sandbox("STATUS")
}

fn gc(valid: &str) -> Call {
    of_no_sandbox("GC").conf("cni.dev/valid-attachments", valid)
}

#[test]
fn status_asks_the_agent_and_is_silent() {
    let call = status();
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    let ended = call.run();
    ended.silent();
    assert_eq!(ended.stderr, "");
    assert_eq!(agent.asked_once().verb, "STATUS");
    let call = call
        .set("TRACEPARENT", "00-ab-cd-01")
        .unset("CNI_CONTAINERID");
    call.run().silent();
    assert!(agent.asked()[1].metadata.get("traceparent").is_some());
}

#[test]
fn what_the_agent_has_against_adding_is_told_with_code_50() {
    for code in [
        Code::FailedPrecondition,
        Code::Unavailable,
        Code::Unimplemented,
        Code::Internal,
    ] {
        let call = status();
        let refusal = Status::new(code, "kube-ipvs0 is there");
        let _agent = FakeAgent::start(&call.socket(), Answers::Refusing(refusal));
        let (told, text) = call.run().error();
        assert_eq!(told, 50, "{text}");
        assert!(text.contains("kube-ipvs0 is there"), "{text}");
    }
    let call = status();
    let refusal = Status::permission_denied("not root");
    let _agent = FakeAgent::start(&call.socket(), Answers::Refusing(refusal));
    assert_eq!(call.run().error().0, 101);
}

/// Not more than 95 ms longer than a call that asks nobody, the machine having
/// other things to do as well.
fn within_100_ms(how: &str, call: &Call) {
    let quick = (0..30).any(|_| {
        let bare = Call::new("VERSION").run().took;
        let ended = call.run();
        let (code, text) = ended.error();
        assert_eq!(code, 50, "{how}: {text}");
        assert!(text.contains("agent.sock"), "{how}: {text}");
        assert!(text.contains("sluice-agent pod"), "{how}: {text}");
        assert!(ended.took < Duration::from_secs(5), "{how}: {ended:?}");
        ended.took < bare + Duration::from_millis(95)
    });
    assert!(quick, "{how}");
}

#[test]
fn without_an_agent_status_is_50_within_100_ms() {
    for (how, set_up) in away() {
        // What passes without an agent is no reason to say that pods can start.
        let call = status().list(NOT_ENROLLED);
        set_up(&call);
        within_100_ms(how, &call);
        assert!(call.notes().is_empty(), "{how}");
    }
}

const SOCKET_OF_THE_CHILD: &str = "SLUICE_TEST_SOCKET";

/// An agent in a process of its own, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_agent_is_not_waited_for() {
    if let Some(socket) = env::var_os(SOCKET_OF_THE_CHILD) {
        let _agent = FakeAgent::start(Path::new(&socket), Answers::With(AddOutcome::Passed));
        thread::sleep(Duration::from_secs(60));
        return;
    }
    let call = status();
    let agent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "verbs::a_stopped_agent_is_not_waited_for"])
        .env(SOCKET_OF_THE_CHILD, call.socket())
        .spawn()
        .unwrap();
    let agent = Process(agent);
    let pid = Pid::from_raw(i32::try_from(agent.0.id()).unwrap());
    let up = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(20));
        call.run().status == Some(0)
    });
    assert!(up, "it never answers");
    kill(pid, Signal::SIGSTOP).unwrap();
    within_100_ms("stopped", &call);
    kill(pid, Signal::SIGCONT).unwrap();
    let again = (0..50).any(|_| call.run().status == Some(0));
    assert!(again, "it does not answer again");
}

#[test]
fn gc_hands_on_the_runtimes_list_and_is_silent() {
    let list =
        r#"[{"containerID":"c1","ifname":"eth0"},{"containerID":"c2","ifname":"net1","x":1}]"#;
    let call = gc(list).conf("cni.dev/attachments", "[]");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
    let ended = call.run();
    ended.silent();
    assert_eq!(ended.stderr, "");
    let asked = agent.asked_once().gc.unwrap();
    assert_eq!(asked.network, "net");
    let valid = asked.valid.iter();
    let valid: Vec<_> = valid.map(|a| (&*a.container_id, &*a.ifname)).collect();
    assert_eq!(valid, [("c1", "eth0"), ("c2", "net1")]);
    // That nothing is valid has to be said.
    gc("[]")
        .conf("socket", &json!(call.socket()).to_string())
        .run()
        .silent();
    assert!(agent.asked()[1].gc.clone().unwrap().valid.is_empty());
}

#[test]
fn without_a_list_nothing_is_collected() {
    let missing = of_no_sandbox("GC");
    let only_the_other = of_no_sandbox("GC").conf("cni.dev/attachments", "[]");
    let mut calls = vec![(missing, 7), (only_the_other, 7)];
    for broken in [
        "null",
        "{}",
        "7",
        r#"["c1"]"#,
        r#"[{"containerID":"c1"}]"#,
        r#"[{"ifname":"eth0"}]"#,
        r#"[{"containerID":"","ifname":"eth0"}]"#,
        r#"[{"containerID":"c1","ifname":""}]"#,
        r#"[{"containerID":"../c1","ifname":"eth0"}]"#,
        r#"[{"containerID":"c1","ifname":"a/b"}]"#,
        r#"[{"containerID":"c1","ifname":"eth0"},null]"#,
    ] {
        calls.push((gc(broken), 7));
    }
    for (call, code) in calls {
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
        let (told, text) = call.run().error();
        assert_eq!(told, code, "{text}");
        assert!(text.contains("cni.dev/valid-attachments"), "{text}");
        assert!(agent.asked().is_empty(), "{text}");
    }
    let endless = "[".repeat(1 << 19);
    assert_eq!(gc(&endless).run().error().0, 6);
}

#[test]
fn gc_without_an_agent_is_to_be_tried_again() {
    for (how, set_up) in away() {
        let call = gc("[]").conf("timeoutSeconds", "0.6");
        set_up(&call);
        let ended = call.run();
        let (code, text) = ended.error();
        assert_eq!(code, 11, "{how}: {text}");
        assert!(
            text.contains("agent.sock") && text.contains("net"),
            "{text}"
        );
        assert!(ended.took < Duration::from_secs(3), "{how}: {ended:?}");
        // The list would be old when the agent is back.
        assert!(call.notes().is_empty(), "{how}");
    }
    let call = gc("[]");
    let busy = Status::unavailable("the capture engine is busy");
    let _agent = FakeAgent::start(&call.socket(), Answers::Refusing(busy));
    assert_eq!(call.run().error().0, 11);
}

#[test]
fn status_and_gc_need_a_path_and_nothing_else() {
    for verb in ["STATUS", "GC"] {
        let (code, text) = newest(verb).unset("CNI_PATH").run().error();
        assert_eq!(code, 4);
        assert!(text.contains("CNI_PATH"), "{text}");
        // They are about no sandbox, so what is said of one does not matter.
        let mut call = newest(verb).conf("cni.dev/valid-attachments", "[]");
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
            call = call.set(name, "\u{1}/../odd");
        }
        let _agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Passed));
        call.run().silent();
        let call = newest(verb).without("name");
        assert_eq!(call.run().error().0, 7);
        assert_eq!(newest(verb).stdin("garbage").run().error().0, 6);
    }
}

#[test]
fn keys_of_libcni_and_of_the_runtime_are_tolerated() {
    for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
        let call = newest(verb)
            .conf("prevResult", &PREV_RESULT.replace("1.0.0", "1.1.0"))
            .conf("disableCheck", "true")
            .conf("disableGC", "true")
            .conf("loadOnlyInlinedPlugins", "true")
            .conf(
                "capabilities",
                r#"{"io.kubernetes.cri.pod-annotations":true}"#,
            )
            .conf(
                "runtimeConfig",
                r#"{"io.kubernetes.cri.pod-annotations":{"a":"b"},"portMappings":[{}]}"#,
            )
            .conf("cni.dev/attachments", "7")
            .conf("cni.dev/valid-attachments", "[]");
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
        let ended = call.run();
        assert_eq!(ended.status, Some(0), "{verb}: {ended:?}");
        assert_eq!(agent.asked_once().verb, verb);
    }
}

#[test]
fn a_result_of_1_1_0_is_handed_on_unchanged() {
    let result = r#"{"cniVersion":"1.1.0","interfaces":[{"name":"v","mac":"02:00:00:00:00:01","mtu":1450},{"name":"eth0","mac":"02:00:00:00:00:02","mtu":1450,"sandbox":"/run/netns/p","socketPath":"/s","pciID":"0000:00:1f.6"}],"ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"}],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1","mtu":1400,"advmss":1360,"priority":100,"table":50,"scope":0}],"dns":{}}"#;
    for asked in ["1.1.0", "1.0.0", "0.4.0"] {
        let call = Call::new("ADD")
            .conf("cniVersion", &json!(asked).to_string())
            .conf("prevResult", result);
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
        let family = match asked {
            "0.4.0" => result.replace(r#""ips":[{"#, r#""ips":[{"version":"4","#),
            _ => result.to_owned(),
        };
        let expected = family.replacen("1.1.0", asked, 1);
        assert_eq!(call.run().result(), expected, "{asked}");
        assert_eq!(agent.asked_once().add.unwrap().interfaces.len(), 2);
    }
}

/// As `Error()` of libcni's `types.Error` has it, which is what an event of the
/// pod shows.
fn as_an_event_has_it(ended: &Ended) -> String {
    let error: Value = serde_json::from_str(&ended.stdout).unwrap();
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    format!("{}; {}", text("msg"), text("details"))
}

#[test]
fn what_people_read_names_the_pod_the_reason_and_what_to_do() {
    let reason = "pod shop/cart cannot be captured yet (waited 9500 ms): no proxy is known on \
                  this node\nand so on";
    let call = Call::new("ADD");
    let refusal = Status::unavailable(reason);
    let _agent = FakeAgent::start(&call.socket(), Answers::Refusing(refusal));
    assert_eq!(
        as_an_event_has_it(&call.run()),
        "pod shop/cart cannot be captured yet (waited 9500 ms): no proxy is known on this node \
         and so on; so says the Sluice agent; it is tried again by itself"
    );
    let call = quick("ADD");
    let told = as_an_event_has_it(&call.run());
    let socket = call.socket().display().to_string();
    assert_eq!(
        told.replace(&socket, "SOCKET"),
        "pod shop/cart cannot start now: the Sluice agent of this node does not answer, and it is \
         not known whether namespace \"shop\" has pods in the mesh; SOCKET cannot be connected \
         to: No such file or directory (os error 2); see to the sluice-agent pod of this node \
         (kubectl -n sluice-system get pods -o wide); the pod starts by itself once the agent is \
         back"
    );
    let call = status();
    drop(UnixListener::bind(call.socket()).unwrap());
    let told = as_an_event_has_it(&call.run());
    let socket = call.socket().display().to_string();
    assert_eq!(
        told.replace(&socket, "SOCKET"),
        "the Sluice agent of this node does not answer, so pods of the mesh cannot start here; \
         SOCKET cannot be connected to: Connection refused (os error 111); see to the \
         sluice-agent pod of this node (kubectl -n sluice-system get pods -o wide)"
    );
    assert!(fs::exists(call.socket()).unwrap());
}

#[test]
fn alone_it_says_so_and_answers_with_an_empty_result() {
    let alone = |verb| {
        Call::new(verb)
            .without("prevResult")
            .conf("standalone", "true")
    };
    let call = alone("ADD");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    assert_eq!(call.run().result(), r#"{"cniVersion":"1.0.0"}"#);
    assert!(agent.asked_once().sandbox.standalone);
    for (verb, conf, value) in [
        ("ADD", "standalone", "false"),
        ("ADD", "standalone", "\"yes\""),
        ("CHECK", "x", "1"),
    ] {
        let call = Call::new(verb).without("prevResult").conf(conf, value);
        let (code, _) = call.run().error();
        assert_eq!(code, 7, "{verb} {conf} {value}");
    }
    // A result is a result, wherever it is called from.
    let call = alone("ADD").conf("prevResult", PREV_RESULT);
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    assert_eq!(call.run().result(), PREV_RESULT);
    assert!(!agent.asked_once().sandbox.standalone);
}
