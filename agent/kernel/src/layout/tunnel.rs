//! The two pairs of links between the node's and the proxy's namespace.

use crate::{
    link::{End, LinkFact},
    model::{Link, Settings},
    state::Mac,
};

/// Of a link whose namespace does not say otherwise.
const DEFAULT_MTU: u32 = 1500;

/// Which of the pairs: to captured pods, or from them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Which {
    In,
    Out,
}

impl Which {
    pub(crate) const BOTH: [Self; 2] = [Self::In, Self::Out];

    fn name(self, settings: &Settings) -> &str {
        match self {
            Self::In => &settings.link_in,
            Self::Out => &settings.link_out,
        }
    }
}

/// One end of a pair that is there, and the other end's hardware address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Peer {
    pub(crate) link: Link,
    pub(crate) other: Mac,
}

/// Both ends of a pair that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pair {
    pub(crate) node: Peer,
    pub(crate) proxy: Peer,
}

/// Both pairs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tunnel {
    inward: Pair,
    outward: Pair,
}

impl Tunnel {
    pub(crate) fn of(&self, which: Which) -> &Pair {
        match which {
            Which::In => &self.inward,
            Which::Out => &self.outward,
        }
    }

    pub(crate) fn end(&self, which: Which, in_proxy: bool) -> &Peer {
        let pair = self.of(which);
        if in_proxy { &pair.proxy } else { &pair.node }
    }

    /// The pairs, if both are there, whole and ours.
    pub(crate) fn found(
        settings: &Settings,
        node: &[LinkFact],
        proxy: &[LinkFact],
    ) -> Option<Self> {
        let pair = |which| {
            let (here, there) = whole(settings, which, node, proxy)?;
            Some(Pair {
                node: Peer {
                    link: here.link(),
                    other: end(settings, which, true).mac,
                },
                proxy: Peer {
                    link: there.link(),
                    other: end(settings, which, false).mac,
                },
            })
        };
        Some(Self {
            inward: pair(Which::In)?,
            outward: pair(Which::Out)?,
        })
    }
}

/// Something to be done to links, before anything else can be laid on them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum LinkStep {
    Delete {
        in_proxy: bool,
        link: Link,
    },
    Create(Which),
    Correct {
        in_proxy: bool,
        link: Link,
        mac: Option<Mac>,
        mtu: Option<u32>,
    },
}

impl LinkStep {
    /// The change, in words.
    pub(crate) fn describe(&self, settings: &Settings) -> String {
        let side = |in_proxy: &bool| {
            if *in_proxy {
                "the proxy's"
            } else {
                "the node's"
            }
        };
        match self {
            Self::Delete { in_proxy, link } => {
                format!("remove link {} of {} namespace", link.name, side(in_proxy))
            }
            Self::Create(which) => format!("make the pair of links {}", which.name(settings)),
            Self::Correct {
                in_proxy,
                link,
                mac,
                mtu,
            } => {
                let mac = mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
                let mtu = mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
                format!(
                    "set link {}{mac}{mtu} of {} namespace",
                    link.name,
                    side(in_proxy)
                )
            }
        }
    }
}

/// The pairs carry what the proxy's own link carries.
pub(crate) fn mtu(node: &[LinkFact], proxy: &Link) -> u32 {
    let own = node.iter().find(|fact| fact.link() == *proxy);
    own.map_or(DEFAULT_MTU, |fact| fact.mtu)
}

/// What has to be done for both pairs to be there, or for none to be if
/// `mtu` is `None`. Old links go before new ones come.
pub(crate) fn plan(
    settings: &Settings,
    node: &[LinkFact],
    proxy: &[LinkFact],
    mtu: Option<u32>,
) -> Vec<LinkStep> {
    let mut keep = Vec::new();
    let mut steps = Vec::new();
    for which in Which::BOTH {
        let Some(mtu) = mtu else { continue };
        match whole(settings, which, node, proxy) {
            Some((here, there)) => {
                keep.push((here.index, there.index));
                for (fact, in_proxy) in [(here, false), (there, true)] {
                    steps.extend(correction(settings, which, fact, in_proxy, mtu));
                }
            }
            None => steps.push(LinkStep::Create(which)),
        }
    }
    let delete = |fact: &LinkFact, in_proxy| LinkStep::Delete {
        in_proxy,
        link: fact.link(),
    };
    let stale_here = node
        .iter()
        .filter(|fact| ours(settings, fact) && !keep.iter().any(|kept| kept.0 == fact.index));
    let stale_there = proxy
        .iter()
        .filter(|fact| ours(settings, fact) && !keep.iter().any(|kept| kept.1 == fact.index));
    let mut all: Vec<_> = stale_here
        .map(|fact| delete(fact, false))
        .chain(stale_there.map(|fact| delete(fact, true)))
        .collect();
    all.append(&mut steps);
    all
}

fn correction(
    settings: &Settings,
    which: Which,
    fact: &LinkFact,
    in_proxy: bool,
    mtu: u32,
) -> Option<LinkStep> {
    let wanted = end(settings, which, in_proxy);
    let mac = (fact.mac != Some(wanted.mac)).then_some(wanted.mac);
    let mtu = (fact.mtu != mtu).then_some(mtu);
    (mac.is_some() || mtu.is_some()).then(|| LinkStep::Correct {
        in_proxy,
        link: fact.link(),
        mac,
        mtu,
    })
}

/// Both ends of a pair, if they carry our names, are each other's ends, and at
/// least one of them still has our address.
fn whole<'a>(
    settings: &Settings,
    which: Which,
    node: &'a [LinkFact],
    proxy: &'a [LinkFact],
) -> Option<(&'a LinkFact, &'a LinkFact)> {
    let name = which.name(settings);
    let named = |facts: &'a [LinkFact]| {
        facts
            .iter()
            .find(|fact| fact.name == name && fact.kind == "veth" && fact.master.is_none())
    };
    let (here, there) = (named(node)?, named(proxy)?);
    let each_other = here.peer == Some(there.index) && there.peer == Some(here.index);
    let marked = here.mac == Some(end(settings, which, false).mac)
        || there.mac == Some(end(settings, which, true).mac);
    (each_other && marked).then_some((here, there))
}

/// Whether a link carries an address that only we give.
pub(crate) fn ours(settings: &Settings, fact: &LinkFact) -> bool {
    fact.kind == "veth"
        && Which::BOTH.iter().any(|which| {
            [false, true]
                .iter()
                .any(|in_proxy| fact.mac == Some(end(settings, *which, *in_proxy).mac))
        })
}

/// Name and hardware address of one end. The address is what makes it ours.
pub(crate) fn end(settings: &Settings, which: Which, in_proxy: bool) -> End {
    let which_name = match which {
        Which::In => "in",
        Which::Out => "out",
    };
    let side = if in_proxy { "proxy" } else { "node" };
    let [a, b, c, d] = hash(&[&settings.instance, which_name, side]).to_be_bytes();
    End {
        name: which.name(settings).into(),
        // Locally administered.
        mac: Mac([0x02, 0x5c, a, b, c, d]),
    }
}

/// FNV-1a: stable for as long as links live, which is longer than we do.
fn hash(parts: &[&str]) -> u32 {
    let bytes = parts
        .iter()
        .flat_map(|part| part.bytes().chain(std::iter::once(0)));
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
