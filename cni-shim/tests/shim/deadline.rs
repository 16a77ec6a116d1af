//! One deadline for all of an ADD, and bounds for the other verbs.

use std::{process::Child, time::Instant};

use super::*;

/// Starts the call and gives it its configuration bit by bit.
fn drip(call: &Call, pause: Duration) -> (Child, Instant) {
    let begin = Instant::now();
    let mut child = call.command().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = call.input();
    for piece in input.chunks(input.len().div_ceil(10)) {
        thread::sleep(pause);
        // It may have given up.
        if stdin.write_all(piece).is_err() {
            break;
        }
    }
    (child, begin)
}

#[test]
fn what_the_configuration_takes_to_arrive_is_not_there_for_the_agent() {
    let call = Call::new("ADD").conf("timeoutSeconds", "3");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    let (child, _) = drip(&call, Duration::from_millis(100));
    assert!(child.wait_with_output().unwrap().status.success());
    let told = agent.asked_once().add.unwrap().deadline_ms;
    // A busy machine starts the shim late; 2,750 is what all of the time would leave.
    assert!((1..=2_500).contains(&told), "{told}");
}

#[test]
fn a_configuration_that_takes_all_of_the_time_leaves_none() {
    let late = |verb: &str| Call::new(verb).conf("timeoutSeconds", "0.3");
    for (call, code) in [
        (late("ADD"), Some(11)),
        (late("CHECK"), Some(11)),
        (late("ADD").list(NOT_ENROLLED), None),
        (late("ADD").namespace("kube-system"), None),
        (late("DEL"), None),
    ] {
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
        let (child, begin) = drip(&call, Duration::from_millis(50));
        let output = child.wait_with_output().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5));
        let text = String::from_utf8(output.stdout).unwrap();
        if let Some(code) = code {
            assert!(text.contains(&format!(r#""code":{code},"#)), "{text}");
            assert!(text.contains("timeoutSeconds"), "{text}");
            assert!(agent.asked().is_empty(), "{text}");
        } else {
            assert!(output.status.success(), "{text}");
        }
    }
    // DEL has time of its own.
    let call = late("DEL");
    let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
    let (child, _) = drip(&call, Duration::from_millis(50));
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(agent.asked_once().verb, "DEL");
    assert!(call.notes().is_empty());
}

#[test]
fn the_agent_is_told_less_than_the_shim_waits() {
    for (seconds, at_most) in [("0.1", 50), ("0.4", 200), ("2", 1_750), ("600", 599_750)] {
        let call = Call::new("ADD").conf("timeoutSeconds", seconds);
        let agent = FakeAgent::start(&call.socket(), Answers::With(AddOutcome::Captured));
        call.run().result();
        let told = agent.asked_once().add.unwrap().deadline_ms;
        assert!((1..=at_most).contains(&told), "{seconds}: {told}");
    }
}

#[test]
fn no_verb_waits_for_ever() {
    for (verb, most) in [
        ("ADD", 3),
        ("CHECK", 3),
        ("GC", 3),
        ("DEL", 8),
        ("STATUS", 1),
    ] {
        let call = Call::new(verb)
            .conf("cniVersion", "\"1.1.0\"")
            .conf("cni.dev/valid-attachments", "[]")
            .conf("timeoutSeconds", if verb == "DEL" { "600" } else { "1" });
        let _agent = FakeAgent::start(&call.socket(), Answers::Never);
        let ended = call.run();
        assert_eq!(ended.status == Some(0), verb == "DEL", "{ended:?}");
        assert!(ended.took < Duration::from_secs(most), "{verb}: {ended:?}");
    }
}
