//! The demonstration, in its order.

mod grpc;
mod traffic;

use std::time::Duration;

use sluice_tests::lab::{
    Lab,
    knobs::{Forward, Knobs},
    kube_proxy::Form,
    observe::Snapshot,
    pod::PodSpec,
    wait,
};

use super::report::Report;

const NODES: [&str; 2] = ["na", "nb"];
const PODS: [&str; 4] = ["a1", "a2", "b1", "b2"];
/// The demonstration waits this long for what it has caused.
const SOON: Duration = Duration::from_secs(15);

pub(crate) fn run(report: &mut Report) {
    report.step("building two nodes, a wire between them, and four pods in namespace `shop`");
    let mut lab = nodes_with_pods();
    let nodes_before = snapshots(&lab, &NODES, Snapshot::configuration);
    let pods_before = snapshots(&lab, &PODS, Snapshot::take);
    let identities = identities(&lab);
    report.prove(
        "before: pods talk in the clear",
        traffic::plain(&lab, "before"),
    );

    report.step("starting the controller on a folder of YAML, an agent and a proxy on each node");
    lab.start_all();
    report.step(&lab.proxy("na").kind());
    report.prove(
        "not labelled: still in the clear",
        traffic::plain(&lab, "unlabelled"),
    );

    report.step("labelling the namespace: istio.io/dataplane-mode: ambient");
    lab.folder.namespace("shop", true);
    let captured = wait::value("the pods to be captured", SOON, || {
        traffic::captured_yet(&lab)
    });
    report.step(&format!("captured: {captured}"));
    while_captured(report, &lab, &pods_before, &identities);

    report.step("taking pod a2 out of the mesh by its label");
    leave(report, &mut lab);

    report.step("removing everything: label, proxies, agents, controller");
    remove(&mut lab);
    report.prove(
        "after: pods talk in the clear",
        traffic::plain(&lab, "after"),
    );
    let same = compare(&lab, &nodes_before, Snapshot::configuration);
    report.prove("after: both nodes byte for byte as before", same);
    let same = compare(&lab, &pods_before, Snapshot::take);
    report.prove("after: every pod's namespace as before", same);
}

fn nodes_with_pods() -> Lab {
    let mut lab = Lab::new(2);
    for node in NODES {
        // Not a node of ours alone.
        Knobs {
            rp_filter: 1,
            forward: Forward::Kube,
            host_firewall: false,
        }
        .apply(lab.ns(node));
    }
    for (name, node, host) in [
        ("a1", "na", 2),
        ("a2", "na", 3),
        ("b1", "nb", 2),
        ("b2", "nb", 3),
    ] {
        lab.pod_before(PodSpec::new(name, node, host, "shop"));
    }
    lab.table_surroundings(Form::Iptables);
    lab.folder.namespace("shop", false);
    lab
}

fn while_captured(
    report: &mut Report,
    lab: &Lab,
    pods_before: &[(&'static str, Snapshot)],
    identities: &[String],
) {
    let same = identities == self::identities(lab);
    report.prove(
        "captured without a restart",
        same.then(|| format!("{} pods, the same namespaces and servers", PODS.len()))
            .ok_or_else(|| "a pod's namespace is another one".into()),
    );
    traffic::through_the_proxies(report, lab);
    report.prove(
        "a kubelet's probe passes, in both families",
        traffic::probes(lab),
    );
    report.prove("UDP and ICMP are not taken", traffic::datagrams(lab));
    let same = compare(lab, pods_before, Snapshot::take);
    report.prove("while captured: every pod's namespace as before", same);
    grpc::prove(report, lab);
}

fn leave(report: &mut Report, lab: &mut Lab) {
    let a2 = lab.pod("a2");
    let (addresses, spec) = (a2.addresses(), a2.spec.clone().opted_out());
    lab.folder.pod(&spec.document(&addresses));
    let left = wait::value("a2 to be released", SOON, || {
        traffic::left(lab, "a2", "left")
    });
    report.prove("a pod leaves and talks plainly", Ok(left));
    let still = traffic::hidden(lab, "a1", "a1-stays");
    report.prove("its neighbour stays captured", still);
}

fn remove(lab: &mut Lab) {
    lab.folder.namespace("shop", false);
    wait::value("a1 to be released", SOON, || {
        traffic::left(lab, "a1", "goodbye")
    });
    for node in NODES {
        lab.stop_proxy(node);
        lab.remove_pod(&Lab::proxy_name(node));
        lab.agent_mut(node).stop();
        lab.cleanup(node);
    }
    lab.stop_controller();
}

fn snapshots(
    lab: &Lab,
    names: &[&'static str],
    take: impl Fn(&sluice_tests::lab::netns::Netns) -> Snapshot,
) -> Vec<(&'static str, Snapshot)> {
    names
        .iter()
        .map(|name| (*name, take(lab.ns(name))))
        .collect()
}

fn compare(
    lab: &Lab,
    before: &[(&'static str, Snapshot)],
    take: impl Fn(&sluice_tests::lab::netns::Netns) -> Snapshot,
) -> Result<String, String> {
    let mut differences = Vec::new();
    for (name, was) in before {
        let now = was.differences(&take(lab.ns(name)));
        differences.extend(now.into_iter().map(|line| format!("{name}: {line}")));
    }
    if differences.is_empty() {
        return Ok("rules, routes, links, addresses, neighbours, sysctls, sockets".into());
    }
    Err(differences.join("; "))
}

/// What tells a pod's namespace from every other.
fn identities(lab: &Lab) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;

    let inode = |name: &&str| {
        let path = lab.ns(name).path();
        let file = std::fs::metadata(&path).expect("a namespace file");
        format!("{}:{}", path.display(), file.ino())
    };
    PODS.iter().map(inode).collect()
}
