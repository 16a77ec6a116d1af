//! Who may call our services, and who is told no.

use std::{fs, os::unix::fs::PermissionsExt as _};

use futures_util::StreamExt as _;
use sluice_mtls::TlsFiles;
use sluice_proto::{
    agent::v1::{GetStatusRequest, ResyncRequest, node_service_client::NodeServiceClient},
    capture::v1::{
        Hello, ResolvePodRequest, StatusReport, StreamCaptureStateRequest,
        capture_discovery_service_client::CaptureDiscoveryServiceClient,
        stream_capture_state_request::Message,
    },
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use sluice_tests::lab::{Lab, controller::PORT, pod::PodSpec, programs, rpc, wait};
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
    wait::value("a state to resync to", wait::LONG, || {
        lab.agent("na").resync()
    });
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
    wait::value("the controller to know the pod", wait::LONG, || {
        match ask(lab.certificate("node", "nb"), spec.uid.clone()) {
            Ok(answer) if answer == "Enrolled" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(
        ask(lab.certificate("node", "na"), spec.uid),
        Ok("NotYours".into())
    );
    assert_eq!(
        ask(lab.certificate("node", "na"), "nobody".into()),
        Ok("NotKnown".into())
    );
}
