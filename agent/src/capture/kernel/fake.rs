//! A kernel made of values, for tests: what the engine asks is done at once,
//! unless a test says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_kernel::model::{Evidence, Link, NetnsId, Node, Pod, PodUid, Refusal, Repair, Settings};
use tokio::sync::watch;

use super::{Audit, Changes, Fault, Kernel, Outcome};

/// What there is on the node.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Namespaces by path: their inode, and what is listened on in them.
    pub(crate) netns: BTreeMap<PathBuf, (u64, BTreeSet<u16>)>,
    /// Links by name: their index, and the addresses that are routed to them.
    pub(crate) links: BTreeMap<String, (u32, BTreeSet<IpAddr>)>,
    /// Programmed.
    pub(crate) node: Node,
    pub(crate) findings: Vec<Refusal>,
    /// Pods that the kernel refuses.
    pub(crate) refuse: BTreeSet<PodUid>,
    /// Every reconcile fails.
    pub(crate) broken: bool,
    /// Reconciles and captures that changed something.
    pub(crate) writes: u32,
    pub(crate) captures: u32,
    pub(crate) reconciles: u32,
    pub(crate) releases: u32,
    pub(crate) cleanups: u32,
    pub(crate) preflights: u32,
    /// Namespaces cannot be looked at.
    pub(crate) blind: bool,
}

/// The fake, and the test's handle of it.
#[derive(Clone, Debug)]
pub(crate) struct FakeKernel {
    settings: Settings,
    state: Arc<Mutex<State>>,
    changes: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
pub(crate) struct FakeChanges(watch::Receiver<()>);

impl Changes for FakeChanges {
    async fn changed(&mut self) -> io::Result<()> {
        self.0.changed().await.map_err(io::Error::other)
    }
}

impl FakeKernel {
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings::default(),
            state: Arc::default(),
            changes: Arc::new(watch::channel(()).0),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets the engine know as the kernel would.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changes.send_replace(());
    }

    /// A pod's namespace and link.
    pub(crate) fn attach(&self, netns: &str, inode: u64, link: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.change(|state| {
            state.netns.insert(netns.into(), (inode, BTreeSet::new()));
            let index = u32::try_from(inode).unwrap();
            state.links.insert(link.into(), (index, addresses));
        });
    }

    /// A namespace in which everything is listened on.
    pub(crate) fn listen(&self, netns: &str, ports: &[u16]) {
        self.change(|state| {
            state.netns.get_mut(Path::new(netns)).unwrap().1 = ports.iter().copied().collect();
        });
    }
}

impl State {
    fn refusal(&self, uid: &PodUid, pod: &Pod) -> Result<(), Fault> {
        if self.refuse.contains(uid) {
            return Err(Fault::lasting(format!("the kernel refuses pod {uid}")));
        }
        match self.links.get(&pod.link.name) {
            Some((index, _)) if *index == pod.link.index => Ok(()),
            _ => Err(Fault::transient(format!("link {} is gone", pod.link.name))),
        }
    }

    fn differences(&self, node: &Node) -> Vec<Repair> {
        let mut differences = Vec::new();
        let mut differ = |object: String, pod: Option<&PodUid>| {
            differences.push(Repair {
                kind: "rule",
                object,
                pod: pod.cloned(),
            });
        };
        if (&self.node.proxy, &self.node.host_ports) != (&node.proxy, &node.host_ports) {
            differ("shared".into(), None);
        }
        for (uid, pod) in &node.pods {
            if self.node.pods.get(uid) != Some(pod) && self.refusal(uid, pod).is_ok() {
                differ(format!("of {uid}"), Some(uid));
            }
        }
        for uid in self.node.pods.keys() {
            if !node.pods.contains_key(uid) {
                differ(format!("left over of {uid}"), Some(uid));
            }
        }
        differences
    }
}

/// Whether a link of this index leads into the namespace: see [`FakeKernel::attach`].
fn leads(index: u32, netns: &NetnsId) -> bool {
    u64::from(index) == netns.inode
}

impl Kernel for FakeKernel {
    type Changes = FakeChanges;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn preflight(&mut self, _: &Node) -> Result<Vec<Refusal>, Fault> {
        self.state().preflights += 1;
        Ok(self.state().findings.clone())
    }

    fn locate(
        &mut self,
        hint: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
        netns: Option<&NetnsId>,
    ) -> Result<Link, Fault> {
        let state = self.state();
        let found = state.links.iter().find(|(name, (_, routed))| {
            hint.is_none_or(|hint| hint == *name) && addresses.is_subset(routed)
        });
        let (name, (index, _)) =
            found.ok_or_else(|| Fault::transient(format!("no link leads to {addresses:?}")))?;
        if name.starts_with("br") {
            return Err(Fault::lasting(format!("{name} is a bridge")));
        }
        if let Some(netns) = netns.filter(|netns| !leads(*index, netns)) {
            let netns = netns.path.display();
            return Err(Fault::lasting(format!("{name} does not lead into {netns}")));
        }
        Ok(Link {
            index: *index,
            name: name.clone(),
        })
    }

    fn attached(&mut self, netns: &NetnsId) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, Fault> {
        let state = self.state();
        let its = state.links.iter();
        let its = its.filter(|(_, (index, _))| leads(*index, netns));
        let attached = its.map(|(name, (index, routed))| {
            let (index, name) = (*index, name.clone());
            (Link { index, name }, routed.clone())
        });
        Ok(attached.collect())
    }

    fn link_alive(&mut self, link: &Link) -> Result<bool, Fault> {
        let state = self.state();
        let found = state.links.get(&link.name);
        Ok(found.is_some_and(|(index, _)| *index == link.index))
    }

    fn links(&mut self) -> Result<BTreeSet<Link>, Fault> {
        let state = self.state();
        let links = state.links.iter().map(|(name, (index, _))| Link {
            index: *index,
            name: name.clone(),
        });
        Ok(links.collect())
    }

    fn netns_id(&self, path: &Path) -> Result<NetnsId, Fault> {
        let state = self.state();
        let (inode, _) = state
            .netns
            .get(path)
            .ok_or_else(|| Fault::lasting(format!("{} is no namespace", path.display())))?;
        Ok(NetnsId {
            path: path.to_owned(),
            device: 4,
            inode: *inode,
        })
    }

    fn netns_alive(&self, id: &NetnsId) -> bool {
        self.netns_id(&id.path).as_ref() == Ok(id)
    }

    fn netns_gone(&self, path: &Path, id: Option<&NetnsId>) -> Result<bool, Fault> {
        if self.state().blind {
            return Err(Fault::transient("permission denied"));
        }
        Ok(match self.netns_id(path) {
            Ok(found) => id.is_some_and(|id| found != *id),
            Err(_) => true,
        })
    }

    fn listening(&mut self, proxy: &NetnsId) -> Result<BTreeSet<u16>, Fault> {
        let state = self.state();
        Ok(state
            .netns
            .get(&proxy.path)
            .map(|(_, ports)| ports.clone())
            .unwrap_or_default())
    }

    fn reconcile(&mut self, node: &Node) -> Result<Outcome, Fault> {
        let mut state = self.state();
        state.reconciles += 1;
        if state.broken {
            return Err(Fault::transient("the kernel is out of memory"));
        }
        let repairs = state.differences(node);
        let pods: BTreeMap<PodUid, Result<(), Fault>> = node
            .pods
            .iter()
            .map(|(uid, pod)| (uid.clone(), state.refusal(uid, pod)))
            .collect();
        state.node = node.clone();
        state.node.pods.retain(|uid, _| pods[uid].is_ok());
        if !repairs.is_empty() {
            state.writes += 1;
            self.changes.send_replace(());
        }
        Ok(Outcome { repairs, pods })
    }

    fn capture(&mut self, node: &Node, uid: &PodUid) -> Result<(), Fault> {
        let mut state = self.state();
        let pod = &node.pods[uid];
        state.captures += 1;
        let refused = state.refusal(uid, pod);
        // Half of it stays: the engine must take it away.
        state.node.pods.insert(uid.clone(), pod.clone());
        state.writes += 1;
        refused
    }

    fn release(&mut self, node: &Node, pod: &Pod) -> Result<bool, Fault> {
        let mut state = self.state();
        state.releases += 1;
        if state.broken {
            return Err(Fault::transient("the kernel is out of memory"));
        }
        state.node.pods.retain(|_, other| other != pod);
        assert_eq!(state.node, *node, "more than one pod would be released");
        state.writes += 1;
        Ok(true)
    }

    fn cleanup(&mut self, _: Option<&NetnsId>) -> Result<Vec<Repair>, Fault> {
        let mut state = self.state();
        if state.broken {
            return Err(Fault::transient("the kernel is out of memory"));
        }
        let removed = state.differences(&Node::default());
        state.node = Node::default();
        state.cleanups += 1;
        Ok(removed)
    }

    fn audit(&mut self, node: &Node) -> Result<Audit, Fault> {
        let state = self.state();
        let there =
            |(uid, pod): (&PodUid, &Pod)| (uid.clone(), state.node.pods.get(uid) == Some(pod));
        Ok(Audit {
            differences: state.differences(node),
            pods: node.pods.iter().map(there).collect(),
        })
    }

    fn explain(&mut self, _: &Node, uid: &PodUid) -> Result<Vec<Evidence>, Fault> {
        Ok(vec![Evidence {
            object: format!("rules of {uid}"),
            present: self.state().node.pods.contains_key(uid),
        }])
    }

    fn commands(&self, pod: &Pod) -> Vec<String> {
        vec![format!("ip link show {}", pod.link.name)]
    }

    fn steered(&mut self) -> Result<BTreeSet<IpAddr>, Fault> {
        let state = self.state();
        let pods = state.node.pods.values();
        Ok(pods.flat_map(|pod| pod.addresses.iter().copied()).collect())
    }

    fn sysctls_ok(&mut self) -> bool {
        true
    }

    fn watch(&self, _: Option<&NetnsId>) -> Result<FakeChanges, Fault> {
        Ok(FakeChanges(self.changes.subscribe()))
    }
}
