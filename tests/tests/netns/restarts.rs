//! Agent and controller come and go; captured pods do not notice.

use std::time::Duration;

use sluice_tests::lab::{
    Lab, client::Call, knobs::Knobs, kube_proxy::Form, observe::Snapshot, wait,
};

/// Keeps connections busy while `work` goes on; all of them must live.
fn busy(lab: &mut Lab, work: impl FnOnce(&mut Lab)) {
    let (v4, v6) = (lab.v4(), lab.v6());
    let mut held: Vec<_> = [
        ("a1", v4.b1),
        ("a1", v6.b1),
        ("b1", v4.a1),
        ("u1", v6.a1),
        ("na", v4.a1),
    ]
    .into_iter()
    .map(|(from, to)| {
        let held = Call::to(to, 8080).hold(lab.ns(from)).expect("a connection");
        (format!("{from} -> {to}"), held)
    })
    .collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ticking = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                for (what, held) in &mut held {
                    if let Err(error) = held.tick() {
                        return Err(format!("{what}: {error:?}"));
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        work(lab);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(ticking.join().unwrap(), Ok(()));
    });
}

#[test]
fn restarting_the_agent_loses_no_connection() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let exact = Snapshot::configuration(lab.ns("na"));
    busy(&mut lab, |lab| {
        lab.agent_mut("na").stop();
        std::thread::sleep(Duration::from_millis(200));
        lab.agent_mut("na").start();
        lab.wait_captured(&["a1", "a2"]);
        lab.agent_mut("na").kill();
        lab.agent_mut("na").start();
        lab.wait_captured(&["a1", "a2"]);
    });
    exact.assert_same(&Snapshot::configuration(lab.ns("na")), "after two restarts");
    let row = &lab.v4().rows()[0];
    assert_eq!(row.problem(&lab), None);
}

#[test]
fn while_the_agent_is_away_captured_pods_stay_captured() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    lab.agent_mut("na").stop();
    let wire = lab.record("na", "wire", "tcp");
    let (v4, v6) = (lab.v4(), lab.v6());
    for (from, to) in [("a1", v4.b1), ("a1", v6.b1), ("b1", v6.a1)] {
        assert!(lab.hello(from, to, 8080, "agent-away").is_ok());
    }
    assert_eq!(wire.count("hello-plain agent-away"), 0);
}

#[test]
fn without_the_controller_and_without_journal_captured_pods_stay_captured() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let exact = Snapshot::configuration(lab.ns("na"));
    lab.stop_controller();
    lab.agent_mut("na").kill();
    // All that the agent remembers is lost; it must not take the rules down
    // because it does not know of anything yet.
    for dir in [lab.node("na").run_dir(), lab.node("na").state_dir()] {
        std::fs::remove_dir_all(dir).unwrap();
    }
    lab.agent_mut("na").start();
    std::thread::sleep(Duration::from_millis(1500));
    exact.assert_same(&Snapshot::configuration(lab.ns("na")), "with no state");
    assert!(lab.hello("a1", lab.v4().b1, 8080, "x").is_ok());
}

#[test]
fn restarting_the_controller_changes_nothing_on_the_nodes() {
    let mut lab = Lab::meshed(Form::Iptables, Knobs::default());
    let exact = Snapshot::configuration(lab.ns("na"));
    busy(&mut lab, |lab| {
        lab.stop_controller();
        std::thread::sleep(Duration::from_millis(500));
        lab.start_controller();
        wait::value("the agents to be back", wait::LONG, || {
            let connected = |node| -> Result<bool, String> {
                let link = lab.agent(node).status()?.controller;
                Ok(link.is_some_and(|link| link.connected))
            };
            match (connected("na")?, connected("nb")?) {
                (true, true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    });
    exact.assert_same(
        &Snapshot::configuration(lab.ns("na")),
        "after the controller's restart",
    );
    // And it is the one that decides.
    lab.folder.namespace("shop", false);
    lab.wait_state("a1", sluice_proto::capture::v1::PodState::Released);
}

#[test]
fn an_empty_folder_read_half_way_releases_nobody() {
    let lab = Lab::one_node();
    // A file that an editor is in the middle of writing.
    lab.folder.write(
        "namespace-shop.yaml",
        "apiVersion: v1\nkind: Namespace\nmeta",
    );
    std::thread::sleep(Duration::from_secs(2));
    let pod = lab.agent("na").pod("a1").unwrap().status.unwrap();
    assert!(pod.steered, "{pod:?}");
    assert!(lab.through_proxy("a1", "u1"));
    lab.enrol();
}
