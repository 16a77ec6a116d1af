//! The kernel's objects as plain values: those of ours, in one namespace.
//!
//! A value is one object's whole meaning, so that two are equal exactly when
//! nothing has to be done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use crate::model::{Link, PodUid};

/// A hardware address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }

    /// Prefix length of a single address.
    pub(crate) fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A routing rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Rule {
    pub(crate) family: Family,
    pub(crate) priority: u32,
    pub(crate) source: Option<(IpAddr, u8)>,
    pub(crate) iif: Option<String>,
    pub(crate) mark: Option<(u32, u32)>,
    pub(crate) tcp: bool,
    pub(crate) action: Action,
    /// The kernel's message, of a rule that says more than this.
    pub(crate) odd: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Action {
    Lookup(u32),
    Goto(u32),
    Nop,
    Other,
}

/// A route in one of our tables.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Route {
    pub(crate) table: u32,
    pub(crate) destination: (IpAddr, u8),
    pub(crate) metric: u32,
    pub(crate) target: Target,
    /// The kernel's message, of a route that says more than this.
    pub(crate) odd: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Target {
    /// By a next hop that is assumed to be on the link.
    Via {
        gateway: IpAddr,
        link: u32,
    },
    Unreachable,
    /// Delivered here.
    Local,
    Other,
}

/// One object of ours.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Object {
    Sysctl {
        link: Link,
        family: Family,
        key: &'static str,
        value: String,
    },
    /// The link is up.
    Up {
        link: Link,
    },
    Address {
        link: Link,
        address: IpAddr,
        prefix: u8,
        /// It has another scope than it should, or does not work.
        odd: bool,
    },
    Neighbour {
        link: Link,
        address: IpAddr,
        /// None: it is there, but not as a permanent entry.
        mac: Option<Mac>,
    },
    Route(Route),
    Rule(Rule),
}

impl Object {
    /// Kind of object, as in [`crate::model::Repair`].
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Sysctl { .. } => "sysctl",
            Self::Up { .. } => "link",
            Self::Address { .. } => "address",
            Self::Neighbour { .. } => "neighbour",
            Self::Route(_) => "route",
            Self::Rule(_) => "rule",
        }
    }

    /// Whether writing `self` replaces `other`, so that it must not be removed.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Sysctl {
                    link, family, key, ..
                },
                Self::Sysctl {
                    link: other_link,
                    family: other_family,
                    key: other_key,
                    ..
                },
            ) => (link, family, key) == (other_link, other_family, other_key),
            (
                Self::Neighbour { link, address, .. },
                Self::Neighbour {
                    link: other_link,
                    address: other_address,
                    ..
                },
            ) => (link, address) == (other_link, other_address),
            _ => false,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl {
                link,
                family,
                key,
                value,
            } => write!(f, "{key} = {value} ({family}) of link {}", link.name),
            Self::Up { link } => write!(f, "link {} up", link.name),
            Self::Address {
                link,
                address,
                prefix,
                odd,
            } => {
                write!(f, "address {address}/{prefix} of link {}", link.name)?;
                if *odd {
                    write!(f, ", not as it should be")
                } else {
                    Ok(())
                }
            }
            Self::Neighbour { link, address, mac } => {
                write!(f, "neighbour {address} ")?;
                match mac {
                    Some(mac) => write!(f, "lladdr {mac} permanent ")?,
                    None => write!(f, "(not permanent) ")?,
                }
                write!(f, "on link {}", link.name)
            }
            Self::Route(route) => route.fmt(f),
            Self::Rule(rule) => rule.fmt(f),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, prefix) = self.destination;
        match self.target {
            Target::Via { gateway, link } => {
                write!(f, "route {address}/{prefix} via {gateway} on link {link}")?;
            }
            Target::Unreachable => write!(f, "route unreachable {address}/{prefix}")?,
            Target::Local => write!(f, "route local {address}/{prefix}")?,
            Target::Other => write!(f, "route {address}/{prefix} of another kind")?,
        }
        write!(f, " metric {} in table {}", self.metric, self.table)?;
        match self.odd {
            Some(_) => write!(f, ", with something added"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rule {}:", self.family, self.priority)?;
        if let Some((address, prefix)) = self.source {
            write!(f, " from {address}/{prefix}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if self.tcp {
            write!(f, " ipproto tcp")?;
        }
        match self.action {
            Action::Lookup(table) => write!(f, " lookup {table}")?,
            Action::Goto(priority) => write!(f, " goto {priority}")?,
            Action::Nop => write!(f, " nop")?,
            Action::Other => write!(f, " of another kind")?,
        }
        match self.odd {
            Some(_) => write!(f, ", with something added"),
            None => Ok(()),
        }
    }
}

/// Whose object it is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Owner {
    Shared,
    Pod(PodUid),
}

impl Owner {
    pub(crate) fn pod(&self) -> Option<&PodUid> {
        match self {
            Self::Shared => None,
            Self::Pod(uid) => Some(uid),
        }
    }
}

/// What should be in a namespace, apart from links and packet rules.
pub(crate) type Wanted = BTreeMap<Object, Owner>;

/// What of ours is in a namespace, apart from links and packet rules.
pub(crate) type Found = BTreeSet<Object>;
