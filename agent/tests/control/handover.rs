//! A newer certificate: the stream goes on with it, and nothing is missed.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use sluice_mtls::TlsFiles;
use tonic::Status;

use crate::{
    controller::{FakeController, Mood, delta, snapshot},
    node::Setup,
};

/// Puts a certificate that is good so long where the node's is.
fn renew(setup: &Setup, files: &TlsFiles, lifetime: Duration) {
    let uri = "spiffe://cluster.local/node/node-a";
    let (cert, key) = setup.ca.issue_with(&[uri], |params| {
        params.not_after = (SystemTime::now() + lifetime).into();
    });
    for (path, contents) in [(&files.key, key), (&files.cert, cert)] {
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, contents).unwrap();
        fs::rename(&fresh, path).unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_takes_over_and_the_first_counts_until_then() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let files = setup.files("node", "node-a");
    renew(&setup, &files, HOUR);
    let node = setup.agent_with(&files, vec![controller.endpoint()]);
    let mut old = controller.stream().await;
    old.send("s", 5, snapshot(&["u1"], 1)).await;
    old.stored().await;
    let mut link = node.control.link();
    link.borrow_and_update();

    renew(&setup, &files, HOUR * 2);
    let mut new = controller.stream().await;
    assert!(new.hello.newest.is_some());
    // Until the new one says something, the old one is listened to.
    old.send("s", 6, delta(&["u2"])).await;
    assert_eq!(old.stored().await.sequence, 2);
    assert_eq!(node.uids(), ["u1", "u2"]);
    // Even the controller's last word to it is no loss of the controller.
    old.end(Status::aborted(
        "a newer stream of the same node replaced this one",
    ))
    .await;
    new.send("s", 7, snapshot(&["u1", "u3"], 2)).await;
    assert_eq!(new.stored().await.sequence, 1);
    assert_eq!(node.uids(), ["u1", "u3"]);
    // Everything is told again.
    assert!(new.report().await.full);
    new.send("s", 8, delta(&["u4"])).await;
    assert_eq!(new.stored().await.sequence, 2);
    assert!(
        !link.has_changed().unwrap(),
        "it was connected all the time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_open_a_second_stream_keeps_the_first() {
    let setup = Setup::new();
    let mut controller =
        FakeController::start(setup.identity("controller", "c0"), Mood::Serving).await;
    let files = setup.files("node", "node-a");
    renew(&setup, &files, HOUR);
    let node = setup.agent_with(&files, vec![controller.endpoint()]);
    let mut old = controller.stream().await;
    old.send("s", 5, snapshot(&["u1"], 1)).await;
    old.stored().await;

    renew(&setup, &files, HOUR * 2);
    controller
        .stream()
        .await
        .end(Status::unavailable("not now"))
        .await;
    old.send("s", 6, delta(&["u2"])).await;
    assert_eq!(old.stored().await.sequence, 2);
    // And tries again.
    let mut new = controller.stream().await;
    new.send("s", 7, snapshot(&["u3"], 1)).await;
    assert_eq!(new.stored().await.sequence, 1);
    assert_eq!(node.uids(), ["u3"]);
}
