//! Who is captured, from the YAML to the packets.

use sluice_proto::capture::v1::PodState;
use sluice_tests::lab::{
    Lab,
    folder::{MODE, PodDocument},
    observe::Snapshot,
    pod::PodSpec,
    wait,
};

/// "Cannot be captured as asked", of our own codes.
const AS_ASKED: u64 = 100;
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

#[test]
fn what_is_not_supported_is_said_and_not_called_captured() {
    let mut lab = Lab::one_node();
    // A running pod starts to ask for it: it leaves, and is told why.
    let a2 = lab.pod("a2");
    let asking = a2.spec.clone().annotation(DNS_CAPTURE, "true");
    lab.folder.pod(&asking.document(&a2.addresses()));
    lab.wait_state("a2", PodState::Unsupported);
    let status = lab.agent("na").pod("a2").unwrap().status.unwrap();
    assert!(!status.steered, "{status:?}");
    assert!(status.message.contains(DNS_CAPTURE), "{status:?}");
    assert!(!lab.through_proxy("a2", "u1"));
    // A new one does not start, and nothing of it is left.
    let before = Snapshot::configuration(lab.ns("na"));
    let spec = PodSpec::new("a5", "na", 5, "shop").annotation(DNS_CAPTURE, "true");
    let error = lab.try_pod(spec).expect_err("the ADD must fail");
    assert_eq!(error.code, AS_ASKED, "{error:?}");
    assert!(format!("{error:?}").contains(DNS_CAPTURE), "{error:?}");
    before.assert_same(&Snapshot::configuration(lab.ns("na")), "after the refusal");
    assert!(lab.through_proxy("a1", "u1"));
}

#[test]
fn sidecars_and_opt_outs_are_passed_and_a_pod_may_ask_for_itself() {
    let mut lab = Lab::one_node();
    let in_shop = |name: &str, host| PodSpec::new(name, "na", host, "shop");
    let pods = [
        in_shop("s5", 5).annotation("sidecar.istio.io/status", "{}"),
        in_shop("d6", 6).annotation("ambient.istio.io/redirection", "disabled"),
        in_shop("n7", 7).opted_out(),
        // A tenant who labels a pod like the proxy is a tenant.
        PodSpec::new("f8", "na", 8, "plain").label("app", "ztunnel"),
    ];
    for spec in pods {
        let name = spec.name.clone();
        lab.add_pod(spec);
        assert!(!lab.through_proxy(&name, "u1"), "{name}");
    }
    lab.add_pod(PodSpec::new("o10", "na", 10, "plain").label(MODE, "ambient"));
    assert!(lab.through_proxy("o10", "u1"));
}

#[test]
fn a_static_pod_is_known_by_its_config_hash() {
    let lab = Lab::one_node();
    // The kubelet gives the runtime the hash as uid; its mirror has another.
    let mut spec = PodSpec::new("a5", "na", 5, "shop");
    let mirror = PodDocument {
        annotations: vec![(CONFIG_HASH.into(), "0a1b2c3d".into())],
        ..spec.document(&[])
    };
    lab.folder.pod(&mirror);
    wait::value("the agent to know a5", wait::LONG, || {
        lab.agent("na").pod("a5")
    });
    spec.uid = "0a1b2c3d".into();
    let (netns, chain, attachment) = lab.sandbox(&spec, true);
    let added = chain.add(lab.ns("na"), &attachment);
    assert!(added.is_ok(), "{added:?}");
    let pod = lab.agent("na").wait_state("a5", PodState::Captured);
    assert_eq!(pod.uid, mirror.uid);
    let to = lab.pod("u1").ip4;
    let answer = sluice_tests::lab::client::Call::to(to, 8080).hello(&netns, "static");
    assert!(answer.is_ok(), "{answer:?}");
    let from = lab.node("na").pod4(5);
    assert!(
        lab.proxy("na")
            .saw_outbound(0, from.into(), (to, 8080).into(), false)
    );
}
