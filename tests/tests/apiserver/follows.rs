//! An API server that works.

use serde_json::json;
use sluice_tests::apiserver::ApiServer;

use crate::{follower::Follower, objects::Objects};

#[tokio::test]
async fn what_is_what_changes_and_what_goes() {
    let server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.pod("shop", "web").await;

    let mut follower = Follower::in_sync(&server.kubeconfig()).await;
    assert_eq!(follower.names("shop"), ["web"]);
    assert!(follower.namespaces.contains_key("kube-system"));
    assert!(follower.last.problems.is_empty() && follower.last.out_of_touch.is_none());
    assert!(follower.last.revision.source.starts_with("kubernetes:"));
    let web = follower.pod("web").unwrap().clone();
    assert_eq!(web.node.as_deref(), Some("node-a"));
    assert_eq!(&*web.labels["app"], "web");

    objects.label_namespace("shop", json!("ambient")).await;
    let ambient = |f: &Follower| !f.namespaces["shop"].labels.is_empty();
    follower.until("labelled", ambient).await;

    let running = json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]});
    objects.status("shop", "web", running).await;
    follower
        .until("running", |f| f.pod("web").unwrap().addresses.len() == 1)
        .await;

    let long = "x".repeat(250 << 10);
    let annotations = json!({"sluice.dev/odd": long, "other": "x"});
    objects.pod_with("shop", "large", annotations).await;
    follower
        .until("a large one", |f| f.pod("large").is_some())
        .await;
    let kept = &follower.pod("large").unwrap().annotations;
    assert_eq!(kept.len(), 1);
    assert_eq!(&*kept["sluice.dev/odd"], "(long)");

    objects
        .status("shop", "large", json!({"phase": "Succeeded"}))
        .await;
    follower
        .until("completed", |f| f.pod("large").unwrap().completed)
        .await;

    // A kubelet would confirm its end; until then it is there.
    objects.terminate("shop", "web").await;
    objects.pod("shop", "other").await;
    follower
        .until("another", |f| f.pod("other").is_some())
        .await;
    assert_eq!(follower.pod("web").unwrap().uid, web.uid);

    objects.delete("shop", "web").await;
    objects.pod("shop", "web").await;
    let again = |f: &Follower| f.pod("web").is_some_and(|pod| pod.uid != web.uid);
    follower.until("created again", again).await;
    follower
        .until("told of both", |f| f.gone == ["shop/web"])
        .await;
    assert_eq!(follower.names("shop"), ["large", "other", "web"]);
}

#[tokio::test]
async fn a_namespace_of_2000_pods_flips_at_the_price_of_one_event() {
    let server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("big").await;
    objects.many_pods("big", 2000).await;
    let mut follower = Follower::in_sync(&server.kubeconfig()).await;
    assert_eq!(follower.names("big").len(), 2000, "in pages of 500");

    let before = follower.updates;
    objects.label_namespace("big", json!("ambient")).await;
    let ambient = |f: &Follower| !f.namespaces["big"].labels.is_empty();
    follower.until("labelled", ambient).await;
    assert_eq!(follower.updates - before, 1);

    // What is of no importance is no news: 200 changes, and the one after them.
    for n in 0..200 {
        let status = json!({"message": "still here"});
        objects.status("big", &format!("p{n}"), status).await;
    }
    let labels = json!({"metadata": {"labels": {"app": "changed"}}});
    objects.patch_pod("big", "p0", labels).await;
    let changed = |f: &Follower| &*f.pod("p0").unwrap().labels["app"] == "changed";
    follower.until("changed", changed).await;
    assert_eq!(follower.updates - before, 2);
    assert!(follower.last.revision.pods > 0);
}

#[tokio::test]
async fn a_replica_that_starts_later_has_reached_what_others_have_seen() {
    let server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.pod("shop", "web").await;
    let mut first = Follower::in_sync(&server.kubeconfig()).await;
    objects.pod("shop", "gone").await;
    objects.delete("shop", "gone").await;
    first.until("both told", |f| f.gone == ["shop/gone"]).await;

    // The second never hears of the deletion that the first told its agents of.
    let second = Follower::in_sync(&server.kubeconfig()).await;
    assert!(second.last.revision.is_behind(&first.last.revision));
    assert!(!second.last.reached.is_behind(&first.last.revision));
    // And the first, which has listed less of late, need not catch up with the
    // list of the second, in which nothing is new.
    assert!(!first.last.reached.is_behind(&second.last.revision));
    assert_eq!(first.last.revision.source, second.last.revision.source);
}
