//! What tenants and other plugins write, meant to do harm: it is refused with a
//! reason, or means nothing, and nobody else notices.

use serde_json::{Value, json};
use sluice_tests::lab::{Lab, cni::CniError, observe::Snapshot, pod::PodSpec};

/// Codes of the specification, and ours.
const ENVIRONMENT: u64 = 4;
const CONFIG: u64 = 7;
const CANNOT_CAPTURE: u64 = 100;
const REFUSED: u64 = 102;
/// Said of what may still come right: the runtime tries again.
const TRY_AGAIN: u64 = 11;

/// ADD of an enrolled pod whose result is not what the plugin that attached it
/// said, and its DEL.
fn lied_to(lab: &Lab, lie: impl FnOnce(&mut Value)) -> Result<Value, CniError> {
    let spec = PodSpec::new("liar", "na", 66, "shop");
    lab.folder.pod(&spec.document(&[]));
    let (_netns, chain, attachment) = lab.sandbox(&spec, true);
    let node = lab.ns("na");
    let (mut attach, mut ours) = (chain.clone(), chain.clone());
    ours.plugins = attach.plugins.split_off(1);
    let mut result = attach.add(node, &attachment).expect("ptp attaches it");
    lie(&mut result);
    ours.plugins[0]["prevResult"] = result;
    let added = ours.add(node, &attachment);
    chain.del(node, &attachment).expect("DEL always succeeds");
    lab.folder.remove_pod(&spec.document(&[]));
    added
}

#[test]
fn a_result_that_names_what_is_not_the_pods_takes_nothing_of_others() {
    let lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    let (a1, u1, node) = (lab.pod("a1"), lab.pod("u1"), lab.node("na"));
    let gateway = "10.91.1.1".to_owned();
    let lies = [
        ("a captured pod's", a1.ip4.to_string(), None),
        (
            "a captured pod's, at its link",
            a1.ip4.to_string(),
            Some(a1.link.clone()),
        ),
        (
            "a captured pod's in IPv6, at its link",
            a1.ip6.to_string(),
            Some(a1.link.clone()),
        ),
        ("an uncaptured pod's", u1.ip4.to_string(), None),
        (
            "an uncaptured pod's, at its link",
            u1.ip4.to_string(),
            Some(u1.link.clone()),
        ),
        (
            "an uncaptured pod's in IPv6, at its link",
            u1.ip6.to_string(),
            Some(u1.link.clone()),
        ),
        ("the node's", node.wire4().to_string(), None),
        ("the node's in IPv6", node.wire6().to_string(), None),
        ("the pod's gateway", gateway, None),
        ("the controller's", "172.30.1.1".into(), None),
        ("somebody's far away", "198.51.100.7".into(), None),
        (
            "a link that is none of a pod",
            u1.ip4.to_string(),
            Some("lo".into()),
        ),
        (
            "another link, to the controller",
            "172.30.1.1".into(),
            Some("mg1".into()),
        ),
    ];
    for (what, address, link) in lies {
        let prefix = if address.contains(':') { 64 } else { 24 };
        let added = lied_to(&lab, |result| {
            result["ips"] = json!([{ "address": format!("{address}/{prefix}"), "interface": 2 }]);
            if let Some(link) = link {
                result["interfaces"][0]["name"] = json!(link);
            }
        });
        let error = added.expect_err(what);
        assert_eq!(error.plugin, "sluice-cni", "{what}: {error:?}");
        let codes = [CANNOT_CAPTURE, REFUSED, TRY_AGAIN];
        assert!(codes.contains(&error.code), "{what}: {error:?}");
        assert!(error.msg.len() > 20, "{what}: {error:?}");
        before.assert_same(&Snapshot::configuration(lab.ns("na")), what);
    }
    assert!(lab.through_proxy("a1", "u1"));
    assert!(lab.hello("u1", lab.pod("a2").ip4, 8080, "still").is_ok());
}

#[test]
fn a_result_that_makes_no_sense_is_refused() {
    let lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    let many: Vec<Value> = (0..100_000)
        .map(|_| json!({ "address": "10.91.1.66/24" }))
        .collect();
    let lies: [(&str, Value); 11] = [
        ("everybody", json!([{ "address": "0.0.0.0/0" }])),
        ("everybody in IPv6", json!([{ "address": "::/0" }])),
        ("loopback", json!([{ "address": "127.0.0.1/8" }])),
        ("multicast", json!([{ "address": "224.0.0.1/4" }])),
        ("broadcast", json!([{ "address": "255.255.255.255/32" }])),
        ("link-local", json!([{ "address": "fe80::1/64" }])),
        ("mapped", json!([{ "address": "::ffff:10.91.1.2/128" }])),
        (
            "no address",
            json!([{ "address": "10.91.1.66/24; nft flush ruleset" }]),
        ),
        ("nothing", json!([])),
        ("far too many", json!(many)),
        (
            "an interface that is not there",
            json!([{ "address": "$(reboot)", "interface": 4_000_000_000_u32 }]),
        ),
    ];
    for (what, addresses) in lies {
        let error = lied_to(&lab, |result| result["ips"] = addresses).expect_err(what);
        assert_eq!(error.plugin, "sluice-cni", "{what}: {error:?}");
        let codes = [CONFIG, CANNOT_CAPTURE, 6];
        assert!(codes.contains(&error.code), "{what}: {error:?}");
        assert!(error.msg.len() + error.details.len() < 4096, "{what}");
        before.assert_same(&Snapshot::configuration(lab.ns("na")), what);
    }
    let named = |name: &str| lied_to(&lab, |result| result["interfaces"][0]["name"] = json!(name));
    for name in ["../../x", "a b", "x\n", &"l".repeat(100_000)] {
        let error = named(name).expect_err("no link can have this name");
        assert_eq!(error.plugin, "sluice-cni", "{error:?}");
        before.assert_same(&Snapshot::configuration(lab.ns("na")), name);
    }
    // One that could be, but is not there: the pod's own is found all the same.
    assert!(named("nft;flush").is_ok());
    before.assert_same(&Snapshot::configuration(lab.ns("na")), "nft;flush");
    assert!(lab.through_proxy("a1", "u1"));
}

/// Arguments of a call, and with which code they are refused.
fn arguments() -> Vec<(String, u64)> {
    let long = "n".repeat(100_000);
    vec![
        (
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_NAME=b".to_owned(),
            ENVIRONMENT,
        ),
        (
            "K8S_POD_NAMESPACE=plain;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=b".into(),
            ENVIRONMENT,
        ),
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME".into(), ENVIRONMENT),
        (
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;X=1".into(),
            ENVIRONMENT,
        ),
        (
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;IgnoreUnknown=maybe".into(),
            ENVIRONMENT,
        ),
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=../../x".into(), CONFIG),
        ("K8S_POD_NAMESPACE=../journal;K8S_POD_NAME=a".into(), CONFIG),
        (
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a;K8S_POD_UID=../../../etc/passwd".into(),
            CONFIG,
        ),
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=a\nb".into(), CONFIG),
        (
            "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=$(reboot)".into(),
            CONFIG,
        ),
        ("K8S_POD_NAMESPACE=shop".into(), CONFIG),
        ("K8S_POD_NAME=a".into(), CONFIG),
        (
            format!("K8S_POD_NAMESPACE=shop;K8S_POD_NAME={long}"),
            CONFIG,
        ),
    ]
}

#[test]
fn arguments_that_name_no_pod_are_refused() {
    let lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    let remembered = lab.footprint("na");
    for (arguments, code) in arguments() {
        let shown: String = arguments.chars().take(80).collect();
        let spec = PodSpec::new("hostile", "na", 67, "shop");
        let (_netns, chain, mut attachment) = lab.sandbox(&spec, true);
        let node = lab.ns("na");
        let (mut attach, mut ours) = (chain.clone(), chain.clone());
        ours.plugins = attach.plugins.split_off(1);
        let result = attach.add(node, &attachment).expect("ptp attaches it");
        ours.plugins[0]["prevResult"] = result;
        let good = std::mem::replace(&mut attachment.args, arguments);
        let error = ours.add(node, &attachment).expect_err(&shown);
        assert_eq!(
            (error.plugin.as_str(), error.code),
            ("sluice-cni", code),
            "{shown}: {error:?}"
        );
        assert!(
            error.msg.len() + error.details.len() < 4096,
            "{shown}: {error:?}"
        );
        attachment.args = good;
        chain.del(node, &attachment).expect("DEL always succeeds");
        before.assert_same(&Snapshot::configuration(lab.ns("na")), &shown);
    }
    let files = remembered.differences(&lab.footprint("na"));
    let files: Vec<_> = files
        .iter()
        .filter(|one| one.starts_with("files"))
        .collect();
    assert!(files.is_empty(), "{files:?}");
}

/// What a tenant may write into an annotation's value.
fn values() -> [String; 6] {
    [
        "\"; nft flush ruleset; #".into(),
        "$(reboot)`reboot`&&|;\\".into(),
        "eth1\n}\ntable inet evil { }\n".into(),
        "} chain x { type nat hook output priority 0; }".into(),
        (0..100_000).map(|port| format!("{port},")).collect(),
        "\u{0}\u{1b}[31m\u{202e}".into(),
    ]
}

#[test]
fn annotations_reach_neither_a_shell_nor_the_kernel() {
    let mut lab = Lab::one_node();
    let before = Snapshot::configuration(lab.ns("na"));
    for (number, value) in values().iter().enumerate() {
        // They ask for what is not there: the pod is refused, with the key.
        for key in [
            "istio.io/reroute-virtual-interfaces",
            "sluice.dev/exclude-interfaces",
        ] {
            let spec = PodSpec::new(&format!("asks{number}"), "na", 70, "shop");
            let error = lab
                .try_pod(spec.clone().annotation(key, value))
                .expect_err(key);
            lab.folder.remove_pod(&spec.document(&[]));
            assert_eq!(
                (error.plugin.as_str(), error.code),
                ("sluice-cni", CANNOT_CAPTURE),
                "{error:?}"
            );
            assert!(error.msg.contains(key), "{error:?}");
            assert!(!error.msg.contains(value.as_str()), "{error:?}");
            before.assert_same(&Snapshot::configuration(lab.ns("na")), key);
        }
        // They mean nothing here, or are not what they would have to be.
        let mut spec = PodSpec::new(&format!("says{number}"), "na", 5, "shop");
        for key in [
            "traffic.sidecar.istio.io/excludeInterfaces",
            "ambient.istio.io/bypass-inbound-capture",
            "ambient.istio.io/dns-capture",
            "kubernetes.io/ingress-bandwidth",
        ] {
            spec = spec.annotation(key, value);
        }
        let name = spec.name.clone();
        lab.add_pod(spec);
        assert!(lab.through_proxy(&name, "u1"), "{value:.40?}");
        lab.remove_pod(&name);
        before.assert_same(&Snapshot::configuration(lab.ns("na")), "after its DEL");
    }
    lab.wait_captured(&["a1", "a2"]);
}
