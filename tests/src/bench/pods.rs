//! The agent with a node full of pods: ADD, restart, and repairs.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
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

use super::{median, quantile, repair, sink::Sink, table::Table};
use crate::lab::{
    Lab,
    disk::Disk,
    pod::{Pod, PodSpec},
    rpc,
};

/// Pods on the node, as many as a kubelet allows by default.
pub const FULL: usize = 110;
const ROUNDS: usize = 5;
const RESTARTS: usize = 7;

/// A node with this many captured pods, a sink in place of the proxy, and the
/// agent's run directory in memory, as `/run` is on nodes.
pub fn node_with(pods: usize) -> (Lab, Sink, Disk) {
    let mut lab = Lab::new(1);
    let run = Disk::mount(&lab.node("na").run_dir(), 64 << 10);
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
    (lab, sink, run)
}

/// Measures ADD on a full node, a restart of its agent, and what it repairs.
pub fn run(table: &mut Table) {
    let (mut lab, _sink, _run) = node_with(FULL);
    let before = Inside::read(&lab);
    let outside = adds(&lab);
    let inside = Inside::read(&lab).since(&before);
    table.row(
        &format!("ADD, enrolled pod, {FULL} pods on the node, asked over the socket"),
        format!(
            "p50 {:.2} ms, p99 {:.2} ms",
            median(&outside),
            quantile(&outside, 0.99)
        ),
        format!("inside the agent {inside}"),
        "p50 ≤ 1 ms, p99 ≤ 5 ms",
    );
    let restarts: Vec<f64> = (0..RESTARTS).map(|_| restart(&mut lab)).collect();
    table.row(
        &format!("agent restarted, {FULL} pods: start of the process to all verified"),
        format!(
            "median {:.0} ms, worst {:.0} ms",
            median(&restarts),
            quantile(&restarts, 1.0)
        ),
        "seen from outside, polled".into(),
        "≤ 200 ms",
    );
    repair::run(&lab, table);
}

/// DEL and ADD of every pod in turn; milliseconds of each ADD.
fn adds(lab: &Lab) -> Vec<f64> {
    rpc::block(async {
        let channel = rpc::unix(&lab.node("na").socket())
            .await
            .expect("reach the agent");
        let mut client = CniServiceClient::new(channel);
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            for pod in lab.mesh_pods() {
                let sandbox = request(pod).sandbox;
                let gone = client.del_pod(DelPodRequest { sandbox }).await;
                gone.expect("DEL");
            }
            tokio::time::sleep(Duration::from_millis(700)).await;
            for pod in lab.mesh_pods() {
                let request = request(pod);
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
            standalone: false,
        }),
        interfaces: vec![
            Interface {
                name: pod.link.clone(),
                ..Interface::default()
            },
            Interface {
                name: "eth0".into(),
                sandbox: attachment.netns.clone(),
                ..Interface::default()
            },
        ],
        addresses: [format!("{}/24", pod.ip4), format!("{}/64", pod.ip6)]
            .into_iter()
            .map(|cidr| Address {
                cidr,
                interface: Some(1),
            })
            .collect(),
        excluded: false,
        deadline_ms: 10_000,
    }
}

/// The agent's own measure of its ADDs: from the call to the answer.
struct Inside {
    seconds: f64,
    count: f64,
    within_1ms: f64,
    within_5ms: f64,
}

impl Inside {
    fn read(lab: &Lab) -> Self {
        let metrics = lab.node("na").netns.enter(metrics).expect("read /metrics");
        let value = |start: &str, part: &str| -> f64 {
            metrics
                .lines()
                .filter(|line| line.starts_with(&format!("sluice_cni_duration_seconds_{start}")))
                .find(|line| line.contains("verb=\"add\"") && line.contains(part))
                .and_then(|line| line.split_whitespace().last()?.parse().ok())
                .unwrap_or_else(|| panic!("no sluice_cni_duration_seconds_{start} {part}"))
        };
        Self {
            seconds: value("sum", ""),
            count: value("count", ""),
            within_1ms: value("bucket", "le=\"0.001\""),
            within_5ms: value("bucket", "le=\"0.005\""),
        }
    }

    fn since(self, before: &Self) -> String {
        let count = self.count - before.count;
        format!(
            "mean {:.2} ms, {:.0} % within 1 ms, {:.1} % within 5 ms",
            (self.seconds - before.seconds) / count * 1e3,
            (self.within_1ms - before.within_1ms) / count * 100.0,
            (self.within_5ms - before.within_5ms) / count * 100.0,
        )
    }
}

fn metrics() -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 15014))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
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
