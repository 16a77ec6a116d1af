//! `sluice-controller uninstall`, against replicas that pass it on.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, api::DeleteParams};
use sluice_controller::{
    config::UninstallArgs,
    uninstall::{self, UninstallError},
};
use sluice_proto::capture::v1::{NodeCondition, PodState};

use crate::replica::{OURS, Replica, World, ready, until};

fn args(world: &World, timeout: u64, cancel: bool) -> UninstallArgs {
    UninstallArgs {
        timeout: Duration::from_secs(timeout),
        cancel,
        namespace: OURS.into(),
        kubeconfig: Some(world.server.kubeconfig()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_left() {
    let world = World::start().await;
    let uid = world.pod("web").await;
    let replica = Replica::start(&world).await;
    replica.knows(&uid).await;
    let agent = replica.join().await;
    assert_eq!(agent.stream.take_leave(), Some(false));
    agent.report(&[(&uid, PodState::Captured)], ready());
    world.annotated("web", Some("enabled")).await;

    // An agent that does nothing is named.
    let late = uninstall::run(args(&world, 3, false)).await.unwrap_err();
    assert!(
        matches!(&late, UninstallError::NotLeft(nodes) if nodes == &["node-a"]),
        "{late:?}"
    );
    until("asked", async || {
        agent.stream.take_leave().filter(|leave| *leave)
    })
    .await;
    world.annotated("web", None).await;

    // Withdrawn: all as before.
    uninstall::run(args(&world, 3, true)).await.unwrap();
    until("not asked", async || {
        agent.stream.take_leave().filter(|leave| !*leave)
    })
    .await;
    agent.told(&uid, true).await;
    agent.report(&[(&uid, PodState::Captured)], ready());
    world.annotated("web", Some("enabled")).await;

    // And for good.
    let leaving = tokio::spawn(uninstall::run(args(&world, 60, false)));
    until("asked again", async || {
        agent.stream.take_leave().filter(|leave| *leave)
    })
    .await;
    world.annotated("web", None).await;
    let left = NodeCondition {
        left: true,
        ..NodeCondition::default()
    };
    agent.report(&[(&uid, PodState::Released)], left);
    leaving.await.unwrap().unwrap();
    assert_eq!(world.condition().await, None);
    assert_eq!(world.annotation("web").await, None);
    // Nothing is written any more, whatever an agent says.
    agent.report(&[(&uid, PodState::Captured)], ready());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.condition().await, None);
    let markers: Api<ConfigMap> = Api::namespaced(world.client.clone(), OURS);
    let params = DeleteParams::default();
    let marker = markers.delete("sluice-uninstall", &params);
    marker.await.unwrap();
}
