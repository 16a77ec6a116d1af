//! A kernel that is always as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    future, io,
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use sluice_agent::capture::kernel::{Audit, Changes, Fault, Kernel, Outcome};
use sluice_kernel::model::{Evidence, Link, NetnsId, Node, Pod, PodUid, Refusal, Repair, Settings};

#[derive(Default)]
pub(crate) struct FakeKernel {
    settings: Settings,
    /// While this is set, whoever asks it to do or find something waits.
    pub(crate) stuck: Arc<AtomicBool>,
}

impl FakeKernel {
    fn wait(&self) {
        while self.stuck.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) struct Silence;

impl Changes for Silence {
    async fn changed(&mut self) -> io::Result<()> {
        future::pending().await
    }
}

impl Kernel for FakeKernel {
    type Changes = Silence;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn preflight(&mut self, _: &Node) -> Result<Vec<Refusal>, Fault> {
        self.wait();
        Ok(Vec::new())
    }

    fn locate(
        &mut self,
        hint: Option<&str>,
        _: &BTreeSet<IpAddr>,
        _: Option<&NetnsId>,
    ) -> Result<Link, Fault> {
        Ok(Link {
            index: 7,
            name: hint.unwrap_or("veth7").into(),
        })
    }

    fn attached(&mut self, _: &NetnsId) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, Fault> {
        Ok(BTreeMap::new())
    }

    fn link_alive(&mut self, _: &Link) -> Result<bool, Fault> {
        Ok(true)
    }

    fn links(&mut self) -> Result<BTreeSet<Link>, Fault> {
        Ok(BTreeSet::from([Link {
            index: 7,
            name: "veth7".into(),
        }]))
    }

    fn netns_id(&self, path: &Path) -> Result<NetnsId, Fault> {
        Ok(NetnsId {
            path: path.to_owned(),
            device: 1,
            inode: 1,
        })
    }

    fn netns_alive(&self, _: &NetnsId) -> bool {
        true
    }

    fn netns_gone(&self, _: &Path, _: Option<&NetnsId>) -> Result<bool, Fault> {
        Ok(false)
    }

    fn listening(&mut self, _: &NetnsId) -> Result<BTreeSet<u16>, Fault> {
        let ports = self.settings.ports;
        Ok(BTreeSet::from([ports.outbound, ports.inbound, ports.hbone]))
    }

    fn reconcile(&mut self, node: &Node) -> Result<Outcome, Fault> {
        self.wait();
        Ok(Outcome {
            repairs: vec![Repair {
                kind: "rule",
                object: "rule of priority 105".into(),
                pod: None,
            }],
            pods: node.pods.keys().map(|uid| (uid.clone(), Ok(()))).collect(),
        })
    }

    fn capture(&mut self, _: &Node, _: &PodUid) -> Result<(), Fault> {
        Ok(())
    }

    fn release(&mut self, _: &Node, _: &Pod) -> Result<bool, Fault> {
        Ok(true)
    }

    fn cleanup(&mut self, _: Option<&NetnsId>) -> Result<Vec<Repair>, Fault> {
        Ok(Vec::new())
    }

    fn audit(&mut self, node: &Node) -> Result<Audit, Fault> {
        self.wait();
        Ok(Audit {
            differences: Vec::new(),
            pods: node
                .pods
                .keys()
                .map(|uid| (uid.clone(), true))
                .collect::<BTreeMap<_, _>>(),
        })
    }

    fn explain(&mut self, _: &Node, _: &PodUid) -> Result<Vec<Evidence>, Fault> {
        Ok(vec![Evidence {
            object: "route to 10.0.0.4".into(),
            present: true,
        }])
    }

    fn commands(&self, _: &Pod) -> Vec<String> {
        vec!["ip rule".into()]
    }

    fn steered(&mut self) -> Result<BTreeSet<IpAddr>, Fault> {
        Ok(BTreeSet::new())
    }

    fn sysctls_ok(&mut self) -> bool {
        true
    }

    fn watch(&self, _: Option<&NetnsId>) -> Result<Silence, Fault> {
        Ok(Silence)
    }
}
