//! Everybody who gets no certificate.

use rcgen::{KeyPair, PKCS_RSA_SHA256, SanType};
use sluice_mtls::Identity;
use sluice_proto::identity::v1::IssueNodeCertificateRequest;
use tonic::Code;

use crate::harness::{Answer, Issuing, request};

#[tokio::test]
async fn every_token_but_an_agent_s() {
    let issuing = Issuing::start(Answer::Gone).await;
    let on_a = [("node-name", "a")];
    let table = [
        (
            "expired, garbage or of a pod that is gone",
            Answer::agent(&on_a, |status| {
                status.authenticated = Some(false);
                status.error = Some("token has expired".into());
            }),
            Code::Unauthenticated,
        ),
        (
            "for another audience",
            Answer::agent(&on_a, |status| status.audiences = None),
            Code::Unauthenticated,
        ),
        (
            "of another account",
            Answer::agent(&on_a, |status| {
                let user = status.user.as_mut().unwrap();
                user.username = Some("system:serviceaccount:shop:default".into());
            }),
            Code::PermissionDenied,
        ),
        (
            "not bound to a pod",
            Answer::agent(&on_a, |status| status.user.as_mut().unwrap().extra = None),
            Code::PermissionDenied,
        ),
    ];
    for (number, (what, answer, code)) in table.into_iter().enumerate() {
        issuing.answer(answer);
        let refused = issuing.issue(&format!("token {number}")).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), code, "{what}: {refused:?}");
        assert!(!refused.message().contains("token 0"), "tokens are secret");
    }
}

#[tokio::test]
async fn a_pod_that_is_not_the_token_s_or_nowhere() {
    let issuing = Issuing::start(Answer::agent_without_node()).await;
    let refused = issuing.issue("none of this name").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    issuing.place("agent-x", "another uid", Some("a"));
    let refused = issuing.issue("another").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("is gone"), "{refused:?}");
    issuing.place("agent-x", "u1", None);
    let refused = issuing.issue("not scheduled").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_pod_that_claims_another_node() {
    let issuing = Issuing::start(Answer::agent_on("b")).await;
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://td/node/a".try_into().unwrap())];
    let claiming = IssueNodeCertificateRequest {
        signing_request: params.serialize_request(&key).unwrap().der().to_vec(),
        ..request(&key, "token")
    };
    let issued = issuing.ask(claiming.clone()).await.unwrap();
    let identity = Identity::of_certificate("td", &issued.certificates[0]).unwrap();
    assert_eq!(
        identity,
        Identity::Node("b".into()),
        "what it says is nothing"
    );
    let saying = IssueNodeCertificateRequest {
        node_name: "a".into(),
        ..claiming
    };
    let refused = issuing.ask(saying).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"b\""), "{refused:?}");
}

#[tokio::test]
async fn bad_requests_cost_no_review() {
    let issuing = Issuing::start(Answer::agent_on("a")).await;
    let key = KeyPair::generate().unwrap();
    let good = request(&key, "token");
    let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let table = [
        (request(&rsa, "token"), Code::InvalidArgument),
        (request(&key, ""), Code::InvalidArgument),
        (request(&key, &"t".repeat(20 << 10)), Code::InvalidArgument),
        (request(&key, &"t".repeat(64 << 10)), Code::OutOfRange),
        (
            IssueNodeCertificateRequest {
                signing_request: vec![0; 100],
                ..good
            },
            Code::InvalidArgument,
        ),
    ];
    for (asked, code) in table {
        let refused = issuing.ask(asked).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    assert_eq!(issuing.reviews(), 0);
}
