//! Looks without changing anything.

use std::collections::BTreeSet;

use super::{Audit, Kernel};
use crate::{
    error::KernelError,
    layout::{self, Ground, Which},
    model::{Evidence, Node, Pod, PodUid, Repair},
    nft::{self, Ruleset},
    observe::{self, Picture, Plan},
    state::Object,
};

impl Kernel {
    /// What a reconcile would change, and which pods are captured by all that
    /// should be there. Changes nothing.
    pub fn audit(&mut self, node: &Node) -> Result<Audit, KernelError> {
        let (_, plan, _) = self.look(node)?;
        let differences = plan.repairs(&self.settings, node);
        let shared_holds = differences.iter().all(|repair| repair.pod.is_some());
        if !shared_holds {
            self.known = None;
        }
        let holds = |uid: &PodUid| {
            let concerned = |repair: &Repair| repair.pod.as_ref() == Some(uid);
            shared_holds && !plan.failed.contains_key(uid) && !differences.iter().any(concerned)
        };
        let pods = node.pods.keys().map(|uid| (uid.clone(), holds(uid)));
        Ok(Audit {
            pods: pods.collect(),
            differences,
        })
    }

    /// Everything that captures a pod, and whether it is there.
    pub fn explain(&mut self, node: &Node, uid: &PodUid) -> Result<Vec<Evidence>, KernelError> {
        let Some(pod) = node.pods.get(uid) else {
            return Ok(Vec::new());
        };
        let (picture, plan, with_proxy) = self.look(node)?;
        let ground = observe::ground(&self.settings, node, &picture, with_proxy);
        let mut evidence = own_evidence(ground, pod, &picture);
        let wanted = nft::pod_ruleset(&self.settings, pod, picture.ipv6);
        let all = nft::plan(&wanted, &Ruleset::default());
        let missing: BTreeSet<String> = plan.node_rules.iter().map(nft::Change::describe).collect();
        let pods = [(uid.clone(), pod.clone())].into();
        evidence.extend(
            all.iter()
                .filter(|change| change.pod(&pods).is_some())
                .map(|change| {
                    let words = change.describe();
                    Evidence {
                        present: !missing.contains(&words),
                        object: words.strip_prefix("add ").unwrap_or(&words).to_owned(),
                    }
                }),
        );
        evidence.extend(shared_evidence(ground, &picture, &plan, node));
        Ok(evidence)
    }

    fn look(&mut self, node: &Node) -> Result<(Picture, Plan, bool), KernelError> {
        let mut proxy = self.open_proxy(node)?;
        let settings = &self.settings;
        let there = proxy.as_mut();
        let picture = observe::look(settings, self.resets, node, &mut self.node, there)?;
        let nobody = BTreeSet::new();
        let plan = observe::decide(settings, node, &picture, proxy.is_some(), &nobody);
        Ok((picture, plan, proxy.is_some()))
    }
}

fn own_evidence(ground: Ground<'_>, pod: &Pod, picture: &Picture) -> Vec<Evidence> {
    let link = picture
        .node_links
        .iter()
        .any(|fact| fact.link() == pod.link);
    let mut evidence = vec![Evidence {
        object: format!("link {} (index {})", pod.link.name, pod.link.index),
        present: link,
    }];
    let routes = layout::node_pod(ground, pod);
    evidence.extend(routes.into_iter().map(|object| Evidence {
        present: picture.node.contains(&object),
        object: object.to_string(),
    }));
    evidence
}

/// What all pods have in common, in fewer words.
fn shared_evidence(
    ground: Ground<'_>,
    picture: &Picture,
    plan: &Plan,
    node: &Node,
) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    for which in Which::BOTH {
        let name = layout::end(ground.settings, which, false).name;
        evidence.push(Evidence {
            object: format!("pair of links {name} to the proxy's namespace"),
            present: ground.tunnel.is_some(),
        });
    }
    let rules = layout::node_shared(ground).into_keys();
    evidence.extend(
        rules
            .filter(|object| matches!(object, Object::Rule(_)))
            .map(|object| Evidence {
                present: picture.node.contains(&object),
                object: object.to_string(),
            }),
    );
    let shared = |change: &nft::Change| change.pod(&node.pods).is_none();
    evidence.push(Evidence {
        object: "packet rules of the node that all pods share".into(),
        present: !plan.node_rules.iter().any(shared),
    });
    evidence.push(Evidence {
        object: "routing, addresses and packet rules in the proxy's namespace".into(),
        present: ground.proxy.is_some() && plan.proxy.is_empty() && plan.proxy_rules.is_empty(),
    });
    evidence
}
