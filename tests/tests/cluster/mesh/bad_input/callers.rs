//! Tokens and certificates, over TLS as agents use them.

use serde_json::json;
use sluice_mtls::Identity;
use sluice_proto::{
    capture::v1::{
        Hello, ResolvePodRequest, StreamCaptureStateRequest,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message,
    },
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use sluice_tests::cluster::{
    Cluster,
    caller::{self, AUDIENCE, Claim, TRUST_DOMAIN},
    pod,
    sluice::{AGENT, NAMESPACE},
};
use tonic::Code;

use super::super::shop::{self, SHOP};

/// Whose agent would be asked for.
const GONE: &str = "gone-agent";

/// Every token but that of an agent's own pod is refused, and what a pod says of
/// itself is worth nothing.
pub(in super::super) fn tokens_of_others(cluster: &mut Cluster) {
    shop::enrolled(cluster);
    let agent = cluster.agent_of("na");
    let caller = cluster.caller("nb");
    let refused = |token: String, node: &str| {
        let claim = Claim {
            token,
            node_name: node.into(),
            name: None,
        };
        let answer = caller.issue(claim);
        answer
            .map(|issued| issued.identity)
            .map_err(|status| status.code())
    };
    let agents = |audience, pod| cluster.token(NAMESPACE, AGENT, audience, pod);
    let other_audience = agents("somebody-else", Some(&agent));
    assert_eq!(refused(other_audience, ""), Err(Code::Unauthenticated));
    let of_the_api = agents("https://kubernetes.default.svc.cluster.local", Some(&agent));
    assert_eq!(refused(of_the_api, ""), Err(Code::Unauthenticated));
    assert_eq!(
        refused(agents(AUDIENCE, None), ""),
        Err(Code::PermissionDenied)
    );
    let anothers = cluster.token(SHOP, "default", AUDIENCE, Some("b1"));
    assert_eq!(refused(anothers, "nb"), Err(Code::PermissionDenied));
    assert_eq!(
        refused("no token at all".into(), "nb"),
        Err(Code::Unauthenticated)
    );
    // The agent of na says that it is nb's, in a word and in its request.
    let real = agents(AUDIENCE, Some(&agent));
    assert_eq!(refused(real.clone(), "nb"), Err(Code::PermissionDenied));
    let name = format!("spiffe://{TRUST_DOMAIN}/node/nb");
    let claim = Claim {
        token: real,
        node_name: String::new(),
        name: Some(name),
    };
    let issued = caller.issue(claim).expect("a certificate of its own");
    assert_eq!(issued.identity, Identity::Node("na".into()));
    of_a_pod_that_is_gone(cluster);
    with_a_certificate(cluster);
}

fn of_a_pod_that_is_gone(cluster: &Cluster) {
    let mut pod = pod::workload(NAMESPACE, GONE, "nb");
    pod["spec"]["serviceAccountName"] = json!(AGENT);
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    cluster.apply(&pod);
    cluster.wait_pods_ready(NAMESPACE, &[GONE]);
    let token = cluster.token(NAMESPACE, AGENT, AUDIENCE, Some(GONE));
    cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, GONE]);
    let claim = Claim {
        token,
        ..Claim::default()
    };
    let answer = cluster.caller("nb").issue(claim);
    assert_eq!(
        answer.map(|_| ()).map_err(|status| status.code()),
        Err(Code::Unauthenticated)
    );
}

/// A node's certificate opens that node's stream and nothing else.
fn with_a_certificate(cluster: &Cluster) {
    let caller = cluster.caller("na");
    let token = cluster.token(NAMESPACE, AGENT, AUDIENCE, Some(&cluster.agent_of("na")));
    let issued = caller
        .issue(Claim {
            token,
            ..Claim::default()
        })
        .expect("a certificate");
    let hello = StreamCaptureStateRequest {
        message: Some(Message::Hello(Hello {
            node_name: "nb".into(),
            ..Hello::default()
        })),
    };
    let code = caller.call(&issued, |channel| async {
        let opened = caller::open(channel, futures_util::stream::iter([hello])).await;
        match opened {
            Ok(mut stream) => stream
                .message()
                .await
                .map(|_| ())
                .map_err(|status| status.code()),
            Err(status) => Err(status.code()),
        }
    });
    assert_eq!(code, Err(Code::PermissionDenied));
    let code = caller.call(&issued, |channel| async {
        let answer = FleetServiceClient::new(channel)
            .list_nodes(ListNodesRequest {})
            .await;
        answer.map(|_| ()).map_err(|status| status.code())
    });
    assert_eq!(code, Err(Code::PermissionDenied));
    let uid = cluster.get(&["-n", SHOP, "pod", "b1"])["metadata"]["uid"].clone();
    let request = ResolvePodRequest {
        uid: uid.as_str().unwrap_or_default().into(),
        ..ResolvePodRequest::default()
    };
    let answer = caller.call(&issued, |channel| async {
        let answer = CaptureDiscoveryServiceClient::new(channel)
            .resolve_pod(request)
            .await;
        answer.map(|answer| answer.into_inner())
    });
    let answer = answer.expect("an answer");
    assert_eq!(answer.resolution().as_str_name(), "RESOLUTION_NOT_YOURS");
    assert!(answer.pod.is_none(), "{answer:?}");
}

/// At the API server an agent is nobody in particular.
pub(in super::super) fn tokens_open_nothing_else(cluster: &mut Cluster) {
    shop::installed(cluster);
    let list = |namespace: &str, user: &str| {
        let user = format!("--as=system:serviceaccount:{user}");
        let groups = [
            "--as-group=system:serviceaccounts",
            "--as-group=system:authenticated",
        ];
        let args = ["auth", "can-i", "--list", "-n", namespace, &user];
        cluster.kubectl(&[&args[..], &groups].concat())
    };
    for namespace in ["default", NAMESPACE, SHOP] {
        let agent = list(namespace, &format!("{NAMESPACE}:{AGENT}"));
        let nobody = list(namespace, &format!("{NAMESPACE}:nobody-in-particular"));
        assert_eq!(agent, nobody, "in {namespace}");
        assert!(!agent.contains("pods"), "{agent}");
    }
    // And the controller may not do what it does not do.
    let can = |verb: &str, what: &str| {
        let user = format!("--as=system:serviceaccount:{NAMESPACE}:sluice-controller");
        let answer = cluster.try_kubectl(&["auth", "can-i", verb, what, "-A", &user]);
        answer.is_ok()
    };
    assert!(can("watch", "pods"));
    for (verb, what) in [
        ("get", "secrets"),
        ("create", "pods"),
        ("patch", "pods"),
        ("delete", "pods"),
        ("create", "pods/exec"),
        ("patch", "namespaces"),
        ("delete", "nodes"),
        ("create", "serviceaccounts/token"),
    ] {
        assert!(!can(verb, what), "the controller may {verb} {what}");
    }
}
