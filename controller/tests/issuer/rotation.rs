//! New certificates and new authorities, under open streams.

use std::time::{Duration, SystemTime};

use sluice_controller::issuer::authority::Kept;
use tokio::time::timeout;

use crate::harness::{Answer, Issuing, open};

#[tokio::test]
async fn a_new_authority_drops_no_stream() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    let (issued, key) = issuing.issue("before").await.unwrap();
    let held = issuing.held(&issued, &key);
    let mut stream = open(issuing.channel(held.clone())).await.unwrap();
    stream.message().await.unwrap();

    // The new one signs, and the old one is believed still.
    let fresh = Kept::generate("td", SystemTime::now()).unwrap();
    let both = Kept {
        cert: [&fresh.cert[..], &issuing.kept.cert].concat(),
        key: fresh.key.clone(),
    };
    let before = issuing.own.not_after();
    issuing.signer.take(both.clone(), "the test").unwrap();
    assert!(issuing.own.not_after() >= before);
    let silent = timeout(Duration::from_millis(100), stream.message()).await;
    assert!(silent.is_err(), "{silent:?}");

    // Whoever believes the old one only cannot tell the controller any more;
    // with the new bundle, both old and new certificates are good.
    issuing.issue("believes the old").await.unwrap_err();
    issuing.trust(&both.cert);
    let (renewed, renewed_key) = issuing.issue("after").await.unwrap();
    held.look().unwrap();
    for reload in [held, issuing.held(&renewed, &renewed_key)] {
        let mut stream = open(issuing.channel(reload)).await.unwrap();
        stream.message().await.unwrap();
    }
}

#[tokio::test]
async fn an_authority_that_cannot_be_used_leaves_the_one_before() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    let broken = Kept {
        cert: b"garbage".to_vec(),
        key: issuing.kept.key.clone(),
    };
    issuing.signer.take(broken, "the test").unwrap_err();
    issuing.issue("token").await.unwrap();
}
