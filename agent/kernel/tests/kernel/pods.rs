//! Pods that are not as they should be, and many pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use sluice_kernel::{
    Kernel, LocateError, PodError,
    model::{Link, Node, Pod},
};

use crate::lab::{Lab, uid};

#[test]
fn a_vanished_link_is_that_pods_failure_only() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    kernel.reconcile(&node).unwrap();
    lab.inside("node", "ip link del vtwo");
    let outcome = kernel.reconcile(&node).unwrap();
    assert!(outcome.pods[&uid("one")].is_ok());
    let error = outcome.pods[&uid("two")].as_ref().unwrap_err();
    assert!(matches!(error, PodError::LinkGone { .. }), "{error}");
    assert!(error.is_transient());
    assert!(!kernel.link_alive(&node.pods[&uid("two")].link).unwrap());
    assert!(kernel.link_alive(&node.pods[&uid("one")].link).unwrap());
    let error = kernel.capture(&node, &uid("two")).unwrap_err();
    assert!(matches!(error, PodError::LinkGone { .. }), "{error}");
}

#[test]
fn a_pod_on_a_link_that_never_was_does_not_stop_the_others() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let link = Link {
        index: 4_000_000,
        name: "nowhere".into(),
    };
    let addresses = BTreeSet::from(["10.91.0.50".parse().unwrap()]);
    node.pods.insert(uid("bad"), Pod { link, addresses });
    let outcome = lab.kernel().reconcile(&node).unwrap();
    assert!(outcome.pods[&uid("bad")].is_err());
    assert!(outcome.pods[&uid("one")].is_ok() && outcome.pods[&uid("two")].is_ok());
}

#[test]
fn two_pods_with_one_address() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let address = "10.91.0.2".parse().unwrap();
    node.pods
        .get_mut(&uid("two"))
        .unwrap()
        .addresses
        .insert(address);
    let outcome = lab.kernel().reconcile(&node).unwrap();
    assert!(outcome.pods[&uid("one")].is_ok());
    let error = outcome.pods[&uid("two")].as_ref().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("belongs to the captured pod one"),
        "{error}"
    );
}

#[test]
fn pods_are_located_by_name_or_by_route() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    let one = &node.pods[&uid("one")];
    assert_eq!(
        kernel.locate(Some("vone"), &one.addresses, None).unwrap(),
        one.link
    );
    assert_eq!(kernel.locate(None, &one.addresses, None).unwrap(), one.link);
    // Being captured makes no difference.
    kernel.reconcile(&node).unwrap();
    assert_eq!(kernel.locate(None, &one.addresses, None).unwrap(), one.link);

    let missing = kernel
        .locate(Some("nope"), &one.addresses, None)
        .unwrap_err();
    assert!(matches!(missing, LocateError::NotFound { .. }) && missing.is_transient());
    let unknown = kernel
        .locate(None, &BTreeSet::from([v4(77)]), None)
        .unwrap_err();
    assert!(matches!(unknown, LocateError::NoRoute { .. }) && unknown.is_transient());
    let wrong = kernel
        .locate(Some("vtwo"), &one.addresses, None)
        .unwrap_err();
    assert!(matches!(wrong, LocateError::NoHostRoute { .. }), "{wrong}");
    // The node's own address on the pod's link is not the pod's.
    let own = kernel
        .locate(None, &BTreeSet::from([v4(1)]), None)
        .unwrap_err();
    assert!(matches!(own, LocateError::NoHostRoute { .. }), "{own}");
    let none = kernel
        .locate(Some("vone"), &BTreeSet::new(), None)
        .unwrap_err();
    assert!(matches!(none, LocateError::NoAddress), "{none}");
}

#[test]
fn a_link_that_leads_into_another_namespace_is_not_the_pods() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    let (one, two) = (&node.pods[&uid("one")], &node.pods[&uid("two")]);
    let netns = |name: &str| Kernel::netns_id(&lab.path(name)).unwrap();
    for hint in [Some("vone"), None] {
        let its = Some(netns("one"));
        let found = kernel.locate(hint, &one.addresses, its.as_ref());
        assert_eq!(found.unwrap(), one.link);
        let others = Some(netns("two"));
        let error = kernel
            .locate(hint, &one.addresses, others.as_ref())
            .unwrap_err();
        assert!(matches!(error, LocateError::Elsewhere { .. }), "{error}");
        assert!(!error.is_transient());
    }
    let its = |pod: &Pod| BTreeMap::from([(pod.link.clone(), pod.addresses.clone())]);
    assert_eq!(kernel.attached(&netns("one")).unwrap(), its(one));
    // Being captured makes no difference.
    kernel.reconcile(&node).unwrap();
    assert_eq!(kernel.attached(&netns("two")).unwrap(), its(two));
    // Nothing leads into a namespace that nobody has attached.
    lab.inside("node", "ip link del vtwo");
    assert_eq!(kernel.attached(&netns("two")).unwrap(), BTreeMap::new());
}

#[test]
fn pods_on_a_bridge_and_other_links_are_refused() {
    let lab = Lab::new();
    for command in [
        "ip link add br0 type bridge",
        "ip link set br0 up",
        "ip addr add 10.92.0.1/24 dev br0",
        "ip link add port0 type veth peer name port1",
        "ip link set port0 master br0 up",
        "ip route add 10.93.0.2/32 dev br0",
    ] {
        lab.inside("node", command);
    }
    let mut kernel = lab.kernel();
    let address = |text: &str| BTreeSet::from([text.parse::<IpAddr>().unwrap()]);
    let port = kernel
        .locate(Some("port0"), &address("10.92.0.2"), None)
        .unwrap_err();
    assert!(matches!(port, LocateError::OnBridge { .. }), "{port}");
    assert!(port.to_string().contains("the bridge br0") && !port.is_transient());
    let over = kernel
        .locate(None, &address("10.92.0.2"), None)
        .unwrap_err();
    assert!(matches!(over, LocateError::OverBridge { .. }), "{over}");
    let bridge = kernel
        .locate(Some("br0"), &address("10.93.0.2"), None)
        .unwrap_err();
    assert!(matches!(bridge, LocateError::NotVeth { .. }), "{bridge}");
}

#[test]
fn a_pod_whose_packets_are_redirected_before_us_is_refused() {
    let mut lab = Lab::new();
    let node = lab.usual();
    let mut kernel = lab.kernel();
    let one = &node.pods[&uid("one")];
    // As the `bandwidth` plugin does for what a pod sends.
    for command in [
        "ip link add ifb0 type ifb",
        "ip link set ifb0 up",
        "tc qdisc add dev vone ingress",
    ] {
        lab.inside("node", command);
    }
    assert_eq!(kernel.locate(None, &one.addresses, None).unwrap(), one.link);
    lab.inside(
        "node",
        "tc filter add dev vone parent ffff: protocol all u32 match u32 0 0 \
         action mirred egress redirect dev ifb0",
    );
    for hint in [None, Some("vone")] {
        let error = kernel.locate(hint, &one.addresses, None).unwrap_err();
        assert!(matches!(error, LocateError::Redirected { .. }), "{error}");
        assert!(error.to_string().contains("ifb0") && !error.is_transient());
    }
    // A copy is no harm.
    lab.inside("node", "tc filter del dev vone ingress");
    lab.inside(
        "node",
        "tc filter add dev vone parent ffff: protocol all u32 match u32 0 0 \
         action mirred egress mirror dev ifb0",
    );
    assert_eq!(kernel.locate(None, &one.addresses, None).unwrap(), one.link);
    // Of what is sent to the pod nothing is missed.
    lab.inside("node", "tc qdisc del dev vone ingress");
    lab.inside(
        "node",
        "tc qdisc add dev vone root tbf rate 10mbit burst 32k latency 25ms",
    );
    assert_eq!(kernel.locate(None, &one.addresses, None).unwrap(), one.link);
}

#[test]
fn a_node_full_of_pods() {
    let mut lab = Lab::new();
    let mut node = lab.usual();
    let host = many(&lab, 110);
    node.pods.extend(host);
    let mut kernel = lab.kernel();
    let outcome = kernel.reconcile(&node).unwrap();
    assert_eq!(outcome.pods.len(), 112);
    assert!(
        outcome.pods.values().all(Result::is_ok),
        "{:?}",
        outcome.pods
    );

    let start = Instant::now();
    let mut restarted = lab.kernel();
    assert!(restarted.reconcile(&node).unwrap().repairs.is_empty());
    println!("restart to verified, 112 pods: {:?}", start.elapsed());

    println!(
        "capture of one more, median: {:?}",
        median(&mut kernel, &node)
    );
    let proxy = &node.proxy.as_ref().unwrap().netns;
    let removed = kernel.cleanup(Some(proxy)).unwrap();
    assert!(!removed.is_empty());
    assert_eq!(lab.ours("node"), "");
}

/// How long it takes to capture one pod of many that was let go before.
fn median(kernel: &mut Kernel, node: &Node) -> Duration {
    let mut without = node.clone();
    without.pods.remove(&uid("two"));
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            kernel.reconcile(&without).unwrap();
            let start = Instant::now();
            kernel.capture(node, &uid("two")).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Pods that are links and routes only.
fn many(lab: &Lab, count: u8) -> BTreeMap<sluice_kernel::model::PodUid, Pod> {
    let mut pods = BTreeMap::new();
    for number in 0..count {
        let name = format!("p{number}");
        let (four, six) = (format!("10.94.0.{number}"), format!("fd00:94::{number:x}"));
        lab.inside(
            "node",
            &format!("ip link add {name} type veth peer name q{number}"),
        );
        lab.inside("node", &format!("ip link set {name} up"));
        lab.inside("node", &format!("ip route add {four} dev {name}"));
        lab.inside("node", &format!("ip route add {six} dev {name}"));
        let addresses = BTreeSet::from([four.parse().unwrap(), six.parse().unwrap()]);
        let index = lab.inside("node", &format!("cat /sys/class/net/{name}/ifindex"));
        let index = index.trim().parse().unwrap();
        pods.insert(
            uid(&name),
            Pod {
                link: Link { index, name },
                addresses,
            },
        );
    }
    pods
}

fn v4(last: u8) -> IpAddr {
    [10, 91, 0, last].into()
}
