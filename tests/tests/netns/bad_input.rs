//! What must be refused, each with its reason and without harm to others.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use futures_util::StreamExt as _;
use sluice_mtls::TlsFiles;
use sluice_proto::{
    agent::v1::{GetStatusRequest, ResyncRequest, node_service_client::NodeServiceClient},
    capture::v1::{
        Hello, Reason, ResolvePodRequest, StatusReport, StreamCaptureStateRequest,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message,
    },
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use sluice_tests::lab::{
    Lab, command, controller::PORT, folder::PodDocument, observe::Snapshot, pod::PodSpec, programs,
    rpc, wait,
};
use tonic::Code;

#[test]
fn the_agents_socket_is_for_root_only() {
    let lab = Lab::one_node();
    let dir = lab.dir().join("for-everybody");
    fs::create_dir(&dir).unwrap();
    let program = dir.join("sluice-agent");
    fs::copy(programs::find("sluice-agent"), &program).unwrap();
    let open = |path: &std::path::Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let socket = lab.node("na").socket();
    let ask = || {
        let script = format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {} status --socket {}",
            program.display(),
            socket.display()
        );
        let output = lab.ns("na").output("sh", &["-c", &script]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&lab.node("na").run_dir()), 0o700);
    for path in [
        lab.dir(),
        dir.as_path(),
        program.as_path(),
        &lab.node("na").dir,
    ] {
        open(path);
    }
    let said = ask();
    assert!(said.to_lowercase().contains("denied"), "{said}");
    // Even when somebody has opened the doors: the caller's uid decides.
    fs::set_permissions(lab.node("na").run_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let said = ask();
    assert!(
        said.contains("root") || said.to_lowercase().contains("denied"),
        "{said}"
    );
    assert!(lab.agent("na").status().is_ok());
}

async fn fleet(files: TlsFiles) -> Result<usize, Code> {
    let channel = rpc::mtls(&format!("https://127.0.0.1:{PORT}"), files);
    let nodes = FleetServiceClient::new(channel)
        .list_nodes(ListNodesRequest {})
        .await;
    nodes
        .map(|nodes| nodes.into_inner().nodes.len())
        .map_err(|status| status.code())
}

#[test]
fn the_fleet_is_for_operators() {
    let lab = Lab::one_node();
    let ask = |files| rpc::inside(&lab.control, fleet(files));
    assert_eq!(ask(lab.certificate("operator", "alice")), Ok(1));
    assert_eq!(
        ask(lab.certificate("node", "na")),
        Err(Code::PermissionDenied)
    );
    assert_eq!(
        ask(lab.certificate("controller", "other")),
        Err(Code::PermissionDenied)
    );
    // Of another authority, and of another trust domain.
    let other = Lab::new(1);
    assert!(ask(other.certificate("operator", "alice")).is_err());
    // Without any certificate the handshake fails.
    let said = lab.control.output(
        "sh",
        &["-c", &format!("openssl s_client -connect 127.0.0.1:{PORT} -alpn h2 </dev/null 2>&1 | head -c 4000; printf x")],
    );
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(!said.contains("Verification: OK"), "{said}");
}

async fn node_service(endpoint: &str, files: TlsFiles) -> (Result<String, Code>, Result<(), Code>) {
    let channel = rpc::mtls(endpoint, files);
    let mut client = NodeServiceClient::new(channel);
    let status = client.get_status(GetStatusRequest {}).await;
    let resync = client.resync(ResyncRequest {}).await;
    (
        status
            .map(|status| status.into_inner().node_name)
            .map_err(|status| status.code()),
        resync.map(|_| ()).map_err(|status| status.code()),
    )
}

#[test]
fn the_agents_remote_service_is_for_operators() {
    let mut lab = Lab::new(1);
    lab.start_controller();
    lab.start_agent("na", &["--ops-listen", "0.0.0.0:15016"]);
    let ask = |files| {
        rpc::inside(
            &lab.control,
            node_service("https://172.30.1.2:15016", files),
        )
    };
    assert_eq!(
        ask(lab.certificate("operator", "alice")),
        (Ok("na".into()), Ok(()))
    );
    let denied = Err(Code::PermissionDenied);
    assert_eq!(
        ask(lab.certificate("node", "na")),
        (denied.clone(), Err(Code::PermissionDenied))
    );
    assert_eq!(ask(lab.certificate("controller", "lab")).0, denied);
}

async fn hello(files: TlsFiles, first: StreamCaptureStateRequest) -> Result<bool, Code> {
    let channel = rpc::mtls(&format!("https://127.0.0.1:{PORT}"), files);
    let mut client = CaptureDiscoveryServiceClient::new(channel);
    // Open until the answer is there.
    let stream = futures_util::stream::once(async { first }).chain(futures_util::stream::pending());
    let mut answer = client
        .stream_capture_state(stream)
        .await
        .map_err(|status| status.code())?
        .into_inner();
    answer
        .message()
        .await
        .map(|state| state.is_some())
        .map_err(|status| status.code())
}

#[test]
fn a_stream_is_for_the_node_of_the_certificate() {
    let mut lab = Lab::new(2);
    lab.enrol();
    lab.start_controller();
    let ask = |files, message| {
        let first = StreamCaptureStateRequest {
            message: Some(message),
        };
        rpc::inside(&lab.control, hello(files, first))
    };
    let named = |name: &str| {
        Message::Hello(Hello {
            node_name: name.into(),
            ..Hello::default()
        })
    };
    assert_eq!(ask(lab.certificate("node", "na"), named("na")), Ok(true));
    assert_eq!(ask(lab.certificate("node", "na"), named("")), Ok(true));
    assert_eq!(
        ask(lab.certificate("node", "na"), named("nb")),
        Err(Code::PermissionDenied)
    );
    assert_eq!(
        ask(lab.certificate("operator", "na"), named("na")),
        Err(Code::PermissionDenied)
    );
    let status = Message::Status(StatusReport::default());
    assert_eq!(
        ask(lab.certificate("node", "na"), status),
        Err(Code::InvalidArgument)
    );
    // Too large a message.
    let hello = Hello {
        agent_version: "x".repeat(32 << 20),
        ..Hello::default()
    };
    let result = ask(lab.certificate("node", "na"), Message::Hello(hello));
    assert!(result.is_err(), "{result:?}");
}

#[test]
fn one_node_cannot_ask_about_anothers_pod() {
    let mut lab = Lab::new(2);
    lab.enrol();
    lab.start_controller();
    let spec = PodSpec::new("b1", "nb", 2, "shop");
    lab.folder.pod(&spec.document(&[]));
    let ask = |files, uid: String| {
        rpc::inside(&lab.control, async move {
            let channel = rpc::mtls(&format!("https://127.0.0.1:{PORT}"), files);
            let request = ResolvePodRequest {
                uid,
                ..ResolvePodRequest::default()
            };
            let answer = CaptureDiscoveryServiceClient::new(channel)
                .resolve_pod(request)
                .await;
            answer
                .map(|answer| format!("{:?}", answer.into_inner().resolution()))
                .map_err(|status| status.code())
        })
    };
    wait::value(
        "the controller to know the pod",
        Duration::from_secs(5),
        || match ask(lab.certificate("node", "nb"), spec.uid.clone()) {
            Ok(answer) if answer == "Enrolled" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    assert_eq!(
        ask(lab.certificate("node", "na"), spec.uid),
        Ok("NotYours".into())
    );
    assert_eq!(
        ask(lab.certificate("node", "na"), "nobody".into()),
        Ok("NotKnown".into())
    );
}

/// Waits for a pod's failure and returns its message.
fn failure(lab: &Lab, name: &str, reason: Reason) -> String {
    let status = wait::value(
        &format!("{name}: {reason:?}"),
        Duration::from_secs(10),
        || {
            let status = lab.agent("na").pod(name)?.status.ok_or("no status")?;
            if status.reason() == reason {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            }
        },
    );
    assert!(!status.steered, "{status:?}");
    status.message
}

#[test]
fn one_pods_trouble_is_its_own() {
    let lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    // Its address is another's.
    let taken = PodSpec::new("taken", "na", 2, "shop");
    let a1 = lab.pod("a1").addresses();
    lab.folder.pod(&PodDocument {
        addresses: a1.clone(),
        ..taken.document(&[])
    });
    let said = failure(&lab, "taken", Reason::AddressTaken);
    assert!(
        said.contains(&a1[0].to_string()) || said.contains(&a1[1].to_string()),
        "{said}"
    );
    // Its interface is not there.
    let lost = PodSpec::new("lost", "na", 99, "shop");
    let address = lab.node("na").pod4(99);
    lab.folder.pod(&PodDocument {
        addresses: vec![address.into()],
        ..lost.document(&[])
    });
    let said = failure(&lab, "lost", Reason::NoInterface);
    assert!(said.contains(&address.to_string()), "{said}");

    before.assert_same(&Snapshot::configuration(lab.ns("na")), "after the failures");
    lab.wait_captured(&["a1", "a2"]);
    let to = lab.pod("u1").ip4;
    assert!(lab.hello("a1", to, 8080, "x").is_ok());
    assert!(
        lab.proxy("na")
            .saw_outbound(a1[0], (to, 8080).into(), false)
    );
}

#[test]
fn a_pod_whose_namespace_file_is_gone() {
    let mut lab = Lab::one_node();
    lab.add_pod(PodSpec::new("a5", "na", 5, "shop"));
    // Its namespace vanishes without a DEL, its link with it.
    lab.vanish("a5");
    let said = failure(&lab, "a5", Reason::NoInterface);
    assert!(!said.is_empty());
    assert!(lab.hello("a1", lab.pod("u1").ip4, 8080, "x").is_ok());
    // ADD of a namespace file that is none.
    let spec = PodSpec::new("a6", "na", 6, "shop");
    lab.folder.pod(&spec.document(&[]));
    let (_netns, mut chain, mut attachment) = lab.sandbox(&spec, true);
    let bogus = lab.dir().join("bogus");
    fs::write(&bogus, "").unwrap();
    attachment.netns = bogus.display().to_string();
    let shim = chain.plugins.pop().unwrap();
    chain.plugins = vec![with_result(shim, &lab)];
    let error = chain.add(lab.ns("na"), &attachment).unwrap_err();
    assert!(format!("{error:?}").contains("bogus"), "{error:?}");
}

/// The shim's configuration with the result of an earlier plugin in it.
fn with_result(mut shim: serde_json::Value, lab: &Lab) -> serde_json::Value {
    let node = lab.node("na");
    shim["prevResult"] = serde_json::json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "nowhere0", "mac": "02:00:00:00:00:01", "sandbox": "" }],
        "ips": [{ "address": format!("{}/24", node.pod4(6)) }],
    });
    shim
}

#[test]
fn wrong_documents_are_reported_and_the_last_good_one_stays() {
    let lab = Lab::one_node();
    lab.folder.write("broken.yaml", "kind: Pod\nmetadata: [\n");
    let errors = wait::value("the controller to say so", Duration::from_secs(5), || {
        let files = lab.certificate("operator", "alice");
        let errors = rpc::inside(&lab.control, async {
            let channel = rpc::mtls(&format!("https://127.0.0.1:{PORT}"), files);
            let answer = FleetServiceClient::new(channel)
                .list_nodes(ListNodesRequest {})
                .await;
            answer.map(|answer| answer.into_inner().source_errors)
        });
        match errors {
            Ok(errors) if !errors.is_empty() => Ok(errors),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(
        errors.iter().any(|error| error.contains("broken.yaml")),
        "{errors:?}"
    );
    // The good pod's file becomes wrong: the pod stays as it was.
    let a1 = &lab.pod("a1").spec;
    lab.folder.write(
        &format!("pod-shop-{}.yaml", a1.name),
        "kind: Pod\nspec: 7\n",
    );
    std::thread::sleep(Duration::from_millis(1500));
    let status = lab.agent("na").pod("a1").unwrap().status.unwrap();
    assert!(status.steered, "{status:?}");
}

/// Environments and standard inputs that no runtime may get away with.
const MALFORMED: [(&str, &str); 7] = [
    ("", "{}"),
    ("CNI_COMMAND=NONSENSE", "{}"),
    ("CNI_COMMAND=ADD", "{}"),
    (
        "CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=/x CNI_IFNAME=eth0",
        "not json",
    ),
    (
        "CNI_COMMAND=ADD CNI_CONTAINERID=../x CNI_NETNS=/x CNI_IFNAME=eth0",
        "{}",
    ),
    (
        "CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=/x CNI_IFNAME=eth0/..",
        "{}",
    ),
    (
        "CNI_COMMAND=ADD CNI_CONTAINERID=x CNI_NETNS=/x CNI_IFNAME=eth0",
        r#"{"cniVersion":"9.9.9","name":"x","type":"sluice-cni"}"#,
    ),
];

#[test]
fn malformed_cni_calls_change_nothing() {
    let lab = Lab::one_node();
    let shim = programs::find("sluice-cni");
    let before = Snapshot::configuration(lab.ns("na"));
    for (environment, stdin) in MALFORMED {
        let script = format!(
            "env -i {environment} {} <<'END'\n{stdin}\nEND",
            shim.display()
        );
        let output = lab.ns("na").output("sh", &["-c", &script]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{environment} {stdin}: {said}");
        let error: serde_json::Value = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("{environment} {stdin}: {error}: {said}"));
        assert!(
            error["code"].as_u64().is_some_and(|code| code > 0),
            "{said}"
        );
        assert!(
            error["msg"].as_str().is_some_and(|msg| !msg.is_empty()),
            "{said}"
        );
    }
    before.assert_same(
        &Snapshot::configuration(lab.ns("na")),
        "after malformed calls",
    );
    let version = lab.ns("na").output(
        "sh",
        &[
            "-c",
            &format!(
                "echo '{{\"cniVersion\":\"1.0.0\"}}' | CNI_COMMAND=VERSION {}",
                shim.display()
            ),
        ],
    );
    let version = command::stdout("VERSION", &version);
    assert!(
        version.contains("1.0.0") && version.contains("0.3.0"),
        "{version}"
    );
}
