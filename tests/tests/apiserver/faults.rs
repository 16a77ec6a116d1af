//! An API server that answers, and answers wrongly.

use sluice_tests::apiserver::{ApiServer, Fault, FaultyProxy};

use crate::{follower::Follower, objects::Objects};

const FAULTS: [(Fault, &str); 6] = [
    (Fault::InternalError, "the API server answers 500"),
    (Fault::Garbage, "makes no sense"),
    (Fault::HalfLists, "cut"),
    (Fault::CutWatches, "cut"),
    (Fault::Refuse, "cannot be talked to"),
    (Fault::Hang, "no answer within"),
];

#[tokio::test]
async fn no_wrong_answer_takes_anything_away() {
    let mut server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.many_pods("shop", 30).await;
    let proxy = FaultyProxy::start(&server).await;
    let mut follower = Follower::in_sync(&proxy.kubeconfig()).await;

    for (number, (fault, says)) in FAULTS.into_iter().enumerate() {
        proxy.set(fault);
        let named = |f: &Follower| f.last.out_of_touch.is_some() && f.problems().contains(says);
        follower.until(&format!("{fault:?} known"), named).await;
        assert!(
            follower.gone.is_empty() && follower.last.in_sync,
            "{fault:?}"
        );
        assert_eq!(follower.names("shop").len(), 30 + number, "{fault:?}");

        let name = format!("after-{number}");
        objects.pod("shop", &name).await;
        proxy.set(Fault::None);
        let well = |f: &Follower| {
            f.last.out_of_touch.is_none() && f.problems().is_empty() && f.pod(&name).is_some()
        };
        follower.until(&format!("well after {fault:?}"), well).await;
    }

    // Lists are needed again, and are empty: nothing of it is believed.
    proxy.set(Fault::Refuse);
    objects.delete("shop", "p3").await;
    server.compact(objects.version().await);
    server.restart();
    proxy.set(Fault::EmptyLists);
    let unbelievable = |f: &Follower| f.problems().contains("there are none");
    follower.until("told of empty lists", unbelievable).await;
    assert!(follower.gone.is_empty());
    proxy.set(Fault::None);
    follower
        .until("well", |f| f.last.out_of_touch.is_none())
        .await;
    assert_eq!(follower.gone, ["shop/p3"]);
}

#[tokio::test]
async fn wrong_from_the_start_is_not_in_sync() {
    let server = ApiServer::start();
    let objects = Objects::of(&server).await;
    objects.namespace("shop").await;
    objects.pod("shop", "web").await;
    let proxy = FaultyProxy::start(&server).await;
    proxy.set(Fault::InternalError);
    let mut follower = Follower::start(&proxy.kubeconfig()).await;
    follower
        .until("told", |f| f.problems().contains("500"))
        .await;
    assert!(!follower.last.in_sync && follower.updates == 0);

    proxy.set(Fault::HalfLists);
    follower
        .until("told", |f| f.problems().contains("cut"))
        .await;
    assert!(!follower.last.in_sync && follower.updates == 0);

    proxy.set(Fault::None);
    follower.until("in sync", |f| f.last.in_sync).await;
    assert_eq!(follower.names("shop"), ["web"]);

    // A watch that ends as soon as it begins is not asked for without end.
    proxy.set(Fault::CutWatches);
    proxy.take_requests();
    let tried = |f: &Follower| f.problems().contains("4 tries failed");
    follower.until("tried a few times", tried).await;
    let requests = proxy.take_requests().len();
    assert!(requests < 40, "{requests}");
}
