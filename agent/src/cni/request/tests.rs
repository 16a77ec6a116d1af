use proptest::prelude::*;

use super::*;

fn message() -> Message {
    Message {
        container_id: "0a1b".into(),
        netns: "/run/netns/x".into(),
        ifname: "eth0".into(),
        network: "net".into(),
        pod_uid: "8d0a".into(),
        pod_namespace: "shop".into(),
        pod_name: "cart-0".into(),
    }
}

fn interface(name: &str, sandbox: &str) -> Interface {
    Interface {
        name: name.into(),
        mac: String::new(),
        sandbox: sandbox.into(),
    }
}

fn address(cidr: &str, interface: Option<u32>) -> Address {
    Address {
        cidr: cidr.into(),
        interface,
    }
}

#[test]
fn a_ptp_result_names_the_hosts_side() {
    let interfaces = [interface("veth12", ""), interface("eth0", "/run/netns/x")];
    let addresses = [
        address("10.1.0.4/32", Some(1)),
        address("fd00::4/128", None),
    ];
    let sandbox = sandbox(Some(message()), &interfaces, &addresses)
        .unwrap()
        .unwrap();
    assert_eq!(sandbox.host_link.as_deref(), Some("veth12"));
    assert_eq!(
        sandbox.addresses,
        BTreeSet::from(["10.1.0.4".parse().unwrap(), "fd00::4".parse().unwrap()])
    );
}

#[test]
fn with_several_links_on_the_host_the_route_decides() {
    let interfaces = [
        interface("cni0", ""),
        interface("veth12", ""),
        interface("eth0", "/run/netns/x"),
    ];
    let sandbox = sandbox(Some(message()), &interfaces, &[]).unwrap().unwrap();
    assert_eq!(sandbox.host_link, None);
}

#[test]
fn a_sandbox_without_kubernetes_arguments_is_no_pod() {
    let message = Message {
        pod_uid: String::new(),
        pod_namespace: String::new(),
        pod_name: String::new(),
        ..message()
    };
    assert_eq!(sandbox(Some(message), &[], &[]), Ok(None));
}

#[test]
fn bad_fields_are_named() {
    let refuse = |change: fn(&mut Message)| {
        let mut message = message();
        change(&mut message);
        sandbox(Some(message), &[], &[]).unwrap_err().to_string()
    };
    let errors = [
        refuse(|m| m.container_id = "../etc".into()),
        refuse(|m| m.container_id = "a".repeat(200)),
        refuse(|m| m.netns = "run/netns".into()),
        refuse(|m| m.netns = "/run/../etc".into()),
        refuse(|m| m.netns = String::new()),
        refuse(|m| m.ifname = "eth0 up".into()),
        refuse(|m| m.pod_uid = "a/b".into()),
        refuse(|m| m.pod_namespace = String::new()),
        refuse(|m| m.pod_name = "x".repeat(300)),
    ];
    for (error, field) in errors.iter().zip([
        "CNI_CONTAINERID",
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_NETNS",
        "CNI_NETNS",
        "CNI_IFNAME",
        "K8S_POD_UID",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
    ]) {
        assert!(error.starts_with(field), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn bad_addresses_are_refused() {
    for bad in [
        "10.0.0.1",
        "10.0.0.1/33",
        "0.0.0.0/0",
        "127.0.0.1/8",
        "169.254.1.1/32",
        "fe80::1/64",
        "ff02::1/128",
        "::ffff:10.0.0.1/128",
        "x",
        "",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(
        sandbox(
            Some(message()),
            &[],
            &vec![address("10.0.0.1/32", None); 65]
        )
        .is_err()
    );
    assert!(sandbox(Some(message()), &vec![interface("a", ""); 65], &[]).is_err());
    assert!(sandbox(None, &[], &[]).is_err());
}

proptest! {
    #[test]
    fn nothing_panics(id in ".*", netns in ".*", ifname in ".*", uid in ".*", cidr in ".*") {
        let message = Message { container_id: id, netns, ifname, pod_uid: uid, ..message() };
        let interfaces = [interface(&cidr, "")];
        let _ = sandbox(Some(message), &interfaces, &[address(&cidr, Some(u32::MAX))]);
    }
}
