//! Pods that come and go, with nothing in them.

use super::{
    Lab,
    cni::{Attachment, Chain},
    netns::Netns,
    pod::PodSpec,
};

/// A pod that was attached, to be taken away again.
#[derive(Debug)]
pub struct Passing {
    spec: PodSpec,
    netns: Netns,
    chain: Chain,
    attachment: Attachment,
}

impl Lab {
    /// ADD of a pod, as a kubelet does it, and its DEL.
    pub fn pass(&self, spec: PodSpec) {
        let pod = self.attach_passing(spec);
        self.detach_passing(&pod);
    }

    /// ADD of a pod that the controller knows.
    pub fn attach_passing(&self, spec: PodSpec) -> Passing {
        self.folder.pod(&spec.document(&[]));
        let (netns, chain, attachment) = self.sandbox(&spec, true);
        let added = chain.add(self.ns(&spec.node), &attachment);
        added.unwrap_or_else(|error| panic!("ADD of {}: {error:?}", spec.name));
        Passing {
            spec,
            netns,
            chain,
            attachment,
        }
    }

    /// DEL, the namespace's end, the object's end.
    pub fn detach_passing(&self, pod: &Passing) {
        let gone = pod.chain.del(self.ns(&pod.spec.node), &pod.attachment);
        gone.unwrap_or_else(|error| panic!("DEL of {}: {error:?}", pod.spec.name));
        pod.netns.delete();
        self.folder.remove_pod(&pod.spec.document(&[]));
    }
}
