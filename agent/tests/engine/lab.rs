//! A node of network namespaces, with an engine on it. Goes with the value.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use sluice_agent::{
    capture::{
        AddError, Added, Capture, Journal, Options, Sandbox,
        search::{Find, HostFind},
    },
    desired::{Desired, Intent, Origin, Wanted},
    status::{NodeStatus, PodState, PodStatus, Reason},
};
use sluice_kernel::{
    Kernel,
    model::{PodUid, Settings},
};
use tokio::time::timeout;

static NEXT: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Node {
    name: String,
    namespaces: Vec<String>,
    listeners: BTreeMap<String, Vec<TcpListener>>,
    run_dir: tempfile::TempDir,
    /// Where proxies are looked for: `/proc`, and where namespaces are bound.
    search: Option<(PathBuf, Vec<PathBuf>)>,
    pub(crate) capture: Capture,
    desired: Desired,
}

pub(crate) fn uid(name: &str) -> PodUid {
    PodUid::new(name).unwrap()
}

impl Node {
    pub(crate) fn new() -> Self {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sle{}-{next}", std::process::id());
        execute(&format!("ip netns add {name}-node")).unwrap();
        let run_dir = tempfile::tempdir().unwrap();
        let capture = start(&name, &run_dir, None);
        let node = Self {
            name,
            namespaces: vec!["node".into()],
            listeners: BTreeMap::new(),
            run_dir,
            search: None,
            capture,
            desired: Desired {
                origin: Origin::Controller,
                revision: None,
                pods: BTreeMap::new(),
                namespaces: BTreeMap::new(),
                leave: false,
            },
        };
        node.inside("node", "ip link set lo up");
        node.inside("node", "sysctl -qw net.ipv4.ip_forward=1");
        node.inside("node", "sysctl -qw net.ipv6.conf.all.forwarding=1");
        node
    }

    /// Started again, it looks for proxies there.
    pub(crate) fn search(&mut self, proc_dir: PathBuf, bound: Vec<PathBuf>) {
        self.search = Some((proc_dir, bound));
        self.restart();
    }

    /// A proxy that listens, and that nobody tells of.
    pub(crate) fn proxy_before(&mut self, name: &str, n: u8) -> Sandbox {
        let sandbox = self.attach(name, n);
        let path = self.path(name);
        let listeners = std::thread::spawn(move || listen(&path)).join().unwrap();
        self.listeners.insert(name.into(), listeners);
        sandbox
    }

    /// A proxy that listens, noted as the shim would.
    pub(crate) async fn proxy(&mut self, name: &str, n: u8) {
        let sandbox = self.proxy_before(name, n);
        self.capture.noted(sandbox).await;
        self.want(name, Wanted::Proxy, &[]);
        let proxy = uid(name);
        self.until(|status| status.proxy.ready && status.proxy.pod_uid.as_ref() == Some(&proxy))
            .await;
    }

    pub(crate) fn silence(&mut self, name: &str) {
        self.listeners.remove(name);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.listeners.remove(name);
        self.namespaces.retain(|other| other != name);
        execute(&format!("ip netns del {}-{name}", self.name)).unwrap();
    }

    /// A pod's sandbox as the `ptp` plugin makes it.
    pub(crate) fn attach(&mut self, name: &str, n: u8) -> Sandbox {
        let (node, own) = (
            format!("{}-node", self.name),
            format!("{}-{name}", self.name),
        );
        let host = format!("v{name}");
        execute(&format!("ip netns add {own}")).unwrap();
        self.namespaces.push(name.into());
        let addresses = [format!("10.93.0.{n}"), format!("fd93::{n}")];
        let script = [
            format!("ip link add {host} netns {node} type veth peer name eth0 netns {own}"),
            format!("ip -n {node} addr add 10.93.0.1/32 dev {host}"),
            format!("ip -n {node} addr add fd93:1::1/128 dev {host} nodad"),
            format!("ip -n {node} link set {host} up"),
            format!("ip -n {own} link set eth0 up"),
            format!("ip -n {own} link set lo up"),
            format!("ip -n {own} addr add {}/32 dev eth0", addresses[0]),
            format!("ip -n {own} addr add {}/128 dev eth0 nodad", addresses[1]),
            format!("ip -n {own} route add 10.93.0.1 dev eth0"),
            format!("ip -n {own} route add default via 10.93.0.1 dev eth0"),
            format!("ip -n {own} route add fd93:1::1 dev eth0"),
            format!("ip -n {own} route add default via fd93:1::1 dev eth0"),
            format!("ip -n {node} route add {}/32 dev {host}", addresses[0]),
            format!("ip -n {node} route add {}/128 dev {host}", addresses[1]),
        ];
        for command in script {
            execute(&command).unwrap();
        }
        Sandbox {
            standalone: false,
            container_id: format!("c-{name}"),
            ifname: "eth0".into(),
            network: "net".into(),
            netns: self.path(name),
            pod_uid: name.into(),
            namespace: "shop".into(),
            name: name.into(),
            host_link: Some(host),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    pub(crate) fn want(&mut self, name: &str, wanted: Wanted, addresses: &[&str]) {
        self.want_as(name, name, wanted, addresses);
    }

    /// The same, for a pod of this uid.
    pub(crate) fn want_as(&mut self, pod: &str, name: &str, wanted: Wanted, addresses: &[&str]) {
        let intent = Intent {
            uid: uid(pod),
            namespace: "shop".into(),
            name: name.into(),
            wanted,
            hash: String::new(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            static_uid: None,
            host_ports: BTreeSet::new(),
            host_network: false,
            message: String::new(),
        };
        self.desired.pods.insert(uid(pod), intent);
        self.send();
    }

    pub(crate) fn send(&self) {
        self.capture.set_desired(Arc::new(self.desired.clone()));
    }

    pub(crate) async fn add(&self, sandbox: &Sandbox) -> Result<Added, AddError> {
        self.capture
            .add(self.capture.ticket(), sandbox.clone(), None)
            .await
    }

    pub(crate) async fn until(&self, right: impl Fn(&NodeStatus) -> bool) -> Arc<NodeStatus> {
        let mut status = self.capture.status();
        let found = status.wait_for(|status| right(status));
        match timeout(Duration::from_secs(60), found).await {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("it does not happen: {:#?}", self.capture.status().borrow()),
        }
    }

    pub(crate) async fn until_pod(
        &self,
        name: &str,
        state: PodState,
        reason: Option<Reason>,
    ) -> PodStatus {
        let uid = uid(name);
        let is = |pod: &PodStatus| (pod.state, pod.reason) == (state, reason);
        let status = self
            .until(|status| status.pods.get(&uid).is_some_and(is))
            .await;
        status.pods[&uid].clone()
    }

    /// The agent is started again; the kernel stays as it is.
    pub(crate) fn restart(&mut self) {
        self.capture = start(&self.name, &self.run_dir, self.search.clone());
    }

    pub(crate) fn inside(&self, namespace: &str, command: &str) -> String {
        self.try_inside(namespace, command).unwrap()
    }

    pub(crate) fn try_inside(&self, namespace: &str, command: &str) -> Result<String, String> {
        execute(&format!(
            "ip netns exec {}-{namespace} {command}",
            self.name
        ))
    }

    pub(crate) fn path(&self, namespace: &str) -> PathBuf {
        format!("/run/netns/{}-{namespace}", self.name).into()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = execute(&format!("ip netns del {}-{namespace}", self.name));
        }
    }
}

fn start(
    name: &str,
    run_dir: &tempfile::TempDir,
    search: Option<(PathBuf, Vec<PathBuf>)>,
) -> Capture {
    let settings = Settings {
        node_netns: format!("/run/netns/{name}-node").into(),
        ..Settings::default()
    };
    let find = search.map(|(proc_dir, bound)| {
        let find = HostFind::open(&settings, &proc_dir).unwrap();
        let find: Box<dyn Find> = Box::new(find.looking_in(bound));
        find
    });
    let kernel = Kernel::open(settings).unwrap();
    let journal = Journal::open(run_dir.path()).unwrap();
    // What is noticed in a test is not what a whole look finds.
    let options = Options {
        resync: Duration::from_secs(3600),
        ..Options::default()
    };
    Capture::start_with(options, kernel, journal, find).unwrap()
}

/// What a proxy listens on, in its namespace.
#[expect(clippy::disallowed_methods, reason = "on a thread that ends there")]
fn listen(path: &PathBuf) -> Vec<TcpListener> {
    let netns = File::open(path).unwrap();
    nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    let listen = |port: u16| {
        let listener = TcpListener::bind(("::", port)).unwrap();
        setsockopt(&listener, sockopt::IpTransparent, &true).unwrap();
        listener
    };
    [15001, 15006, 15008].map(listen).into()
}

#[expect(clippy::disallowed_methods, reason = "tests use the native tools")]
fn execute(command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{command}: {}", text(&output.stderr)))
    }
}
