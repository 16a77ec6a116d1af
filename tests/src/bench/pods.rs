//! The agent with a node full of pods: ADD, and restart.

use std::{
    thread,
    time::{Duration, Instant},
};

use sluice_proto::{
    agent::v1::{
        AddOutcome, AddPodRequest, Address, DelPodRequest, Interface, Sandbox,
        cni_service_client::CniServiceClient,
    },
    capture::v1::PodState,
};

use super::{median, quantile, sink::Sink, table::Table};
use crate::lab::{
    Lab,
    pod::{Pod, PodSpec},
    rpc,
};

/// Pods on the node, as many as a kubelet allows by default.
pub const FULL: usize = 110;
const ROUNDS: usize = 5;
const RESTARTS: usize = 7;

/// A node with this many captured pods, and a sink in place of the proxy.
pub fn node_with(pods: usize) -> (Lab, Sink) {
    let mut lab = Lab::new(1);
    lab.enrol();
    lab.start_controller();
    lab.start_agent("na", &[]);
    lab.add_pod(PodSpec::proxy("za", "na"));
    let sink = Sink::start(&lab.pod("za").netns);
    let names: Vec<String> = (1..=pods).map(|number| format!("p{number}")).collect();
    for (name, host) in names.iter().zip(20..) {
        lab.add_pod(PodSpec::new(name, "na", host, "shop"));
    }
    lab.wait_captured(&names.iter().map(String::as_str).collect::<Vec<_>>());
    (lab, sink)
}

/// Measures ADD on a full node, and a restart of its agent.
pub fn run(table: &mut Table) {
    let (mut lab, _sink) = node_with(FULL);
    let outside = adds(&lab);
    let inside = scrape(&lab);
    table.row(
        &format!("ADD, enrolled pod, {FULL} pods on the node, asked over the socket"),
        format!("p50 {:.2} ms, p99 {:.2} ms", median(&outside), quantile(&outside, 0.99)),
        format!("inside the agent {inside}"),
        "p50 ≤ 1 ms, p99 ≤ 5 ms",
    );
    let restarts: Vec<f64> = (0..RESTARTS).map(|_| restart(&mut lab)).collect();
    table.row(
        &format!("agent restarted, {FULL} pods: start of the process to all verified"),
        format!("median {:.0} ms, worst {:.0} ms", median(&restarts), quantile(&restarts, 1.0)),
        "seen from outside, polled".into(),
        "≤ 200 ms",
    );
}

/// DEL and ADD of every pod in turn; milliseconds of each ADD.
fn adds(lab: &Lab) -> Vec<f64> {
    rpc::block(async {
        let channel = rpc::unix(&lab.node("na").socket()).await.expect("reach the agent");
        let mut client = CniServiceClient::new(channel);
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            for pod in lab.mesh_pods() {
                let request = request(pod);
                let sandbox = request.sandbox.clone();
                let gone = client.del_pod(DelPodRequest { sandbox }).await;
                gone.expect("DEL");
                let start = Instant::now();
                let added = client.add_pod(request).await.expect("ADD").into_inner();
                samples.push(start.elapsed().as_secs_f64() * 1e3);
                assert_eq!(added.outcome(), AddOutcome::Captured);
            }
        }
        samples
    })
}

fn request(pod: &Pod) -> AddPodRequest {
    let attachment = &pod.attachment;
    AddPodRequest {
        sandbox: Some(Sandbox {
            container_id: attachment.container_id.clone(),
            netns: attachment.netns.clone(),
            ifname: attachment.ifname.clone(),
            network: pod.chain.name.clone(),
            pod_uid: pod.spec.uid.clone(),
            pod_namespace: pod.spec.namespace.clone(),
            pod_name: pod.spec.name.clone(),
        }),
        interfaces: vec![
            Interface { name: pod.link.clone(), ..Interface::default() },
            Interface {
                name: "eth0".into(),
                sandbox: attachment.netns.clone(),
                ..Interface::default()
            },
        ],
        addresses: [format!("{}/24", pod.ip4), format!("{}/64", pod.ip6)]
            .into_iter()
            .map(|cidr| Address { cidr, interface: Some(1) })
            .collect(),
        excluded: false,
        deadline_ms: 10_000,
    }
}

/// The agent's own measure of ADD.
fn scrape(lab: &Lab) -> String {
    let metrics = lab.node("na").netns.sh("exec 3<>/dev/tcp/127.0.0.1/15014; \
        printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    let lines: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("sluice_cni_duration_seconds") && line.contains("ADD"))
        .collect();
    let value = |part: &str| {
        lines
            .iter()
            .find(|line| line.contains(part))
            .and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok())
    };
    match (value("quantile=\"0.5\""), value("quantile=\"0.99\"")) {
        (Some(p50), Some(p99)) => format!("p50 {:.2} ms, p99 {:.2} ms", p50 * 1e3, p99 * 1e3),
        _ => match (value("_sum"), value("_count")) {
            (Some(sum), Some(count)) => format!("mean {:.2} ms", sum / count * 1e3),
            _ => "not found in /metrics".into(),
        },
    }
}

/// Milliseconds from the start of the process until every pod is captured again.
fn restart(lab: &mut Lab) -> f64 {
    lab.agent_mut("na").stop();
    let start = Instant::now();
    lab.agent_mut("na").launch();
    let limit = Duration::from_secs(20);
    loop {
        let captured = lab.agent("na").status().ok().map(|status| {
            let of = |state| status.pods.iter().find(|count| count.state() == state);
            of(PodState::Captured).map_or(0, |count| count.count as usize)
        });
        if captured == Some(FULL) {
            return start.elapsed().as_secs_f64() * 1e3;
        }
        assert!(start.elapsed() < limit, "{captured:?} of {FULL} captured");
        thread::sleep(Duration::from_millis(2));
    }
}
