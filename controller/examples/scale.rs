//! How the index bears a large cluster: `cargo run --release -p
//! sluice-controller --example scale -- [nodes] [pods]`. Prints; asserts
//! nothing.
#![expect(clippy::unwrap_used, reason = "an example stops where it stands")]

use std::{env, fs, sync::Arc, time::Instant};

use sluice_controller::{
    index::{Index, Update},
    model::{Interner, Namespace, Pod, Revision},
    select::Rules,
};

/// Pods of the namespace whose label flips.
const FLIPPED: usize = 10_000;

fn main() {
    let mut args = env::args().skip(1).map(|arg| arg.parse().unwrap());
    let (nodes, pods) = (args.next().unwrap_or(5_000), args.next().unwrap_or(150_000));
    let before = resident_kib();
    let mut names = Interner::default();
    let started = Instant::now();
    let mut index = Index::new(Rules::default());
    let all = (0..pods).map(|n| Update::Pod(Arc::new(pod(n, nodes, &mut names))));
    let changes = index.apply(all.collect(), Revision::default());
    println!(
        "{pods} pods on {} nodes taken in: {:?}",
        changes.len(),
        started.elapsed()
    );
    drop(changes);
    println!("resident: {} MiB", (resident_kib() - before) / 1024);

    let started = Instant::now();
    let changes = index.apply(vec![flip("ambient")], Revision::default());
    let touched: usize = changes.values().map(|change| change.pods.len()).sum();
    println!("label flip of {touched} pods: {:?}", started.elapsed());

    let mut took: Vec<_> = (0..1000)
        .map(|n| {
            let mut changed = pod(n * 7 % pods, nodes, &mut names);
            changed.completed = true;
            let started = Instant::now();
            index.apply(vec![Update::Pod(Arc::new(changed))], Revision::default());
            started.elapsed()
        })
        .collect();
    took.sort();
    println!("one pod changed: p50 {:?}, p99 {:?}", took[500], took[990]);

    let started = Instant::now();
    let told: usize = (0..nodes).map(|n| index.node(&node(n)).pods.len()).sum();
    println!(
        "snapshot for every node, {told} pods: {:?}",
        started.elapsed()
    );
}

fn pod(n: usize, nodes: usize, names: &mut Interner) -> Pod {
    let namespace = match n {
        n if n < FLIPPED => "flipped".to_owned(),
        n => format!("namespace-{}", n % 500),
    };
    Pod {
        uid: format!("00000000-0000-4000-8000-{n:012}").into(),
        namespace: names.get(&namespace),
        name: format!("deployment-7d9f8c6b5-{n:06}").into(),
        node: Some(names.get(&node(n % nodes))),
        service_account: names.get("default"),
        labels: [].into(),
        annotations: [].into(),
        host_network: false,
        completed: false,
        addresses: [std::net::Ipv4Addr::from_bits(0x0a00_0000 + n as u32).into()].into(),
        host_ports: [].into(),
        static_uid: None,
        version: 0.into(),
    }
}

fn node(n: usize) -> String {
    format!("node-{n:05}.example.internal")
}

fn flip(mode: &str) -> Update {
    Update::Namespace(Namespace {
        name: "flipped".into(),
        labels: [("istio.io/dataplane-mode".into(), mode.into())].into(),
    })
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
