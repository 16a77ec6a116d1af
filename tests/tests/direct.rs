//! The kernel crate driven by the test itself.
#![expect(clippy::unwrap_used, reason = "test")]

use std::collections::BTreeMap;

use sluice_kernel::{
    Kernel,
    model::{Node, Pod, PodUid, Proxy, Settings},
};
use sluice_tests::lab::{Lab, knobs::{Forward, Knobs}, kube_proxy::Form, pod::PodSpec};

fn steer(lab: &Lab, node: &str) -> Kernel {
    let mut kernel = Kernel::open(Settings {
        node_netns: lab.ns(node).path(),
        ..Settings::default()
    })
    .unwrap();
    let link = |kernel: &mut Kernel, pod: &sluice_tests::lab::pod::Pod| {
        let addresses = pod.addresses().into_iter().collect();
        kernel.locate(Some(&pod.link), &addresses).unwrap()
    };
    let proxy = lab.pod(&Lab::proxy_name(node));
    let mut pods = BTreeMap::new();
    for pod in lab.mesh_pods().filter(|pod| pod.spec.node == node) {
        let link = link(&mut kernel, pod);
        let addresses = pod.addresses().into_iter().collect();
        pods.insert(PodUid::new(&pod.spec.uid).unwrap(), Pod { link, addresses });
    }
    let wanted = Node {
        proxy: Some(Proxy {
            netns: Kernel::netns_id(&proxy.netns.path()).unwrap(),
            link: link(&mut kernel, proxy),
            addresses: proxy.addresses().into_iter().collect(),
        }),
        pods,
        host_ports: [8081].into(),
    };
    let refusals = kernel.preflight(&wanted).unwrap();
    assert!(refusals.is_empty(), "{refusals:?}");
    let outcome = kernel.reconcile(&wanted).unwrap();
    for (uid, result) in &outcome.pods {
        assert!(result.is_ok(), "{uid}: {result:?}");
    }
    let again = kernel.reconcile(&wanted).unwrap();
    assert!(again.repairs.is_empty(), "{:?}", again.repairs);
    kernel
}

#[test]
fn table() {
    let mut lab = Lab::new(2);
    for pod in lab.table_pods() {
        lab.pod_before(pod);
    }
    for node in ["na", "nb"] {
        lab.pod_before(PodSpec::proxy(&Lab::proxy_name(node), node));
    }
    lab.table_surroundings(Form::Iptables);
    for node in ["na", "nb"] {
        lab.start_proxy(node);
    }
    let _kernels = ["na", "nb"].map(|node| steer(&lab, node));
    for rp_filter in [0, 1, 2] {
        for forward in [Forward::Open, Forward::Kube, Forward::Calico, Forward::Stateful] {
            let knobs = Knobs {
                rp_filter,
                forward,
                host_firewall: false,
            };
            for node in &lab.nodes {
                knobs.apply(&node.netns);
            }
            let mut rows = lab.v4().rows();
            rows.extend(lab.v6().rows());
            rows.push(lab.link_local_row());
            let problems: Vec<String> = rows.iter().filter_map(|row| row.problem(&lab)).collect();
            eprintln!("{knobs:?}: {} bad of {}\n{}", problems.len(), rows.len(), problems.join("\n"));
            for row in rows.iter().filter(|row| row.mesh) {
                let pod = lab.pod(row.from);
                let source = if row.to.is_ipv4() { pod.ip4.into() } else { pod.ip6.into() };
                if !lab.proxy(&pod.spec.node).saw_outbound(source, row.to, true) {
                    eprintln!("not in log: {row}");
                }
            }
        }
    }
}

#[test]
fn exact() {
    use sluice_tests::lab::observe::Snapshot;
    let mut lab = Lab::new(2);
    for pod in lab.table_pods() {
        lab.pod_before(pod);
    }
    for node in ["na", "nb"] {
        lab.pod_before(PodSpec::proxy(&Lab::proxy_name(node), node));
    }
    lab.table_surroundings(Form::Iptables);
    let look = |lab: &Lab| ["na", "za"].map(|n| Snapshot::configuration(lab.ns(n)));
    let before = look(&lab);
    let mut kernel = steer(&lab, "na");
    for (a, b) in before.iter().zip(look(&lab)) {
        for line in a.differences(&b) {
            if !(line.starts_with("sysctls") && line.contains("/sl-")) {
                eprintln!("{line}");
            }
        }
    }
    kernel.cleanup(Some(&Kernel::netns_id(&lab.ns("za").path()).unwrap())).unwrap();
    for (a, b) in before.iter().zip(look(&lab)) {
        eprintln!("AFTER {:#?}", a.differences(&b));
    }
}
