use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    model::Ruleset,
    node::{NodeFacts, node_ruleset},
    proxy::ProxyFacts,
    reset::Resets,
};
use crate::model::{Link, Pod, PodUid, Settings};

mod claims;
mod kernel;
mod lab;
mod plans;
mod snapshots;
mod tampering;

/// Facts that own what [`NodeFacts`] borrows.
#[derive(Clone, Debug)]
struct Facts {
    link_in: Option<u32>,
    link_out: Option<u32>,
    proxy_link: Option<Link>,
    local: BTreeSet<IpAddr>,
    host_ports: BTreeSet<u16>,
    pods: BTreeMap<PodUid, Pod>,
    ipv6: bool,
}

impl Facts {
    fn new(pods: impl IntoIterator<Item = Pod>) -> Self {
        let uid = |pod: &Pod| PodUid::new(pod.link.name.clone()).unwrap();
        Self {
            link_in: Some(2),
            link_out: Some(3),
            proxy_link: Some(link(4, "vproxy")),
            local: addresses(&["192.168.7.1", "fd00:7::1"]),
            host_ports: BTreeSet::from([8081]),
            pods: pods.into_iter().map(|pod| (uid(&pod), pod)).collect(),
            ipv6: true,
        }
    }

    fn without_proxy(self) -> Self {
        Self {
            link_in: None,
            link_out: None,
            proxy_link: None,
            ..self
        }
    }

    fn ruleset(&self) -> Ruleset {
        self.ruleset_of(&Settings::default())
    }

    fn ruleset_of(&self, settings: &Settings) -> Ruleset {
        let facts = NodeFacts {
            link_in: self.link_in,
            link_out: self.link_out,
            proxy_link: self.proxy_link.as_ref(),
            local: &self.local,
            host_ports: &self.host_ports,
            pods: &self.pods,
            ipv6: self.ipv6,
        };
        node_ruleset(settings, &facts)
    }
}

/// Everything, with our link of this index.
fn at_proxy(link_out: u32) -> ProxyFacts {
    ProxyFacts {
        link_out: Some(link_out),
        resets: Resets {
            ipv4: true,
            ipv6: true,
        },
        ipv6: true,
    }
}

fn link(index: u32, name: &str) -> Link {
    let name = name.into();
    Link { index, name }
}

fn pod(index: u32, name: &str, of: &[&str]) -> Pod {
    Pod {
        link: link(index, name),
        addresses: addresses(of),
    }
}

fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}
