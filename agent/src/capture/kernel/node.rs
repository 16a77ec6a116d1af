//! The real kernel behind the seam.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
};

use sluice_kernel::{
    Kernel as Node,
    model::{self, Evidence, Link, NetnsId, Pod, PodUid, Refusal, Repair, Settings},
};

use super::{Audit, Changes, Fault, Kernel, Outcome};

impl Changes for sluice_kernel::Watch {
    async fn changed(&mut self) -> io::Result<()> {
        Self::changed(self).await
    }
}

impl Kernel for Node {
    type Changes = sluice_kernel::Watch;

    fn settings(&self) -> &Settings {
        Self::settings(self)
    }

    fn preflight(&mut self, node: &model::Node) -> Result<Vec<Refusal>, Fault> {
        Self::preflight(self, node).map_err(|error| Fault::of(&error, true))
    }

    fn locate(
        &mut self,
        hint: Option<&str>,
        addresses: &BTreeSet<IpAddr>,
        netns: Option<&NetnsId>,
    ) -> Result<Link, Fault> {
        Self::locate(self, hint, addresses, netns).map_err(|error| {
            let transient = error.is_transient();
            Fault::of(&error, transient)
        })
    }

    fn attached(&mut self, netns: &NetnsId) -> Result<BTreeMap<Link, BTreeSet<IpAddr>>, Fault> {
        Self::attached(self, netns).map_err(|error| Fault::of(&error, true))
    }

    fn link_alive(&mut self, link: &Link) -> Result<bool, Fault> {
        Self::link_alive(self, link).map_err(|error| Fault::of(&error, true))
    }

    fn links(&mut self) -> Result<BTreeSet<Link>, Fault> {
        Self::links(self).map_err(|error| Fault::of(&error, true))
    }

    fn netns_id(&self, path: &Path) -> Result<NetnsId, Fault> {
        Self::netns_id(path).map_err(|error| Fault::of(&error, false))
    }

    fn netns_alive(&self, id: &NetnsId) -> bool {
        Self::netns_alive(id)
    }

    fn netns_gone(&self, path: &Path, id: Option<&NetnsId>) -> Result<bool, Fault> {
        Self::netns_gone(path, id).map_err(|error| Fault::of(&error, true))
    }

    fn listening(&mut self, proxy: &NetnsId) -> Result<BTreeSet<u16>, Fault> {
        Self::listening(self, proxy).map_err(|error| Fault::of(&error, true))
    }

    fn reconcile(&mut self, node: &model::Node) -> Result<Outcome, Fault> {
        let outcome = Self::reconcile(self, node).map_err(|error| Fault::of(&error, true))?;
        let pods = outcome.pods.into_iter().map(|(uid, result)| {
            let result = result.map_err(|error| Fault::of(&error, error.is_transient()));
            (uid, result)
        });
        Ok(Outcome {
            repairs: outcome.repairs,
            pods: pods.collect(),
        })
    }

    fn capture(&mut self, node: &model::Node, uid: &PodUid) -> Result<(), Fault> {
        Self::capture(self, node, uid).map_err(|error| Fault::of(&error, error.is_transient()))
    }

    fn release(&mut self, node: &model::Node, pod: &Pod) -> Result<bool, Fault> {
        Self::release(self, node, pod).map_err(|error| Fault::of(&error, true))
    }

    fn cleanup(&mut self, proxy: Option<&NetnsId>) -> Result<Vec<Repair>, Fault> {
        Self::cleanup(self, proxy).map_err(|error| Fault::of(&error, true))
    }

    fn audit(&mut self, node: &model::Node) -> Result<Audit, Fault> {
        let audit = Self::audit(self, node).map_err(|error| Fault::of(&error, true))?;
        Ok(Audit {
            differences: audit.differences,
            pods: audit.pods,
        })
    }

    fn explain(&mut self, node: &model::Node, uid: &PodUid) -> Result<Vec<Evidence>, Fault> {
        Self::explain(self, node, uid).map_err(|error| Fault::of(&error, true))
    }

    fn commands(&self, pod: &Pod) -> Vec<String> {
        Self::commands(self, pod)
    }

    fn steered(&mut self) -> Result<BTreeSet<IpAddr>, Fault> {
        Self::steered(self).map_err(|error| Fault::of(&error, true))
    }

    fn sysctls_ok(&mut self) -> bool {
        Self::sysctls_ok(self)
    }

    fn watch(&self, proxy: Option<&NetnsId>) -> Result<Self::Changes, Fault> {
        Self::watch(self, proxy).map_err(|error| Fault::of(&error, true))
    }
}
