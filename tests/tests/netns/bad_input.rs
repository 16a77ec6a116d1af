//! Bad input of every kind is refused, with its reason and without harm to
//! others.

use std::{fs, time::Duration};

use sluice_proto::{
    capture::v1::Reason,
    controller::v1::{ListNodesRequest, fleet_service_client::FleetServiceClient},
};
use sluice_tests::lab::{
    Lab, command, controller::PORT, folder::PodDocument, observe::Snapshot, pod::PodSpec, programs,
    rpc, wait,
};

/// Waits for a pod's failure and returns its message.
fn failure(lab: &Lab, name: &str, reason: Reason) -> String {
    let status = wait::value(&format!("{name}: {reason:?}"), wait::LONG, || {
        let status = lab.agent("na").pod(name)?.status.ok_or("no status")?;
        if status.reason() == reason {
            Ok(status)
        } else {
            Err(format!("{status:?}"))
        }
    });
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
    assert!(lab.through_proxy("a1", "u1"));
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
    let errors = wait::value("the controller to say so", wait::LONG, || {
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
const MALFORMED: [(&str, &str); 6] = [
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
