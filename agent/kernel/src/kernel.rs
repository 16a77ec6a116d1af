//! The seam: what the agent asks of the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

mod audit;
mod capture;
mod cleanup;
mod reconcile;

use crate::{
    error::{KernelError, PodError},
    layout::Tunnel,
    link::{self, LinkFact},
    listen::Listeners,
    locate::{self, AttachedError, LocateError},
    model::{Link, NetnsId, Node, Pod, PodUid, Proxy, Refusal, Repair, Settings},
    netns::{self, Netns, NetnsError},
    nft::Resets,
    place::{Place, Side},
    preflight,
    state::{Object, Target},
    sysctl::Watched,
    watch::Watch,
};

/// What surely fits into a table's comment.
const INSTANCE_LIMIT: usize = 64;

/// The node's kernel. All methods block briefly; only one thread uses it.
///
/// Sockets in the node's namespace stay open. The proxy's namespace is opened
/// for one call at a time, but for a listing of its sockets that is closed as
/// soon as the namespace's path is gone: nothing here keeps it alive.
#[derive(Debug)]
pub struct Kernel {
    settings: Settings,
    resets: Resets,
    limits: Vec<String>,
    node: Place,
    node_id: NetnsId,
    listeners: Option<(NetnsId, Listeners)>,
    /// The proxy's namespace of the last reconcile: ours to clean up when
    /// another takes its place.
    last_proxy: Option<NetnsId>,
    known: Option<Known>,
    sysctls: Watched,
}

/// The shared part of the kernel's state, as it was last verified.
#[derive(Debug)]
struct Known {
    proxy: Option<Proxy>,
    host_ports: BTreeSet<u16>,
    tunnel: Option<Tunnel>,
    ipv6: bool,
    local: BTreeSet<IpAddr>,
}

/// What [`Kernel::reconcile`] did.
#[derive(Debug)]
pub struct Outcome {
    /// Everything that was changed.
    pub repairs: Vec<Repair>,
    /// Every wanted pod.
    pub pods: BTreeMap<PodUid, Result<(), PodError>>,
}

/// What [`Kernel::audit`] found.
#[derive(Debug)]
pub struct Audit {
    /// What a reconcile would change.
    pub differences: Vec<Repair>,
    /// Per wanted pod, whether everything that captures it is there.
    pub pods: BTreeMap<PodUid, bool>,
}

impl Kernel {
    /// Opens the node's network namespace and asks what the kernel can do.
    /// Changes nothing.
    pub fn open(settings: Settings) -> Result<Self, KernelError> {
        if settings.instance.is_empty() || settings.instance.len() > INSTANCE_LIMIT {
            return Err(KernelError::Instance {
                instance: settings.instance,
                limit: INSTANCE_LIMIT,
            });
        }
        let netns = Netns::open(&settings.node_netns).map_err(KernelError::NodeNetns)?;
        let node_id = netns.id().clone();
        let mut node = Place::open(Side::Node, netns)?;
        let probed = Resets::probe(&mut node.netfilter, &settings);
        let (resets, limits) = probed.map_err(node.read("which packet rules are known"))?;
        Ok(Self {
            node,
            node_id,
            settings,
            resets,
            limits,
            listeners: None,
            last_proxy: None,
            known: None,
            sysctls: Watched::default(),
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What this kernel cannot do, in words, though it can capture.
    pub fn limits(&self) -> &[String] {
        &self.limits
    }

    /// What about the node forbids capture; nothing means it is fine. Changes
    /// nothing.
    pub fn preflight(&mut self, node: &Node) -> Result<Vec<Refusal>, KernelError> {
        let mut proxy = self.open_proxy(node)?;
        preflight::check(&self.settings, node, &mut self.node, proxy.as_mut())
    }

    /// The host's side of a pod's interface: by name if the CNI said it, else by
    /// the route to the pod's addresses. The link is one that can be captured, and
    /// leads into `netns` if that is known and still there.
    pub fn locate(
        &mut self,
        hint: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
        netns: Option<&NetnsId>,
    ) -> Result<Link, LocateError> {
        locate::locate(&mut self.node.route, hint, addresses, netns)
    }

    /// The links of the node that lead into a namespace, each with the addresses
    /// that the node routes to it alone.
    pub fn attached(
        &mut self,
        netns: &NetnsId,
    ) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, AttachedError> {
        let netns = Netns::open_same(netns)?;
        Ok(locate::attached(&mut self.node.route, &netns)?)
    }

    /// Whether the link is still there, with the same index and name.
    pub fn link_alive(&mut self, link: &Link) -> Result<bool, KernelError> {
        let found = link::by_index(&mut self.node.route, link.index);
        let found = found.map_err(self.node.read("links"))?;
        Ok(found.is_some_and(|fact| fact.link() == *link))
    }

    /// Every link of the node.
    pub fn links(&mut self) -> Result<BTreeSet<Link>, KernelError> {
        let links = self.node.links()?;
        Ok(links.iter().map(LinkFact::link).collect())
    }

    /// Which network namespace a path leads to.
    pub fn netns_id(path: &Path) -> Result<NetnsId, NetnsError> {
        netns::identify(path)
    }

    /// Whether the path still leads to the same namespace.
    pub fn netns_alive(id: &NetnsId) -> bool {
        netns::alive(id)
    }

    /// Whether a namespace is gone: its path leads nowhere, or to another one
    /// than `id`. An error where nobody can tell.
    pub fn netns_gone(path: &Path, id: Option<&NetnsId>) -> Result<bool, NetnsError> {
        netns::gone(path, id)
    }

    /// Which of the proxy's ports have a listener that steered connections
    /// reach, in every address family that is in use there. None once the
    /// namespace is gone.
    pub fn listening(&mut self, proxy: &NetnsId) -> Result<BTreeSet<u16>, KernelError> {
        if !netns::alive(proxy) {
            self.listeners.take_if(|(id, _)| id == proxy);
            return Ok(BTreeSet::new());
        }
        if !matches!(&self.listeners, Some((id, _)) if id == proxy) {
            let netns = Netns::open_same(proxy).map_err(KernelError::ProxyNetns)?;
            self.listeners = Some((proxy.clone(), Listeners::open(&netns)?));
        }
        let ports = self.settings.ports;
        let ports = [ports.outbound, ports.inbound, ports.hbone];
        match &mut self.listeners {
            Some((_, listeners)) => listeners.listening(ports),
            None => Ok(BTreeSet::new()),
        }
    }

    /// Whether the sysctls of our links are as they were verified; true if
    /// there are none. The kernel announces no change of them.
    pub fn sysctls_ok(&mut self) -> bool {
        self.sysctls.hold()
    }

    /// Wakes when something of ours may have been changed, in the node's or the
    /// proxy's namespace. Keeps the proxy's namespace alive: drop it when
    /// [`Kernel::netns_alive`] says that is gone.
    pub fn watch(&self, proxy: Option<&NetnsId>) -> Result<Watch, KernelError> {
        let mut namespaces = vec![(Side::Node, &self.node.netns)];
        let proxy = proxy
            .map(|id| Netns::open_same(id).map_err(KernelError::ProxyNetns))
            .transpose()?;
        namespaces.extend(proxy.as_ref().map(|netns| (Side::Proxy, netns)));
        Watch::open(&self.settings, &namespaces)
    }

    /// Addresses that are steered by rules of ours now, whoever made them.
    pub fn steered(&mut self) -> Result<BTreeSet<IpAddr>, KernelError> {
        let found = self.node.routing(&self.settings)?;
        let steered = found.into_iter().filter_map(|object| match object {
            Object::Route(route) if !matches!(route.target, Target::Other) => {
                Some(route.destination.0)
            }
            _ => None,
        });
        Ok(steered.collect())
    }

    /// Commands that list what [`Kernel::explain`] speaks of.
    pub fn commands(&self, pod: &Pod) -> Vec<String> {
        let settings = &self.settings;
        let table = &settings.nft_table;
        let mut commands = Vec::new();
        for address in &pod.addresses {
            let family = if address.is_ipv4() { 4 } else { 6 };
            let pods = settings.pod_table;
            commands.push(format!("ip -{family} route show table {pods} {address}"));
            let set = format!("netdev {table} dev{family} '{{ {address} }}'");
            commands.push(format!("nft get element {set}"));
        }
        let chain = crate::nft::pod_chain(&pod.link.name);
        commands.push(format!("nft list chain netdev {table} '{chain}'"));
        commands.push(format!("nft list chain netdev {table} from_pod"));
        commands.push(format!("ip rule show protocol {}", settings.protocol));
        commands.push(format!("ip -6 rule show protocol {}", settings.protocol));
        commands.push(format!("ip -d link show {}", settings.link_out));
        commands
    }

    /// The proxy's namespace, if it is wanted and still there.
    fn open_proxy(&self, node: &Node) -> Result<Option<Place>, KernelError> {
        let Some(proxy) = node
            .proxy
            .as_ref()
            .filter(|proxy| netns::alive(&proxy.netns))
        else {
            return Ok(None);
        };
        if (proxy.netns.device, proxy.netns.inode) == (self.node_id.device, self.node_id.inode) {
            return Err(KernelError::ProxyOnHost);
        }
        match Netns::open_same(&proxy.netns) {
            Ok(netns) => Place::open(Side::Proxy, netns).map(Some),
            // It went away just now.
            Err(NetnsError::Open { .. } | NetnsError::Replaced { .. }) => Ok(None),
            Err(error) => Err(KernelError::ProxyNetns(error)),
        }
    }
}
