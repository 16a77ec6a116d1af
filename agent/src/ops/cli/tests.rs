use super::*;
use crate::{
    control::Link,
    ops::view::{self, samples},
    status::ProxyStatus,
};
use sluice_kernel::model::{NetnsId, PodUid, Refusal};
use sluice_proto::agent::v1 as proto;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

fn answers() -> (proto::GetStatusResponse, Vec<proto::Pod>) {
    let mut status = samples::node();
    status.audited_at = Some(now() - Duration::from_secs(3));
    status.audit_micros = 1234;
    status.findings.push(Refusal {
        check: "ipvs",
        evidence: "10.96.0.1 on kube-ipvs0".into(),
        remedy: "run kube-proxy in another mode".into(),
    });
    status.proxy = ProxyStatus {
        netns: Some(NetnsId {
            path: "/run/netns/proxy".into(),
            device: 4,
            inode: 5,
        }),
        listening: [15001, 15006].into(),
        missing: [15008].into(),
        ..ProxyStatus::default()
    };
    let link = Link {
        connected: false,
        endpoint: "https://controller:15010".into(),
        since: Some(now() - Duration::from_secs(600)),
        changed: None,
        last_error: "connection refused".into(),
    };
    let pods = status
        .pods
        .iter()
        .map(|(uid, pod)| view::pod(uid, pod))
        .collect();
    let started = now() - Duration::from_secs(86_400 * 3);
    (view::node("node-a", started, &status, &link), pods)
}

#[test]
fn status_for_people() {
    let (node, pods) = answers();
    let mut text = render::node(&node, &pods, now());
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::assert_snapshot!(text, @r"
    node        node-a (sluice-agent VERSION, started 3 days ago)
    controller  NOT CONNECTED to https://controller:15010 (10 min ago): connection refused; state from the controller, revision pods 7, namespaces 3
    proxy       NOT READY, in /run/netns/proxy, listens on 15001 15006, NOT on 15008
    capture     NOT READY
    audited     3 s ago, in 1.2 ms; 0 repairs since start
    FINDING     ipvs: 10.96.0.1 on kube-ipvs0; run kube-proxy in another mode
    pods        1 captured, 1 PENDING, 1 released

    NAMESPACE  NAME  WANTED    STATE     ADDRESSES  WHY
    default    db    nothing   released  10.0.0.4
    default    web   captured  captured  10.0.0.4
    other      web   captured  PENDING   10.0.0.4   proxy not listening: the proxy does not listen on 15008
    ");
}

#[test]
fn explain_for_people() {
    let status = samples::node();
    let uid = PodUid::new("u-web2").unwrap();
    let mut pod = view::pod(&uid, &status.pods[&uid]);
    pod.name = "web\u{1b}[2J".into();
    let explained = proto::ExplainPodResponse {
        pod: Some(pod),
        evidence: vec![
            proto::Evidence {
                object: "route to 10.0.0.4 in table 8301".into(),
                present: true,
            },
            proto::Evidence {
                object: "rule of priority 105".into(),
                present: false,
            },
        ],
        commands: vec!["nft list table inet sluice".into()],
    };
    insta::assert_snapshot!(render::explained(&explained), @r"
    pod         other/web [2J (u-web2)
    wanted      captured
    state       PENDING
    why         proxy not listening: the proxy does not listen on 15008
    addresses   10.0.0.4
    interface   veth1
    netns       /run/netns/web

    found in the kernel just now:
      present  route to 10.0.0.4 in table 8301
      ABSENT   rule of priority 105

    to see the same, on the node:
      nft list table inet sluice
    ");
}

#[test]
fn json_has_the_protocols_words() {
    let (node, pods) = answers();
    let value = json::node(&node, &pods);
    assert_eq!(value["controller"]["origin"], "STATE_ORIGIN_CONTROLLER");
    assert_eq!(value["startedAt"], "1970-01-09T13:46:40Z");
    assert_eq!(value["pods"][0]["status"]["state"], "POD_STATE_RELEASED");
    assert_eq!(value["proxy"]["missing"][0], 15008);
    assert!(json::text(&value).ends_with("}\n"));
}

#[tokio::test]
async fn without_an_agent_the_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let error = status(&socket, false).await.unwrap_err().to_string();
    assert!(
        error.contains("start it") && error.contains("agent.sock"),
        "{error}"
    );
}
