//! Certificates that are issued while the program runs.

use sluice_mtls::Held;

use super::*;

fn pair((cert, key): (String, String)) -> Held {
    Held {
        pair: Some((cert.into_bytes(), key.into_bytes())),
        authorities: None,
    }
}

/// The authorities are a file; the certificate comes later.
fn later(served: &Served) -> Arc<Reload> {
    let ca = served.dir.path().join("trust.crt");
    fs::write(&ca, served.ca.ca_pem()).unwrap();
    let files = TlsFiles {
        cert: "issued".into(),
        key: "issued".into(),
        ca,
        crl: None,
        trust_domain: "td".into(),
    };
    Reload::start_held(files, SLOW)
}

#[tokio::test]
async fn without_one_nobody_is_called_and_nobody_let_in() {
    let mut served = Served::start(AcceptLimits::default()).await;
    let reload = later(&served);
    assert_eq!(reload.not_after(), None);
    assert!(!reload.is_vouched_for());
    let endpoint = format!("https://{}", served.address);
    let channel =
        connect::channel(&endpoint, Arc::clone(&reload), connect::any_controller).unwrap();
    let mut client = HealthClient::new(channel);
    let status = check(&mut client).await.unwrap_err();
    assert!(chain(&status).contains("no certificate yet"));

    let mut expiry = reload.expiry();
    assert!(
        reload
            .hold(pair(served.ca.issue("spiffe://td/node/a")))
            .unwrap()
    );
    assert!(expiry.has_changed().unwrap());
    assert_eq!(*expiry.borrow_and_update(), reload.not_after());
    assert!(reload.is_vouched_for());
    // The same channel.
    check(&mut client).await.unwrap();
    let peer = served.peers.recv().await.unwrap();
    assert_eq!(peer.identity, Identity::Node("a".into()));
}

#[tokio::test]
async fn one_that_cannot_be_used_leaves_the_one_before() {
    let served = Served::start(AcceptLimits::default()).await;
    let reload = later(&served);
    reload
        .hold(pair(served.ca.issue("spiffe://td/node/a")))
        .unwrap();
    let (cert, _) = served.ca.issue("spiffe://td/node/b");
    let (_, key) = served.ca.issue("spiffe://td/node/b");
    reload.hold(pair((cert, key))).unwrap_err();
    assert_eq!(reload.identity(), Some(Identity::Node("a".into())));
}

#[tokio::test]
async fn an_authority_that_changes_may_vouch_no_more() {
    let served = Served::start(AcceptLimits::default()).await;
    let reload = later(&served);
    reload
        .hold(pair(served.ca.issue("spiffe://td/node/a")))
        .unwrap();
    let trust = served.dir.path().join("trust.crt");
    let other = TestCa::new("td").ca_pem();
    fs::write(&trust, format!("{}{other}", served.ca.ca_pem())).unwrap();
    assert!(reload.look().unwrap());
    assert!(reload.is_vouched_for(), "both are believed");
    fs::write(&trust, other).unwrap();
    assert!(reload.look().unwrap());
    assert!(!reload.is_vouched_for());
}
