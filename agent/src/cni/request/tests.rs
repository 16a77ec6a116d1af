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
        standalone: false,
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
fn of_several_links_on_the_host_it_is_the_last_before_the_pods_own() {
    let of = |interfaces: &[Interface]| {
        let sandbox = sandbox(Some(message()), interfaces, &[]).unwrap().unwrap();
        sandbox.host_link
    };
    let pods = interface("eth0", "/run/netns/x");
    let bridge = [interface("cni0", ""), interface("veth12", ""), pods.clone()];
    assert_eq!(of(&bridge).as_deref(), Some("veth12"));
    let limited = [interface("veth12", ""), pods.clone(), interface("bwp1", "")];
    assert_eq!(of(&limited).as_deref(), Some("veth12"));
    // Nothing says which: the route decides.
    let odd = [pods, interface("veth12", ""), interface("veth13", "")];
    assert_eq!(of(&odd), None);
    assert_eq!(of(&odd[1..]), None);
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
        refuse(|m| m.netns = "/proc/../proc/1/ns/net".into()),
        refuse(|m| m.netns = "/run/netns/a\0b".into()),
        refuse(|m| m.netns = "/".repeat(5000)),
        refuse(|m| m.pod_uid = "\u{202e}".into()),
        refuse(|m| m.pod_namespace = "kube-system\n".into()),
        refuse(|m| m.network = "a/b".into()),
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
        "CNI_NETNS",
        "CNI_NETNS",
        "CNI_NETNS",
        "K8S_POD_UID",
        "K8S_POD_NAMESPACE",
        "the name of the network",
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
        "224.0.0.1/4",
        "255.255.255.255/32",
        "::/0",
        "::1/128",
        "10.0.0.1/-1",
        "10.0.0.1/24/24",
        "010.0.0.1/24",
        "10.0.0.1%eth0/24",
        "\0",
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

#[test]
fn an_odd_result_is_told_apart_from_an_odd_sandbox() {
    let odd = [address("0.0.0.0/0", None)];
    let created = |message, addresses: &[Address]| created(Some(message), &[], addresses);
    let flawed = created(message(), &odd).unwrap().unwrap();
    assert!(matches!(flawed.flaw, Some(InvalidRequest::Address { .. })));
    assert!(flawed.sandbox.addresses.is_empty());
    let good = created(message(), &[address("10.0.0.1/32", None)]);
    assert_eq!(good.unwrap().unwrap().flaw, None);
    let nameless = Message {
        container_id: String::new(),
        ..message()
    };
    assert!(created(nameless, &odd).is_err());
}

#[test]
fn addresses_that_are_given_twice_count_once() {
    let interfaces = [interface("veth12", ""), interface("eth0", "/run/netns/x")];
    let addresses = [
        address("10.1.0.4/32", Some(1)),
        address("10.1.0.4/24", Some(1)),
        address("10.1.0.4/32", None),
        // Of an interface that is not there, and of the host.
        address("10.1.0.5/32", Some(7)),
        address("10.1.0.6/32", Some(0)),
    ];
    let sandbox = sandbox(Some(message()), &interfaces, &addresses);
    let expected = ["10.1.0.4", "10.1.0.5"].map(|text| text.parse().unwrap());
    assert_eq!(sandbox.unwrap().unwrap().addresses, expected.into());
}

fn attachment(container_id: &str, ifname: &str) -> Attachment {
    Attachment {
        container_id: container_id.into(),
        ifname: ifname.into(),
    }
}

#[test]
fn a_list_of_what_is_valid_is_believed_whole_or_not_at_all() {
    let request = |network: &str, valid: Vec<Attachment>| {
        let network = network.into();
        super::valid(GcRequest { network, valid })
    };
    let good = vec![attachment("a", "eth0"), attachment("a", "eth0")];
    let one = BTreeSet::from([("a".to_owned(), "eth0".to_owned())]);
    assert_eq!(request("net", good), Ok(("net".into(), one)));
    assert!(request("net", Vec::new()).is_ok());
    for network in ["", "-", "a/b", "a b", "\u{e4}", &"a".repeat(256)] {
        assert!(request(network, Vec::new()).is_err(), "{network}");
    }
    for (id, ifname) in [("", "eth0"), ("..", "eth0"), ("a", ""), ("a", "b/c")] {
        let list = vec![attachment("a", "eth0"), attachment(id, ifname)];
        assert!(request("net", list).is_err(), "{id} {ifname}");
    }
    let many = |count| vec![attachment("a", "eth0"); count];
    assert!(request("net", many(MAX_ATTACHMENTS)).is_ok());
    let error = request("net", many(MAX_ATTACHMENTS + 1)).unwrap_err();
    assert!(error.to_string().contains("at most 10000"), "{error}");
}

proptest! {
    #[test]
    fn nothing_panics(id in ".*", netns in ".*", ifname in ".*", uid in ".*", cidr in ".*") {
        let message = Message { container_id: id, netns, ifname, pod_uid: uid, ..message() };
        let interfaces = [interface(&cidr, "")];
        let _ = sandbox(Some(message), &interfaces, &[address(&cidr, Some(u32::MAX))]);
    }
}
