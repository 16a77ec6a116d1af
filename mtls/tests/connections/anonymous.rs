//! Clients without a certificate, where they are let in.

use super::*;

fn open(max_anonymous: usize) -> AcceptLimits {
    AcceptLimits {
        max_anonymous,
        ..AcceptLimits::default()
    }
}

/// A connection without a certificate that has spoken HTTP/2.
async fn knock(served: &Served) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = served.raw_config(TLS13, None);
    let tcp = TcpStream::connect(served.address).await.unwrap();
    let name = ServerName::from(served.address.ip());
    let mut tls = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap();
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    assert!(tls.read(&mut [0; 9]).await.unwrap() > 0, "SETTINGS");
    tls
}

/// Reads until the server hangs up.
async fn hangs_up(mut tls: tokio_rustls::client::TlsStream<TcpStream>) {
    let mut buffer = [0; 256];
    let end = async { while let Ok(1..) = tls.read(&mut buffer).await {} };
    let ended = tokio::time::timeout(Duration::from_secs(20), end).await;
    assert!(ended.is_ok(), "the server hangs up");
}

#[tokio::test]
async fn they_get_in_and_are_nobody() {
    let served = Served::start(open(4)).await;
    let authorities = served.dir.path().join("trust.crt");
    fs::write(&authorities, served.ca.ca_pem()).unwrap();
    let endpoint = format!("https://{}", served.address);
    let channel =
        connect::anonymous_channel(&endpoint, authorities, "td".into(), connect::any_controller);
    let refused = check(&mut HealthClient::new(channel.unwrap())).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("no client certificate"));
    // And whoever has one is known as before.
    check(&mut served.client(&served.ca, "spiffe://td/node/a"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_certificate_is_still_refused() {
    let served = Served::start(open(4)).await;
    let node = "spiffe://td/node/a";
    for pair in [
        TestCa::new("td").issue(node),
        served.ca.issue("spiffe://other/node/a"),
        served.ca.issue_with(&[node], |params| {
            params.not_after = date_time_ymd(2002, 1, 1);
        }),
    ] {
        let read = served.raw(served.raw_config(TLS13, Some(pair))).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
    }
}

#[tokio::test]
async fn the_old_protocol_and_resumption_are_no_way_in_for_them() {
    let served = Served::start(open(4)).await;
    let old = served.raw_config(&[&rustls::version::TLS12], None);
    let error = served.raw(old).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    let config = Arc::new(served.raw_config(TLS13, None));
    for _ in 0..3 {
        let tcp = TcpStream::connect(served.address).await.unwrap();
        let name = ServerName::from(served.address.ip());
        let mut tls = TlsConnector::from(Arc::clone(&config))
            .connect(name, tcp)
            .await
            .unwrap();
        assert!(tls.read(&mut [0; 64]).await.unwrap() > 0);
        let (_, session) = tls.get_ref();
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
    }
}

#[tokio::test]
async fn one_too_many_drops_the_oldest_of_them_and_nobody_else() {
    let mut served = Served::start(open(2)).await;
    let mut known = served.client(&served.ca, "spiffe://td/node/a");
    check(&mut known).await.unwrap();
    let before = served.peers.recv().await.unwrap();
    let first = knock(&served).await;
    let mut second = knock(&served).await;
    let _third = knock(&served).await;
    hangs_up(first).await;
    let mut buffer = [0; 1];
    let waiting = tokio::time::timeout(Duration::from_millis(50), second.read(&mut buffer));
    // Whatever it still has to say, it is not over.
    assert!(!matches!(waiting.await, Ok(Ok(0) | Err(_))));
    check(&mut known).await.unwrap();
    let after = served.peers.recv().await.unwrap();
    assert_eq!(before.address, after.address, "the same connection");
}

#[tokio::test]
async fn they_may_not_stay() {
    let limits = AcceptLimits {
        anonymous_lifetime: Duration::from_secs(2),
        ..open(2)
    };
    let served = Served::start(limits).await;
    hangs_up(knock(&served).await).await;
}

#[tokio::test]
async fn a_flood_of_them_keeps_no_agent_out() {
    let limits = AcceptLimits {
        max_half_open: 16,
        ..open(4)
    };
    let served = Served::start(limits).await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(TcpStream::connect(served.address).await.unwrap());
        flood.push(knock(&served).await.into_inner().0);
    }
    for node in ["a", "b", "c"] {
        let mut client = served.client(&served.ca, &format!("spiffe://td/node/{node}"));
        check(&mut client).await.unwrap();
    }
}
