//! Who may do what.

use sluice_proto::{
    capture::v1::{
        Hello, NodeCondition, PodState, PodStatus, Resolution, ResolvePodRequest, StatusReport,
        stream_capture_state_request::Message,
    },
    controller::v1::{
        GetNodeRequest, GetPodRequest, ListNodesRequest, ListPodsRequest,
        fleet_service_client::FleetServiceClient,
    },
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::harness::{Client, Controller, gone, put, shop, uri};

#[tokio::test]
async fn a_stream_takes_a_node_s_certificate() {
    let controller = Controller::start().await;
    for identity in ["operator/alice", "controller/other"] {
        let mut client = controller.client(identity);
        let refused = client.stream_capture_state(tokio_stream::empty()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{identity}");
        assert!(refused.message().contains("/node/"), "{refused:?}");
        let refused = client.resolve_pod(ResolvePodRequest::default()).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    let mut agent = controller.agent("a").await;
    agent.snapshot().await.unwrap();
}

#[tokio::test]
async fn the_fleet_takes_an_operator_s() {
    let controller = Controller::start().await;
    for identity in ["node/a", "controller/other"] {
        let mut client = FleetServiceClient::new(controller.channel(identity));
        let code = |status: tonic::Status| status.code();
        let denied = Some(Code::PermissionDenied);
        let refused = client.list_nodes(ListNodesRequest::default()).await;
        assert_eq!(refused.err().map(code), denied, "{identity}");
        let refused = client.get_node(GetNodeRequest::default()).await;
        assert_eq!(refused.err().map(code), denied, "{identity}");
        let refused = client.list_pods(ListPodsRequest::default()).await;
        assert_eq!(refused.err().map(code), denied, "{identity}");
        let refused = client.get_pod(GetPodRequest::default()).await;
        assert_eq!(refused.err().map(code), denied, "{identity}");
    }
}

#[tokio::test]
async fn strangers_get_nothing_at_all() {
    let controller = Controller::start().await;
    let other = sluice_mtls::testing::TestCa::new("cluster.local");
    let mut files = other.write(controller.dir.path(), "stranger", &uri("node/a"));
    let ours = controller
        .ca
        .write(controller.dir.path(), "ours", &uri("node/a"));
    // Believes the controller, and is not believed.
    files.ca = ours.ca;
    let mut client = Client::new(controller.channel_with(files));
    let refused = client.resolve_pod(ResolvePodRequest::default()).await;
    // Refused in the handshake, not by a service.
    let code = refused.unwrap_err().code();
    assert!(
        matches!(code, Code::Unavailable | Code::Unknown),
        "{code:?}"
    );
}

#[tokio::test]
async fn another_node_s_name_is_refused() {
    let controller = Controller::start().await;
    let hello = |name: &str| Hello {
        node_name: name.to_owned(),
        ..Hello::default()
    };
    let mut agent = controller.agent_with("a", hello("b")).await;
    let refused = agent.end().await;
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("\"b\""), "{refused:?}");
    let mut agent = controller.agent_with("a", hello("a")).await;
    agent.snapshot().await.unwrap();
}

fn report(uid: &str, hash: &str, full: bool) -> Message {
    let status = PodStatus {
        uid: uid.into(),
        intent_hash: hash.into(),
        state: PodState::Captured.into(),
        steered: true,
        ..PodStatus::default()
    };
    Message::Status(StatusReport {
        full,
        pods: vec![status],
        node: Some(NodeCondition {
            capture_ready: true,
            message: String::new(),
            left: false,
        }),
    })
}

#[tokio::test]
async fn an_agent_reports_its_own_pods_only() {
    let controller = Controller::start().await;
    controller.tell(vec![put("1", "a"), put("2", "b"), shop(true)]);
    let mut agent = controller.agent("a").await;
    let snapshot = agent.snapshot().await.unwrap();
    assert_eq!(snapshot.pods.len(), 1, "only its own are told");
    let hash = snapshot.pods[0].intent_hash.clone();
    agent.send(report("1", &hash, true)).await;
    agent.send(report("gone already", "", false)).await;
    agent.silence().await;

    let mut operator = controller.operator();
    let request = GetPodRequest {
        pod: "shop/pod-1".into(),
    };
    let pod = operator.get_pod(request).await.unwrap().into_inner().pod;
    let status = pod.unwrap().status.unwrap();
    assert_eq!(status.state(), PodState::Captured);

    agent.send(report("2", "", false)).await;
    assert_eq!(agent.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_operators_see() {
    let controller = Controller::start().await;
    controller.tell(vec![
        put("1", "a"),
        put("2", "a"),
        put("3", "b"),
        shop(true),
    ]);
    let hello = Hello {
        agent_version: "1.2.3".into(),
        ..Hello::default()
    };
    let mut agent = controller.agent_with("a", hello).await;
    let snapshot = agent.snapshot().await.unwrap();
    let hash = snapshot.pods[0].intent_hash.clone();
    agent.send(report("1", &hash, true)).await;
    agent.silence().await;

    let mut operator = controller.operator();
    let request = ListNodesRequest::default();
    let listed = operator.list_nodes(request).await.unwrap().into_inner();
    let [a, b] = &listed.nodes[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((a.name.as_str(), a.connected, a.pods), ("a", true, 2));
    assert_eq!((a.enrolled, a.captured, a.sent_sequence), (2, 1, 1));
    assert_eq!(a.agent_version, "1.2.3");
    assert!(a.condition.as_ref().unwrap().capture_ready);
    assert_eq!((b.name.as_str(), b.connected, b.pods), ("b", false, 1));

    let request = ListPodsRequest {
        node: "a".into(),
        ..ListPodsRequest::default()
    };
    let pods = operator.list_pods(request).await.unwrap().into_inner().pods;
    assert_eq!(pods.len(), 2);
    let get = |pod: &str| GetPodRequest { pod: pod.into() };
    let found = operator.get_pod(get("3")).await.unwrap().into_inner();
    assert_eq!(found.pod.unwrap().node, "b");
    let missing = operator.get_pod(get("shop/none")).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let name = "none".to_owned();
    let missing = operator.get_node(GetNodeRequest { name }).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);

    // A status of another intent says nothing about this one.
    controller.tell(vec![shop(false)]);
    agent.delta().await;
    let found = operator.get_pod(get("1")).await.unwrap().into_inner();
    assert_eq!(found.pod.unwrap().status, None);
    controller.tell(vec![gone("3")]);
    let name = "b".to_owned();
    let missing = operator.get_node(GetNodeRequest { name }).await;
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn one_pod_at_once() {
    let controller = Controller::start_cold().await;
    let mut client = controller.client("node/a");
    let ask = |uid: &str| ResolvePodRequest {
        uid: uid.into(),
        ..ResolvePodRequest::default()
    };
    let early = client.resolve_pod(ask("1")).await.unwrap_err();
    assert_eq!(early.code(), Code::Unavailable, "not in sync");
    controller.tell(vec![put("1", "a"), put("2", "b"), shop(true)]);
    let table = [
        ("1", Resolution::Enrolled, true),
        ("2", Resolution::NotYours, false),
        ("3", Resolution::NotKnown, false),
    ];
    for (uid, resolution, has_pod) in table {
        let answer = client.resolve_pod(ask(uid)).await.unwrap().into_inner();
        assert_eq!(answer.resolution(), resolution, "{uid}");
        assert_eq!(answer.pod.is_some(), has_pod, "{uid}");
    }
    controller.tell(vec![shop(false)]);
    let by_name = ResolvePodRequest {
        uid: String::new(),
        namespace: "shop".into(),
        name: "pod-1".into(),
    };
    let answer = client.resolve_pod(by_name).await.unwrap().into_inner();
    assert_eq!(answer.resolution(), Resolution::NotEnrolled);
    let nothing = client.resolve_pod(ask("")).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn health_and_reflection_need_no_files() {
    let controller = Controller::start_cold().await;
    let mut health = HealthClient::new(controller.channel("operator/alice"));
    let capture = "sluice.capture.v1.CaptureDiscoveryService".to_owned();
    let ask = HealthCheckRequest { service: capture };
    let mut serving = Vec::new();
    for _ in 0..100 {
        // Reported by a task of its own.
        if let Ok(answer) = health.check(ask.clone()).await {
            serving.push(answer.into_inner().status() as i32);
        }
        controller.tell(vec![]);
        if serving.last() == Some(&1) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(serving.last(), Some(&1), "serving once in sync");

    let mut reflection = ServerReflectionClient::new(controller.channel("operator/alice"));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::once(request));
    let mut answers = answers.await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.iter().map(|s| s.name.as_str()).collect();
    for name in [
        "sluice.capture.v1.CaptureDiscoveryService",
        "sluice.controller.v1.FleetService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.contains(&"sluice.agent.v1.NodeService"), "{names:?}");
}

#[tokio::test]
async fn pods_come_in_pages() {
    let controller = Controller::start().await;
    let uids: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
    controller.tell(uids.iter().map(|uid| put(uid, "a")).collect());
    let mut operator = controller.operator();
    let (mut names, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = ListPodsRequest {
            page_size: 10,
            page_token: token,
            ..ListPodsRequest::default()
        };
        let page = operator.list_pods(request).await.unwrap().into_inner();
        sizes.push(page.pods.len());
        names.extend(page.pods.into_iter().map(|pod| pod.intent.unwrap().uid));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(names, uids);
    let odd = ListPodsRequest {
        page_token: "odd".into(),
        ..ListPodsRequest::default()
    };
    let refused = operator.list_pods(odd).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
