//! The engine over a kernel made of values.

mod addition;
mod collection;
mod leaving;
mod races;
mod upkeep;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use sluice_kernel::model::{PodUid, ProxyPorts};
use tokio::time::timeout;

use crate::{
    capture::{
        AddError, Added, Capture, Journal, Options, Sandbox, Ticket, kernel::fake::FakeKernel,
        proxy::needed,
    },
    desired::{Desired, Intent, Origin, Wanted},
    status::{NodeStatus, PodState, PodStatus, Reason},
};

const SOON: Duration = Duration::from_secs(5);

/// A node with a proxy, and an engine on it.
struct Node {
    kernel: FakeKernel,
    run_dir: tempfile::TempDir,
    capture: Capture,
    desired: Desired,
}

fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

fn intent(name: &str, wanted: Wanted, addresses: &[&str]) -> Intent {
    Intent {
        namespace: "shop".into(),
        name: name.into(),
        hash: format!("hash of {name}"),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..Intent::bare(uid(name), wanted)
    }
}

fn sandbox(container: &str, pod: &str, addresses: &[&str]) -> Sandbox {
    Sandbox {
        container_id: container.into(),
        ifname: "eth0".into(),
        network: "net".into(),
        netns: format!("/run/netns/{container}").into(),
        pod_uid: pod.into(),
        namespace: "shop".into(),
        name: pod.into(),
        host_link: Some(format!("veth-{container}")),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        standalone: false,
    }
}

fn start(kernel: &FakeKernel, run_dir: &tempfile::TempDir) -> Capture {
    let journal = Journal::open_for_boot(run_dir.path(), "boot").unwrap();
    Capture::start(Options::default(), kernel.clone(), journal).unwrap()
}

impl Node {
    /// No state yet; the proxy's namespace is there, and known of once noted.
    fn new() -> Self {
        let kernel = FakeKernel::new();
        kernel.attach("/run/netns/zt", 1, "veth-zt", &["10.0.0.200"]);
        let ports: Vec<u16> = needed(ProxyPorts::default()).into_iter().collect();
        kernel.listen("/run/netns/zt", &ports);
        let run_dir = tempfile::tempdir().unwrap();
        let capture = start(&kernel, &run_dir);
        let desired = Desired {
            origin: Origin::Controller,
            revision: None,
            pods: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            leave: false,
        };
        Self {
            kernel,
            run_dir,
            capture,
            desired,
        }
    }

    /// With a proxy that listens.
    async fn ready() -> Self {
        let mut node = Self::new();
        node.capture
            .noted(sandbox("zt", "zt", &["10.0.0.200"]))
            .await;
        node.want(intent("zt", Wanted::Proxy, &["10.0.0.200"]));
        node.until(|status| status.proxy.ready).await;
        node
    }

    fn want(&mut self, intent: Intent) {
        self.desired.pods.insert(intent.uid.clone(), intent);
        self.send();
    }

    fn send(&self) {
        self.capture.set_desired(Arc::new(self.desired.clone()));
    }

    /// A pod as the runtime makes it: namespace, link, and an intent without
    /// addresses.
    fn pod(&mut self, name: &str, inode: u64, address: &str) -> Sandbox {
        let sandbox = sandbox(name, name, &[address]);
        self.kernel.attach(
            &format!("/run/netns/{name}"),
            inode,
            &format!("veth-{name}"),
            &[address],
        );
        self.want(intent(name, Wanted::Captured, &[]));
        sandbox
    }

    async fn add(&self, sandbox: &Sandbox) -> Result<Added, AddError> {
        self.capture
            .add(self.capture.ticket(), sandbox.clone(), None)
            .await
    }

    async fn added(&mut self, name: &str, inode: u64, address: &str) -> Sandbox {
        let sandbox = self.pod(name, inode, address);
        self.add(&sandbox).await.unwrap();
        sandbox
    }

    async fn until(&self, right: impl Fn(&NodeStatus) -> bool) -> Arc<NodeStatus> {
        let mut status = self.capture.status();
        let found = soon(status.wait_for(|status| right(status))).await;
        found.unwrap().clone()
    }

    async fn until_pod(&self, name: &str, state: PodState, reason: Option<Reason>) -> PodStatus {
        let uid = uid(name);
        let is = |pod: &PodStatus| (pod.state, pod.reason) == (state, reason);
        let status = self
            .until(|status| status.pods.get(&uid).is_some_and(is))
            .await;
        status.pods[&uid].clone()
    }

    fn programmed(&self) -> Vec<String> {
        let state = self.kernel.state();
        state.node.pods.keys().map(ToString::to_string).collect()
    }

    fn journal(&self) -> Vec<String> {
        let journal = Journal::open_for_boot(self.run_dir.path(), "boot").unwrap();
        let entries = journal.load().into_iter();
        entries.map(|entry| entry.sandbox.container_id).collect()
    }

    /// The agent is started again; the kernel stays as it is.
    fn restart(&mut self) {
        self.capture = start(&self.kernel, &self.run_dir);
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("it does not happen")
}
