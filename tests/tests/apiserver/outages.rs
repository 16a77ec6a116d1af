//! An API server that ends, freezes, and forgets.

use sluice_tests::apiserver::{ApiServer, Fault, FaultyProxy};

use crate::{follower::Follower, objects::Objects};

#[tokio::test]
async fn ended_and_started_again() {
    let mut server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.many_pods("shop", 20).await;
    let mut follower = Follower::in_sync(&server.kubeconfig()).await;

    server.kill();
    let lost = |f: &Follower| f.last.out_of_touch.is_some() && !f.problems().is_empty();
    follower.until("known to be lost", lost).await;
    assert!(follower.last.in_sync, "what was known stays");
    assert_eq!(follower.names("shop").len(), 20);
    let problems = follower.problems();
    assert!(
        problems.contains("not followed since") && problems.contains("failed so far"),
        "{problems}"
    );

    server.restart();
    let back = |f: &Follower| f.last.out_of_touch.is_none() && f.problems().is_empty();
    follower.until("followed again", back).await;
    objects.delete("shop", "p0").await;
    follower.until("told", |f| !f.gone.is_empty()).await;
    assert_eq!(follower.gone, ["shop/p0"]);
}

// The API server has forgotten what came since: the new list says what is gone,
// and only that.
#[tokio::test]
async fn forgotten_history_is_no_deletion() {
    let mut server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.many_pods("shop", 20).await;
    let proxy = FaultyProxy::start(&server).await;
    let mut follower = Follower::in_sync(&proxy.kubeconfig()).await;
    let before = follower.last.reached.clone();

    proxy.set(Fault::Refuse);
    objects.delete("shop", "p7").await;
    objects.pod("shop", "new").await;
    // A cache that begins after all that, over an etcd that remembers nothing
    // before it.
    server.compact(objects.version().await);
    server.restart();
    follower
        .until("lost", |f| f.last.out_of_touch.is_some())
        .await;
    assert!(follower.gone.is_empty());
    proxy.take_requests();
    proxy.set(Fault::None);

    follower.until("told", |f| f.pod("new").is_some()).await;
    follower
        .until("followed again", |f| f.last.out_of_touch.is_none())
        .await;
    assert_eq!(follower.gone, ["shop/p7"]);
    assert_eq!(follower.names("shop").len(), 20);
    assert!(before.is_behind(&follower.last.reached));
    let requests = proxy.take_requests();
    let lists = |path: &str| {
        let list = |line: &&String| line.contains(path) && line.contains("limit=");
        requests.iter().filter(list).count()
    };
    assert!(lists("/api/v1/pods") > 0, "{requests:?}");
}

#[tokio::test]
async fn a_frozen_one_is_noticed() {
    let server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.pod("shop", "web").await;
    let mut follower = Follower::in_sync(&server.kubeconfig()).await;

    server.freeze();
    follower
        .until("noticed", |f| f.last.out_of_touch.is_some())
        .await;
    let problems = follower.problems();
    assert!(problems.contains("no answer within"), "{problems}");
    assert_eq!(follower.names("shop"), ["web"]);

    server.thaw();
    follower
        .until("well", |f| f.last.out_of_touch.is_none())
        .await;
    objects.pod("shop", "other").await;
    follower.until("told", |f| f.pod("other").is_some()).await;
    assert!(follower.gone.is_empty());
}
