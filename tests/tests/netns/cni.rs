//! The shim in a real chain, with parts of the system down.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_tests::lab::{Lab, client::Call, cni::CniError, observe::Snapshot, pod::PodSpec, wait};

/// "Try again later" of the CNI specification.
const TRY_AGAIN: u64 = 11;

fn in_shop(name: &str, host: u8) -> PodSpec {
    PodSpec::new(name, "na", host, "shop")
}

/// The error of an ADD that must fail, and that nothing was left by it.
#[track_caller]
fn refused(lab: &mut Lab, spec: PodSpec) -> CniError {
    let before = Snapshot::configuration(lab.ns("na"));
    let name = spec.name.clone();
    let error = lab.try_pod(spec).expect_err("the ADD must fail");
    assert_eq!(error.plugin, "sluice-cni", "{error:?}");
    before.assert_same(
        &Snapshot::configuration(lab.ns("na")),
        &format!("after {name}"),
    );
    error
}

/// Whether the proxy sees this pod's calls.
#[track_caller]
fn goes_through_the_proxy(lab: &Lab, name: &str) -> bool {
    lab.through_proxy(name, "u1")
}

#[test]
fn with_everything_up() {
    let mut lab = Lab::one_node();
    // Enrolled: captured before ADD returns, so the very first call is seen.
    lab.add_pod(in_shop("a5", 5));
    assert!(goes_through_the_proxy(&lab, "a5"));
    // The result is the one of the plugin before.
    let a5 = lab.pod("a5");
    let node = lab.ns("na");
    assert_eq!(a5.chain.check(node, &a5.attachment), Ok(()));
    // Not enrolled, and excluded: passed.
    lab.add_pod(PodSpec::new("p6", "na", 6, "plain"));
    assert!(!goes_through_the_proxy(&lab, "p6"));
    lab.add_pod(PodSpec::new("k7", "na", 7, "kube-system"));
    assert!(!goes_through_the_proxy(&lab, "k7"));
    // Opted out by its own label.
    lab.add_pod(in_shop("a8", 8).opted_out());
    assert!(!goes_through_the_proxy(&lab, "a8"));
    // CHECK looks at the kernel.
    lab.agent_mut("na")
        .process
        .as_ref()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGSTOP);
    lab.ns("na").sh("nft delete table netdev sluice");
    lab.agent_mut("na")
        .process
        .as_ref()
        .unwrap()
        .signal(nix::sys::signal::Signal::SIGCONT);
    wait::value("CHECK to succeed after the repair", wait::LONG, || {
        let a5 = lab.pod("a5");
        a5.chain
            .check(lab.ns("na"), &a5.attachment)
            .map_err(|error| format!("{error:?}"))
    });
}

#[test]
fn add_then_del_leaves_the_node_as_it_was() {
    let mut lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    lab.add_pod(in_shop("a5", 5));
    assert!(
        !before
            .differences(&Snapshot::configuration(lab.ns("na")))
            .is_empty()
    );
    lab.remove_pod("a5");
    before.assert_same(&Snapshot::configuration(lab.ns("na")), "after DEL");
    // The same address again, for another pod.
    lab.add_pod(in_shop("a6", 5));
    assert!(goes_through_the_proxy(&lab, "a6"));
}

#[test]
fn without_a_proxy_an_enrolled_pod_waits_and_then_is_refused() {
    let mut lab = Lab::new(1);
    lab.enrol();
    lab.start_controller();
    lab.start_agent("na", &["--add-deadline", "1s"]);
    // Not enrolled: no reason to wait.
    lab.add_pod(PodSpec::new("u1", "na", 4, "plain"));
    let start = Instant::now();
    let error = refused(&mut lab, in_shop("a5", 5));
    assert_eq!(error.code, TRY_AGAIN, "{error:?}");
    assert!(format!("{error:?}").contains("proxy"), "{error:?}");
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
    // The proxy's own pod is never held up, and the next attempt succeeds.
    lab.add_proxy("na");
    lab.add_pod(in_shop("a5", 5));
    assert!(goes_through_the_proxy(&lab, "a5"));
}

#[test]
fn add_waits_for_a_proxy_that_comes_in_time() {
    let mut lab = Lab::new(1);
    lab.enrol();
    lab.start_controller();
    lab.start_agent("na", &[]);
    lab.add_pod(PodSpec::new("u1", "na", 4, "plain"));
    lab.add_pod(PodSpec::proxy("za", "na"));
    let spec = in_shop("a5", 5);
    lab.folder.pod(&spec.document(&[]));
    let (pod, chain, attachment) = lab.sandbox(&spec, true);
    let node = lab.ns("na").clone();
    let add = std::thread::spawn(move || {
        let start = Instant::now();
        (chain.add(&node, &attachment), start.elapsed())
    });
    std::thread::sleep(Duration::from_millis(800));
    assert!(!add.is_finished(), "ADD must wait for the proxy");
    lab.start_proxy("na");
    let (result, took) = add.join().unwrap();
    assert!(result.is_ok(), "{result:?}");
    assert!(took >= Duration::from_millis(700), "{took:?}");
    let to = lab.pod("u1").ip4;
    let answer = Call::to(to, 8080).hello(&pod, "first-call");
    assert!(answer.is_ok(), "{answer:?}");
    let from = lab.node("na").pod4(5);
    assert!(
        lab.proxy("na")
            .saw_outbound(0, from.into(), (to, 8080).into(), false)
    );
}

#[test]
fn with_the_agent_down() {
    let mut lab = Lab::one_node();
    lab.agent_mut("na").kill();
    // A namespace in which pods are enrolled, and one nobody ever heard of.
    for spec in [
        in_shop("a5", 5),
        PodSpec::new("n6", "na", 6, "never-heard-of"),
    ] {
        let error = refused(&mut lab, spec);
        assert_eq!(error.code, TRY_AGAIN, "{error:?}");
        assert!(format!("{error:?}").contains("agent"), "{error:?}");
    }
    // Excluded, known to have none, and the proxy's: passed.
    lab.add_pod(PodSpec::new("k7", "na", 7, "kube-system"));
    lab.add_pod(PodSpec::new("p8", "na", 8, "plain"));
    // A pod that asks for itself, in a namespace that is not enrolled: passed,
    // noted, and looked at as soon as the agent is back.
    let own =
        PodSpec::new("o10", "na", 10, "plain").label(sluice_tests::lab::folder::MODE, "ambient");
    lab.add_pod(own);
    let rules = |lab: &Lab| {
        Snapshot::configuration(lab.ns("na"))
            .section("nft")
            .to_owned()
    };
    let link = lab.pod("o10").link.clone();
    assert!(!rules(&lab).contains(&link));
    // DEL succeeds at once, and is swept later.
    let a1 = lab.pod("a1").ip4.to_string();
    let start = Instant::now();
    lab.remove_pod("a1");
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );

    lab.agent_mut("na").start();
    lab.wait_captured(&["a2", "o10"]);
    assert!(goes_through_the_proxy(&lab, "o10"));
    wait::value("the deleted pod to be swept", wait::LONG, || {
        let all = Snapshot::configuration(lab.ns("na"));
        let left: Vec<&str> = ["nft", "routes4"]
            .iter()
            .flat_map(|section| all.section(section).lines())
            .filter(|line| line.contains(&format!("{a1} ")) || line.ends_with(&a1))
            .collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join("\n"))
        }
    });
}

#[test]
fn a_proxy_that_came_while_the_agent_was_away_is_found() {
    let mut lab = Lab::one_node();
    lab.agent_mut("na").kill();
    // Replaced meanwhile: nobody but the shim's note knows the new one's
    // namespace.
    lab.stop_proxy("na");
    lab.remove_pod("za");
    let mut next = PodSpec::proxy("za", "na");
    next.host = 10;
    lab.add_pod(next);
    lab.start_proxy("na");
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a2"]);
    let proxy = lab.agent("na").status().unwrap().proxy.unwrap();
    let netns = lab.pod("za").netns.path();
    assert_eq!(proxy.netns, netns.display().to_string());
    assert!(goes_through_the_proxy(&lab, "a1"));
    lab.add_pod(in_shop("a5", 5));
    assert!(goes_through_the_proxy(&lab, "a5"));
}

#[test]
fn with_the_agent_down_deny_blocks_known_namespaces_too() {
    let mut lab = Lab::one_node();
    lab.node_mut("na")
        .shim
        .insert("onAgentDown".into(), json!("deny"));
    lab.agent_mut("na").kill();
    let error = refused(&mut lab, PodSpec::new("p8", "na", 8, "plain"));
    assert_eq!(error.code, TRY_AGAIN, "{error:?}");
    lab.add_pod(PodSpec::new("k7", "na", 7, "kube-system"));
}

#[test]
fn with_the_controller_down() {
    let mut lab = Lab::one_node();
    // Known before it went.
    let known = in_shop("a5", 5);
    lab.folder.pod(&known.document(&[]));
    wait::value("the agent to know a5", wait::LONG, || {
        lab.agent("na").pod("a5")
    });
    lab.stop_controller();
    lab.attach_unannounced(known, true)
        .expect("known from the last good state");
    assert!(goes_through_the_proxy(&lab, "a5"));
    let error = refused(&mut lab, in_shop("a6", 6));
    assert_eq!(error.code, TRY_AGAIN, "{error:?}");
    // The proxies' own and excluded ones never depend on it.
    lab.add_pod(PodSpec::new("k7", "na", 7, "kube-system"));
    // Also after a restart of the agent, from the disk.
    lab.agent_mut("na").stop();
    lab.agent_mut("na").start();
    lab.wait_captured(&["a1", "a5"]);
    assert!(goes_through_the_proxy(&lab, "a1"));
}

#[test]
fn with_the_controller_down_unknown_pods_may_be_allowed() {
    let mut lab = Lab::new(1);
    lab.enrol();
    lab.start_controller();
    lab.start_agent("na", &["--on-unknown-pod", "allow"]);
    lab.add_proxy("na");
    lab.add_pod(PodSpec::new("u1", "na", 4, "plain"));
    lab.stop_controller();
    lab.add_pod(in_shop("a6", 6));
    // Once it is known what it is, it is captured.
    lab.start_controller();
    lab.wait_captured(&["a6"]);
    assert!(goes_through_the_proxy(&lab, "a6"));
}

#[test]
fn a_node_comes_up_from_nothing() {
    let mut lab = Lab::new(1);
    lab.enrol();
    // No agent, no controller, no file was ever written: what the node itself
    // needs starts all the same.
    lab.add_pod(PodSpec::proxy("za", "na"));
    lab.add_pod(PodSpec::new("k7", "na", 7, "kube-system"));
    lab.add_pod(PodSpec::new("s8", "na", 8, "sluice-system"));
    let error = refused(&mut lab, in_shop("a5", 5));
    assert_eq!(error.code, TRY_AGAIN, "{error:?}");
    lab.start_proxy("na");
    lab.start_controller();
    lab.start_agent("na", &[]);
    lab.add_pod(PodSpec::new("u1", "na", 4, "plain"));
    lab.add_pod(in_shop("a5", 5));
    assert!(goes_through_the_proxy(&lab, "a5"));
}

#[test]
fn every_version_of_the_specification_in_a_real_chain() {
    let mut lab = Lab::one_node();
    let versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for (version, host) in versions.into_iter().zip([5, 6, 7, 8, 10]) {
        lab.node_mut("na").cni_version = version.into();
        let name = format!("a{host}");
        lab.add_pod(in_shop(&name, host));
        assert!(goes_through_the_proxy(&lab, &name), "{version}");
        let pod = lab.pod(&name);
        // CHECK is not there before 0.4.0.
        if !version.starts_with("0.3") {
            let checked = pod.chain.check(lab.ns("na"), &pod.attachment);
            assert_eq!(checked, Ok(()), "{version}");
        }
        lab.remove_pod(&name);
    }
}

#[test]
fn del_can_be_repeated_and_needs_nothing() {
    let mut lab = Lab::one_node();
    lab.add_pod(in_shop("a5", 5));
    let node = lab.ns("na").clone();
    let pod = lab.pod("a5");
    let (chain, mut attachment) = (pod.chain.clone(), pod.attachment.clone());
    lab.remove_pod("a5");
    assert_eq!(chain.del(&node, &attachment), Ok(()));
    // The namespace is gone, and its path unknown.
    attachment.netns = String::new();
    assert_eq!(chain.del(&node, &attachment), Ok(()));
    // What is not there cannot be checked.
    let mut only_ours = chain;
    only_ours.plugins = only_ours.plugins.split_off(1);
    let error = only_ours.check(&node, &lab.pod("a1").attachment);
    assert!(error.is_err(), "{error:?}");
}
