//! What is written back, by one replica and by two.

use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sluice_proto::capture::v1::{NodeCondition, PodState};

use crate::replica::{History, OURS, Replica, World, ready, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn annotation_condition_and_taint() {
    let world = World::start().await;
    let uid = world.pod("web").await;
    let replica = Replica::start(&world).await;
    replica.knows(&uid).await;
    let agent = replica.join().await;
    // Others write to the same objects all the time.
    let nodes = world.nodes();
    let others = tokio::spawn(async move {
        for n in 0..40 {
            let patch = json!({"metadata": {"labels": {"n": n.to_string()}}});
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            nodes.patch("node-a", &params, &patch).await.unwrap();
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True",
                "lastHeartbeatTime": null, "reason": format!("r{n}")}]}});
            let (params, patch) = (PatchParams::default(), Patch::Strategic(status));
            nodes.patch_status("node-a", &params, &patch).await.unwrap();
        }
    });
    let before = world.taints().await;
    assert!(before.contains(&"sluice.dev/not-ready".to_owned()));
    let cannot = NodeCondition {
        message: "no proxy".into(),
        ..NodeCondition::default()
    };
    agent.report(&[(&uid, PodState::Pending)], cannot);
    world.conditioned("False", "CannotCapture").await;
    assert_eq!(world.taints().await, before);
    agent.report(&[(&uid, PodState::Captured)], ready());
    world.conditioned("True", "ProxyListening").await;
    world.annotated("web", Some("enabled")).await;
    until("untainted", async || {
        let taints = world.taints().await;
        (!taints.contains(&"sluice.dev/not-ready".to_owned())).then_some(())
    })
    .await;
    others.await.unwrap();
    // Nobody else's went along.
    assert_eq!(world.taints().await.len(), before.len() - 1);
    let node = world.nodes().get("node-a").await.unwrap();
    let conditions = node.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.reason.as_deref() == Some("r39"))
    );

    // It leaves: the annotation first, and then it is let go of.
    world.label("none").await;
    until("releasing", async || agent.stream.next(10)).await;
    world.annotated("web", None).await;
    until("let go of", async || {
        agent.stream.release();
        let said = agent.stream.said(&uid)?;
        (!said.wanted.is_steered()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_disabled_stands() {
    let world = World::start().await;
    let uid = world.pod("web").await;
    let replica = Replica::start(&world).await;
    replica.knows(&uid).await;
    let agent = replica.join().await;
    let history = History::follow(&world, "web").await;
    for round in 0..10 {
        world.write_annotation("web", None).await;
        agent.told(&uid, true).await;
        // Both at the same moment.
        agent.report(&[(&uid, PodState::Captured)], ready());
        if round % 2 == 0 {
            tokio::task::yield_now().await;
        }
        world.write_annotation("web", Some("disabled")).await;
        agent.told(&uid, false).await;
        assert_eq!(world.annotation("web").await.as_deref(), Some("disabled"));
    }
    until("seen", async || (history.disabled() == 10).then_some(())).await;
    // Only the user takes it back.
    let seen = history.annotations.lock().unwrap().clone();
    let overwritten = seen
        .windows(2)
        .filter(|pair| pair[0].as_deref() == Some("disabled") && pair[1].is_some());
    assert_eq!(overwritten.count(), 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told() {
    let world = World::start().await;
    let uid = world.pod("web").await;
    let replica = Replica::start(&world).await;
    replica.knows(&uid).await;
    let agent = replica.join().await;
    agent.report(&[(&uid, PodState::Failed)], NodeCondition::default());
    let events: Api<Event> = Api::all(world.client.clone());
    let told = async |reason: &str| {
        until(reason, async || {
            let all = events.list(&Default::default()).await.unwrap();
            all.into_iter()
                .find(|e| e.reason.as_deref() == Some(reason))
        })
        .await
    };
    let failed = told("CaptureFailed").await;
    assert_eq!(failed.namespace().as_deref(), Some("shop"));
    let regarding = failed.regarding.unwrap();
    assert_eq!(regarding.uid.as_deref(), Some(uid.as_str()));
    assert!(failed.note.unwrap().contains("as the test says"));
    let node = told("CaptureNotReady").await;
    assert_eq!(node.regarding.unwrap().name.as_deref(), Some("node-a"));
    // Another replica takes over, and finds the same: nobody is told again.
    let other = Replica::start(&world).await;
    other.knows(&uid).await;
    let there = other.join().await;
    let before = world
        .nodes()
        .get("node-a")
        .await
        .unwrap()
        .annotations()
        .clone();
    there.report(&[(&uid, PodState::Failed)], NodeCondition::default());
    until("claimed", async || {
        let node = world.nodes().get("node-a").await.unwrap();
        (*node.annotations() != before).then_some(())
    })
    .await;
    there.report(&[(&uid, PodState::Captured)], ready());
    world.annotated("web", Some("enabled")).await;
    let all = events.list(&Default::default()).await.unwrap();
    let failures = all
        .iter()
        .filter(|e| e.reason.as_deref() == Some("CaptureFailed"));
    assert_eq!(failures.count(), 1);
    // Leases say who runs.
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(world.client.clone(), OURS);
    assert_eq!(
        leases.list(&Default::default()).await.unwrap().items.len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_moves_writes_nothing_twice() {
    let world = World::start().await;
    let uid = world.pod("web").await;
    let replicas = [Replica::start(&world).await, Replica::start(&world).await];
    for replica in &replicas {
        replica.knows(&uid).await;
    }
    let history = History::follow(&world, "web").await;
    let mut remnants = Vec::new();
    for round in 0..8 {
        let agent = replicas[round % 2].join().await;
        agent.report(&[(&uid, PodState::Captured)], ready());
        world.annotated("web", Some("enabled")).await;
        until("claimed here", async || {
            let written = replicas[round % 2].fleet.node("node-a")?.written?;
            let theirs = replicas[(round + 1) % 2].fleet.node("node-a")?.written?;
            (written.claim == theirs.claim && !remnants.contains(&written.claim)).then(|| {
                remnants.push(written.claim);
            })
        })
        .await;
        // The one before has not noticed that the agent is gone, and goes on
        // to say what it believes.
        agent.report(&[(&uid, PodState::Captured)], ready());
        if round % 3 == 2 {
            agent.leave();
        }
    }
    until("seen", async || {
        (history.conditions.lock().unwrap().len() >= 2).then_some(())
    })
    .await;
    let annotations = history.annotations.lock().unwrap().clone();
    let annotations: Vec<_> = annotations.iter().map(Option::as_deref).collect();
    assert_eq!(annotations, [None, Some("enabled")]);
    let conditions = history.conditions.lock().unwrap().clone();
    assert_eq!(conditions.len(), 2, "{conditions:?}");
}
