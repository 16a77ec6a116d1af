use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sluice_kernel::model::PodUid;
use sluice_proto::agent::v1::{Address, Interface, Sandbox as Message};
use tokio::time::timeout;
use tonic::Code;

use super::*;
use crate::{
    capture::{Journal, Options as CaptureOptions, kernel::fake::FakeKernel},
    cni::{Resolved, notes::sealed},
    desired::{Desired, Origin},
};

/// A controller that says what a test tells it to.
#[derive(Clone, Debug)]
struct Oracle(Arc<Mutex<Resolved>>);

impl Resolve for Oracle {
    async fn resolve(&self, _: &str, _: &str, _: &str) -> Resolved {
        self.0.lock().unwrap().clone()
    }
}

struct Node {
    kernel: FakeKernel,
    run_dir: tempfile::TempDir,
    capture: Capture,
    desired: Desired,
    oracle: Oracle,
}

fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

fn intent(name: &str, wanted: Wanted) -> Intent {
    Intent {
        namespace: "shop".into(),
        name: name.into(),
        message: "it asks for ports to be left out".into(),
        ..Intent::bare(uid(name), wanted)
    }
}

fn message(name: &str, namespace: &str) -> Message {
    Message {
        container_id: format!("c-{name}"),
        netns: format!("/run/netns/{name}"),
        ifname: "eth0".into(),
        network: "net".into(),
        pod_uid: name.into(),
        pod_namespace: namespace.into(),
        pod_name: name.into(),
        standalone: false,
    }
}

fn request(name: &str, namespace: &str, address: &str) -> AddPodRequest {
    let interface = |name: String, sandbox: String| Interface {
        name,
        mac: String::new(),
        sandbox,
    };
    AddPodRequest {
        sandbox: Some(message(name, namespace)),
        interfaces: vec![
            interface(format!("veth-{name}"), String::new()),
            interface("eth0".into(), format!("/run/netns/{name}")),
        ],
        addresses: vec![Address {
            cidr: format!("{address}/32"),
            interface: Some(1),
        }],
        excluded: false,
        deadline_ms: 700,
    }
}

impl Node {
    fn new() -> Self {
        let kernel = FakeKernel::new();
        let run_dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_for_boot(run_dir.path(), "boot").unwrap();
        let capture = Capture::start(CaptureOptions::default(), kernel.clone(), journal).unwrap();
        let node = Self {
            kernel,
            run_dir,
            capture,
            desired: Desired {
                origin: Origin::Controller,
                revision: None,
                pods: BTreeMap::new(),
                namespaces: BTreeMap::new(),
                leave: false,
            },
            oracle: Oracle(Arc::new(Mutex::new(Resolved::NotKnown))),
        };
        node.kernel
            .attach("/run/netns/zt", 1, "veth-zt", &["10.0.0.200"]);
        node.kernel
            .attach("/run/netns/a", 11, "veth-a", &["10.0.0.4"]);
        node
    }

    /// With a proxy that was added, as in a cluster, by the shim.
    async fn ready() -> Self {
        let mut node = Self::new();
        node.want(intent("zt", Wanted::Proxy));
        let mut add = request("zt", "istio-system", "10.0.0.200");
        add.excluded = true;
        assert_eq!(node.service().add(add).await.unwrap(), AddOutcome::Proxy);
        node.listen().await;
        node
    }

    async fn listen(&self) {
        self.kernel.listen("/run/netns/zt", &[15001, 15006, 15008]);
        let mut status = self.capture.status();
        status.wait_for(|status| status.proxy.ready).await.unwrap();
    }

    fn want(&mut self, intent: Intent) {
        self.desired.pods.insert(intent.uid.clone(), intent);
        self.capture.set_desired(Arc::new(self.desired.clone()));
    }

    fn answer(&self, resolved: Resolved) {
        *self.oracle.0.lock().unwrap() = resolved;
    }

    fn service(&self) -> Service<Oracle> {
        self.service_with(OnUnknownPod::Deny)
    }

    fn service_with(&self, on_unknown_pod: OnUnknownPod) -> Service<Oracle> {
        let options = Options {
            on_unknown_pod,
            excluded_namespaces: BTreeSet::from(["kube-system".to_owned()]),
            add_deadline: Duration::from_secs(5),
        };
        Service::new(self.capture.clone(), self.oracle.clone(), options)
    }

    async fn add(&self, request: AddPodRequest) -> Result<AddOutcome, Status> {
        let answer = self.service().add_pod(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().outcome())
    }

    fn programmed(&self) -> usize {
        self.kernel.state().node.pods.len()
    }
}

fn a() -> AddPodRequest {
    request("a", "shop", "10.0.0.4")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_pod_is_captured_checked_and_deleted() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    assert_eq!(node.add(a()).await.unwrap(), AddOutcome::Captured);
    assert_eq!(node.programmed(), 1);
    let check = CheckPodRequest {
        sandbox: a().sandbox,
        interfaces: a().interfaces,
        addresses: a().addresses,
    };
    node.service().check_pod(Request::new(check)).await.unwrap();
    for _ in 0..2 {
        let del = DelPodRequest {
            sandbox: Some(Message {
                netns: String::new(),
                ..message("a", "shop")
            }),
        };
        node.service().del_pod(Request::new(del)).await.unwrap();
        assert_eq!(node.programmed(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_are_not_enrolled_pass() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Nothing));
    assert_eq!(node.add(a()).await.unwrap(), AddOutcome::Passed);
    let mut excluded = request("x", "anywhere", "10.0.0.9");
    excluded.excluded = true;
    assert_eq!(node.add(excluded).await.unwrap(), AddOutcome::Passed);
    let own = request("y", "kube-system", "10.0.0.9");
    assert_eq!(node.add(own).await.unwrap(), AddOutcome::Passed);
    let mut no_pod = a();
    no_pod.sandbox = Some(Message {
        pod_uid: String::new(),
        pod_namespace: String::new(),
        pod_name: String::new(),
        ..message("a", "")
    });
    assert_eq!(node.add(no_pod).await.unwrap(), AddOutcome::Passed);
    assert_eq!(node.programmed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_pod_passes_even_without_any_state() {
    let node = Node::new();
    let mut excluded = a();
    excluded.excluded = true;
    excluded.addresses = vec![Address {
        cidr: "nonsense".into(),
        interface: None,
    }];
    assert_eq!(node.add(excluded).await.unwrap(), AddOutcome::Passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_for_the_proxy_and_then_says_so() {
    let mut node = Node::ready().await;
    node.kernel.listen("/run/netns/zt", &[15001]);
    let mut status = node.capture.status();
    status.wait_for(|status| !status.proxy.ready).await.unwrap();
    node.want(intent("a", Wanted::Captured));
    let started = Clock::now();
    let refused = node.add(a()).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "not the node's own deadline"
    );
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused
            .message()
            .contains("does not listen on 15006, 15008"),
        "{refused}"
    );
    assert_eq!(node.programmed(), 0);
    let service = node.service();
    let mut patient = a();
    patient.deadline_ms = 10_000;
    let adding = tokio::spawn(async move { service.add(patient).await });
    sleep(Duration::from_millis(100)).await;
    node.listen().await;
    assert_eq!(adding.await.unwrap().unwrap(), AddOutcome::Captured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_ahead_of_its_event_is_asked_for() {
    let mut node = Node::ready().await;
    node.answer(Resolved::Enrolled(intent("a", Wanted::Captured)));
    assert_eq!(node.add(a()).await.unwrap(), AddOutcome::Captured);
    node.answer(Resolved::NotEnrolled(intent("b", Wanted::Nothing)));
    let b = request("b", "shop", "10.0.0.5");
    assert_eq!(node.add(b).await.unwrap(), AddOutcome::Passed);
    // The stream can be faster than the answer.
    node.answer(Resolved::NotKnown);
    let service = node.service();
    node.kernel
        .attach("/run/netns/c", 13, "veth-c", &["10.0.0.6"]);
    let adding = tokio::spawn(async move { service.add(request("c", "shop", "10.0.0.6")).await });
    sleep(Duration::from_millis(50)).await;
    node.want(intent("c", Wanted::Captured));
    assert_eq!(adding.await.unwrap().unwrap(), AddOutcome::Captured);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_pods_are_denied_or_let_through() {
    let node = Node::ready().await;
    for resolved in [
        Resolved::NotKnown,
        Resolved::NotYours,
        Resolved::Unreachable("no controller is connected".into()),
    ] {
        node.answer(resolved);
        let denied = node.add(a()).await.unwrap_err();
        assert_eq!(denied.code(), Code::Unavailable, "{denied}");
        let allowed = node.service_with(OnUnknownPod::Allow).add(a()).await;
        assert_eq!(allowed.unwrap(), AddOutcome::Passed);
    }
    assert_eq!(node.programmed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_yet_is_refused() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Unsupported));
    let refused = node.add(a()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused
            .message()
            .contains("it asks for ports to be left out")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_change_nothing() {
    let node = Node::ready().await;
    let mut bad = a();
    bad.sandbox = None;
    assert_eq!(
        node.add(bad).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let del = DelPodRequest { sandbox: None };
    let refused = node.service().del_pod(Request::new(del)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_result_concerns_pods_to_be_captured_only() {
    let mut node = Node::ready().await;
    let with = |cidr: &str| {
        let mut odd = a();
        odd.addresses[0].cidr = cidr.into();
        odd
    };
    let many = || {
        let mut many = a();
        many.interfaces = vec![many.interfaces[0].clone(); 5_000];
        many
    };
    for cidr in [
        "10.0.0.4",
        "0.0.0.0/0",
        "::ffff:10.0.0.4/128",
        "224.0.0.1/4",
    ] {
        node.want(intent("a", Wanted::Captured));
        let refused = node.add(with(cidr)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(cidr), "{refused}");
        node.want(intent("a", Wanted::Nothing));
        assert_eq!(node.add(with(cidr)).await.unwrap(), AddOutcome::Passed);
        node.capture.del("c-a".into(), String::new()).await;
    }
    node.want(intent("a", Wanted::Captured));
    let refused = node.add(many()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    node.want(intent("a", Wanted::Nothing));
    assert_eq!(node.add(many()).await.unwrap(), AddOutcome::Passed);
    assert_eq!(node.programmed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_are_no_namespace_are_refused() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    for (netns, code) in [
        ("/no/such/file", Code::FailedPrecondition),
        ("/run/netns/../netns/a", Code::InvalidArgument),
        ("run/netns/a", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let mut odd = a();
        odd.sandbox.as_mut().unwrap().netns = netns.into();
        let refused = node.add(odd).await.unwrap_err();
        assert_eq!(refused.code(), code, "{netns}: {refused}");
        assert!(refused.message().contains(netns), "{netns}: {refused}");
    }
    assert_eq!(node.programmed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_busy_answers_before_the_shim_gives_up() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    let mut status = node.capture.status();
    let known = |status: &Arc<crate::status::NodeStatus>| status.pods.contains_key(&uid("a"));
    status.wait_for(known).await.unwrap();
    let service = node.service();
    let kernel = node.kernel.clone();
    let (held, holds) = std::sync::mpsc::channel();
    let (goes_on, over) = std::sync::mpsc::channel::<()>();
    // The engine waits for its kernel meanwhile.
    let holder = std::thread::spawn(move || {
        let _state = kernel.state();
        held.send(()).unwrap();
        let _ = over.recv();
    });
    holds.recv().unwrap();
    let refused = service.add_pod(Request::new(a()));
    let refused = timeout(Duration::from_secs(4), refused).await.unwrap();
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("busy"), "{refused}");
    // The runtime then deletes the sandbox.
    drop(goes_on);
    holder.join().unwrap();
    node.capture.del("c-a".into(), "eth0".into()).await;
    assert_eq!(node.programmed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_what_the_agent_knows_anyway() {
    let ask = |node: &Node| {
        let service = node.service();
        async move { service.status(Request::new(StatusRequest {})).await }
    };
    // Fresh, without a state and a proxy, both of which come as pods.
    let mut node = Node::new();
    ask(&node).await.unwrap();
    node.want(intent("a", Wanted::Captured));
    ask(&node).await.unwrap();
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    node.add(a()).await.unwrap();
    // Captured pods stay so: nobody waits.
    node.kernel.change(|state| {
        state.findings = vec![sluice_kernel::model::Refusal {
            check: "ipvs",
            evidence: "kube-ipvs0 is there".into(),
            remedy: "run kube-proxy in another mode".into(),
        }];
    });
    node.capture.resync().await.unwrap();
    ask(&node).await.unwrap();
    node.kernel
        .attach("/run/netns/b", 12, "veth-b", &["10.0.0.5"]);
    node.want(intent("b", Wanted::Captured));
    let mut status = node.capture.status();
    let known = |status: &Arc<crate::status::NodeStatus>| status.pods.contains_key(&uid("b"));
    status.wait_for(known).await.unwrap();
    let refused = ask(&node).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for part in ["shop/b", "kube-ipvs0 is there", "run kube-proxy"] {
        assert!(refused.message().contains(part), "{refused}");
    }
    node.desired.leave = true;
    node.want(intent("b", Wanted::Captured));
    let mut status = node.capture.status();
    let leaves =
        |status: &Arc<crate::status::NodeStatus>| status.leaving != crate::status::Leaving::No;
    status.wait_for(leaves).await.unwrap();
    ask(&node).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_forgets_what_is_not_listed() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    node.add(a()).await.unwrap();
    let mut noted = request("n", "kube-system", "10.0.0.7");
    noted.excluded = true;
    node.add(noted).await.unwrap();
    let gc = |network: &str, valid: &[&str]| {
        let attachment = |name: &&str| sluice_proto::agent::v1::Attachment {
            container_id: format!("c-{name}"),
            ifname: "eth0".into(),
        };
        let request = GcRequest {
            network: network.into(),
            valid: valid.iter().map(attachment).collect(),
        };
        let service = node.service();
        async move {
            let answer = service.gc(Request::new(request)).await;
            answer.map(|answer| answer.into_inner().forgotten)
        }
    };
    assert_eq!(gc("net", &["a", "n", "zt", "x"]).await.unwrap(), 0);
    assert_eq!(gc("other", &[]).await.unwrap(), 0);
    assert_eq!(gc("", &[]).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(node.programmed(), 1);
    assert_eq!(gc("net", &["zt", "n"]).await.unwrap(), 1);
    assert_eq!(node.programmed(), 0);
    // Also what was only noted.
    assert_eq!(gc("net", &[]).await.unwrap(), 2);
    assert_eq!(gc("net", &[]).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_no_longer_wanted_passes_while_it_waits() {
    let mut node = Node::new();
    node.want(intent("a", Wanted::Captured));
    let service = node.service();
    let mut patient = a();
    patient.deadline_ms = 10_000;
    let adding = tokio::spawn(async move { service.add(patient).await });
    sleep(Duration::from_millis(100)).await;
    node.want(intent("a", Wanted::Nothing));
    assert_eq!(adding.await.unwrap().unwrap(), AddOutcome::Passed);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_of_the_shim_are_taken_over() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    node.kernel
        .attach("/run/netns/b", 12, "veth-b", &["10.0.0.5"]);
    assert_eq!(node.add(a()).await.unwrap(), AddOutcome::Captured);
    let path: PathBuf = node.run_dir.path().join("notes.jsonl");
    let lines = [
        sealed(r#"{"verb":"DEL","containerId":"c-a","ifname":"eth0""#),
        "broken\n".into(),
        sealed(concat!(
            r#"{"verb":"PASSED","containerId":"c-b","netns":"/run/netns/b","ifname":"eth0","#,
            r#""podUid":"b","podNamespace":"shop","podName":"b","#,
            r#""interfaces":[{"name":"veth-b","mac":"","sandbox":""}],"addresses":[{"cidr":"10.0.0.5/32"}]"#
        )),
    ];
    std::fs::write(&path, lines.concat()).unwrap();
    Notes::new(path.clone(), node.capture.clone())
        .take_over()
        .await;
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    assert_eq!(node.programmed(), 0);
    // Its intent has no address; the note has.
    node.want(intent("b", Wanted::Captured));
    let mut status = node.capture.status();
    let is = |status: &Arc<crate::status::NodeStatus>| {
        status.pods.get(&uid("b")).is_some_and(|pod| pod.steered)
    };
    status.wait_for(is).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_came_meanwhile_is_known_from_its_note() {
    let mut node = Node::new();
    node.kernel.listen("/run/netns/zt", &[15001, 15006, 15008]);
    let path: PathBuf = node.run_dir.path().join("notes.jsonl");
    let line = sealed(concat!(
        r#"{"verb":"PASSED","containerId":"c-zt","netns":"/run/netns/zt","ifname":"eth0","#,
        r#""podUid":"zt","podNamespace":"istio-system","podName":"zt","#,
        r#""interfaces":[{"name":"veth-zt","mac":"","sandbox":""}],"addresses":[{"cidr":"10.0.0.200/32"}]"#
    ));
    std::fs::write(&path, line).unwrap();
    Notes::new(path, node.capture.clone()).take_over().await;
    node.want(intent("zt", Wanted::Proxy));
    node.want(intent("a", Wanted::Captured));
    assert_eq!(node.add(a()).await.unwrap(), AddOutcome::Captured);
}

#[test]
fn an_add_ends_before_the_shim_gives_up() {
    let own = Duration::from_secs(30);
    assert_eq!(wait(0, own), own);
    assert_eq!(wait(10_000, own), Duration::from_millis(9_500));
    assert_eq!(wait(1_000, own), Duration::from_millis(900));
    assert_eq!(wait(50, own), Duration::ZERO);
    assert_eq!(wait(60_000, own), own);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_node_leaves_every_pod_passes() {
    let mut node = Node::ready().await;
    node.want(intent("a", Wanted::Captured));
    let add = || request("a", "shop", "10.0.0.4");
    assert_eq!(
        node.service().add(add()).await.unwrap(),
        AddOutcome::Captured
    );
    node.desired.leave = true;
    node.want(intent("a", Wanted::Nothing));
    assert_eq!(node.service().add(add()).await.unwrap(), AddOutcome::Passed);
    // Also one that nobody knows, and one that is still wanted.
    let stranger = request("b", "shop", "10.0.0.5");
    assert_eq!(
        node.service().add(stranger).await.unwrap(),
        AddOutcome::Passed
    );
    node.want(intent("a", Wanted::Captured));
    assert_eq!(node.service().add(add()).await.unwrap(), AddOutcome::Passed);
    let check = CheckPodRequest {
        sandbox: Some(message("a", "shop")),
        ..CheckPodRequest::default()
    };
    assert!(node.service().check(check).await.is_ok());
}
