//! Revocation lists.

use super::*;

struct Listed {
    served: Served,
    list: std::path::PathBuf,
}

impl Listed {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = TestCa::new("td");
        let mut files = ca.write(dir.path(), "server", "spiffe://td/controller/c0");
        let list = dir.path().join("revoked.pem");
        fs::write(&list, "").unwrap();
        files.crl = Some(list.clone());
        let served = Served::start_with(AcceptLimits::default(), dir, ca, files).await;
        Self { served, list }
    }

    /// A client whose certificate can be revoked later.
    fn client(&self, node: &str) -> (HealthClient<tonic::transport::Channel>, String) {
        let uri = format!("spiffe://td/node/{node}");
        let files = self.served.ca.write(self.served.dir.path(), node, &uri);
        let certificate = fs::read_to_string(&files.cert).unwrap();
        let reload = Reload::start(files, SLOW).unwrap();
        let endpoint = format!("https://{}", self.served.address);
        let channel = connect::channel(&endpoint, reload, connect::any_controller).unwrap();
        (HealthClient::new(channel), certificate)
    }

    fn publish(&self, list: &str) {
        fs::write(&self.list, list).unwrap();
        assert!(self.served.reload.look().unwrap());
    }
}

#[tokio::test]
async fn an_open_connection_of_a_revoked_certificate_ends_and_no_other() {
    let mut listed = Listed::start().await;
    let (mut bad, bad_certificate) = listed.client("bad");
    let (mut good, _) = listed.client("good");
    check(&mut bad).await.unwrap();
    check(&mut good).await.unwrap();
    listed.served.peers.recv().await.unwrap();
    let before = listed.served.peers.recv().await.unwrap();

    listed.publish(&listed.served.ca.revoke(&[&bad_certificate]));
    // At once on the open connection, and then there is none any more.
    let refused = check(&mut bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    assert!(refused.message().contains("revoked"));
    let deadline = Instant::now() + Duration::from_secs(60);
    while check(&mut bad).await.unwrap_err().code() == Code::Unauthenticated {
        assert!(Instant::now() < deadline, "the connection goes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check(&mut good).await.unwrap();
    let after = listed.served.peers.recv().await.unwrap();
    assert_eq!(before.address, after.address, "the same connection");
}

#[tokio::test]
async fn a_revoked_certificate_opens_nothing() {
    let listed = Listed::start().await;
    let (mut bad, certificate) = listed.client("bad");
    listed.publish(&listed.served.ca.revoke(&[&certificate]));
    check(&mut bad).await.unwrap_err();
    let (mut fresh, _) = listed.client("bad");
    // Its name is not revoked, its old certificate is.
    check(&mut fresh).await.unwrap();
}

#[tokio::test]
async fn the_list_of_another_authority_says_nothing() {
    let listed = Listed::start().await;
    let (mut client, certificate) = listed.client("a");
    let stranger = TestCa::new("elsewhere");
    listed.publish(&stranger.revoke(&[&certificate]));
    check(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_damaged_list_is_reported_and_the_one_before_it_counts() {
    let listed = Listed::start().await;
    let (mut bad, certificate) = listed.client("bad");
    listed.publish(&listed.served.ca.revoke(&[&certificate]));
    for damaged in ["garbage", "-----BEGIN X509 CRL-----\n%%"] {
        fs::write(&listed.list, damaged).unwrap();
        let error = listed.served.reload.look().unwrap_err();
        assert!(error.to_string().contains("revocation list"), "{error}");
        check(&mut bad).await.unwrap_err();
    }
}
