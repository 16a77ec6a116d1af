//! A network namespace that is worked on, and what of ours is in it.

use std::{collections::BTreeSet, io};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};

use crate::{
    address,
    client::{Client, ClientError},
    error::KernelError,
    link::{self, LinkFact},
    model::Settings,
    netns::{Netns, NetnsError},
    nft::{self, Ruleset},
    route, rule,
    state::{Family, Found, Object, Wanted},
    sysctl::{self, Sysctl},
};

/// Which namespace, in errors and refusals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Node,
    Proxy,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Node => "the node's network namespace",
            Self::Proxy => "the proxy's network namespace",
        }
    }

    pub(crate) fn netns(self, source: NetnsError) -> KernelError {
        match self {
            Self::Node => KernelError::NodeNetns(source),
            Self::Proxy => KernelError::ProxyNetns(source),
        }
    }

    /// Our routing tables and priorities there.
    pub(crate) fn claims(self, settings: &Settings) -> (Vec<u32>, Vec<u32>) {
        match self {
            Self::Node => (vec![settings.pod_table], settings.node_priorities.to_vec()),
            Self::Proxy => (
                vec![settings.local_table, settings.return_table],
                settings.proxy_priorities.to_vec(),
            ),
        }
    }
}

/// An open namespace with sockets in it: whoever has one keeps it alive.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) side: Side,
    pub(crate) netns: Netns,
    pub(crate) route: Client,
    pub(crate) netfilter: Client,
}

impl Place {
    pub(crate) fn open(side: Side, netns: Netns) -> Result<Self, KernelError> {
        let sockets = || {
            let route = Client::open(NETLINK_ROUTE)?;
            Ok((route, Client::open(NETLINK_NETFILTER)?))
        };
        let opened = netns.run(sockets).map_err(|error| side.netns(error))?;
        let (route, netfilter) = opened.map_err(|source| KernelError::Open {
            place: side.name(),
            source,
        })?;
        Ok(Self {
            side,
            netns,
            route,
            netfilter,
        })
    }

    /// Does something with files that show the namespace of who opens them.
    pub(crate) fn inside<T: Send>(
        &self,
        what: &'static str,
        inside: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, KernelError> {
        let result = self
            .netns
            .run(inside)
            .map_err(|error| self.side.netns(error))?;
        result.map_err(|source| KernelError::ReadFile {
            what,
            place: self.side.name(),
            source,
        })
    }

    pub(crate) fn ipv6_usable(&self) -> Result<bool, KernelError> {
        self.inside("IPv6 settings", || Ok(sysctl::ipv6_usable()))
    }

    pub(crate) fn links(&mut self) -> Result<Vec<LinkFact>, KernelError> {
        let links = link::list(&mut self.route);
        links.map_err(self.read("links"))
    }

    pub(crate) fn addresses(&mut self) -> Result<Vec<address::AddressFact>, KernelError> {
        let addresses = address::list(&mut self.route, None);
        addresses.map_err(self.read("addresses"))
    }

    pub(crate) fn ruleset(&mut self, settings: &Settings) -> Result<Ruleset, KernelError> {
        let ruleset = nft::observe(&mut self.netfilter, settings);
        ruleset.map_err(self.read("packet rules"))
    }

    /// What of ours is there. Of sysctls only those that are wanted are looked
    /// at, and of links only `ours`.
    pub(crate) fn found(
        &mut self,
        settings: &Settings,
        ours: &[LinkFact],
        addresses: &[address::AddressFact],
        wanted: &Wanted,
    ) -> Result<Found, KernelError> {
        let mut found = self.routing(settings)?;
        found.extend(self.sysctls(wanted)?);
        for fact in ours {
            let link = fact.link();
            if fact.up {
                found.insert(Object::Up { link: link.clone() });
            }
            let own = addresses.iter().filter(|fact| fact.link == link.index);
            found.extend(own.map(|fact| Object::Address {
                link: link.clone(),
                address: fact.address,
                prefix: fact.prefix,
                odd: fact.odd,
            }));
            let neighbours = address::neighbours(&mut self.route, link.index);
            let neighbours = neighbours.map_err(self.read("neighbours"))?;
            found.extend(neighbours.into_iter().map(|fact| Object::Neighbour {
                link: link.clone(),
                address: fact.address,
                mac: fact.mac,
            }));
        }
        Ok(found)
    }

    /// Routes and rules that carry our protocol number, in our tables and at
    /// our priorities. Elsewhere that number is somebody else's (and a reason
    /// to refuse).
    pub(crate) fn routing(&mut self, settings: &Settings) -> Result<Found, KernelError> {
        let (tables, priorities) = self.side.claims(settings);
        let mut found = BTreeSet::new();
        for family in Family::BOTH {
            for table in &tables {
                let routes = route::list(&mut self.route, family, route::Listing::Table(*table));
                let routes = routes.map_err(self.read("routes"))?;
                let ours = routes
                    .into_iter()
                    .filter(|fact| fact.protocol == settings.protocol);
                found.extend(ours.map(|fact| Object::Route(fact.route)));
            }
            let rules = rule::list(&mut self.route, family).map_err(self.read("routing rules"))?;
            let ours = rules.into_iter().filter(|fact| {
                fact.protocol == settings.protocol && priorities.contains(&fact.rule.priority)
            });
            found.extend(ours.map(|fact| Object::Rule(fact.rule)));
        }
        Ok(found)
    }

    fn sysctls(&self, wanted: &Wanted) -> Result<Vec<Object>, KernelError> {
        let looked_at: Vec<_> = wanted
            .keys()
            .filter_map(|object| match object {
                Object::Sysctl {
                    link, family, key, ..
                } => Some((link.clone(), *family, *key)),
                _ => None,
            })
            .collect();
        if looked_at.is_empty() {
            return Ok(Vec::new());
        }
        self.inside("sysctls", move || {
            let mut found = Vec::new();
            for (link, family, key) in looked_at {
                let sysctl = Sysctl {
                    family,
                    link: link.name.clone(),
                    key,
                };
                found.extend(sysctl.read()?.map(|value| Object::Sysctl {
                    link,
                    family,
                    key,
                    value,
                }));
            }
            Ok(found)
        })
    }

    pub(crate) fn read(&self, what: &'static str) -> impl Fn(ClientError) -> KernelError + use<> {
        let place = self.side.name();
        move |source| KernelError::Read {
            what,
            place,
            source,
        }
    }
}
