//! An nftables ruleset as plain values: what is wanted and what is there are
//! the same type, so that "is it so?" is `==`.
//!
//! Expressions are those of the kernel's virtual machine, because that is what
//! can be read back. Handles, counters of uses and other numbers that the kernel
//! chooses are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Tables by family and name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ruleset {
    pub(crate) tables: BTreeMap<TableId, Table>,
}

/// A table's identity in a namespace.
pub(crate) type TableId = (Family, String);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Family {
    Inet,
    Ipv4,
    Arp,
    Netdev,
    Bridge,
    Ipv6,
    Other(u8),
}

/// A table and everything in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Table {
    /// Says whose it is.
    pub(crate) comment: Option<String>,
    /// Ours have none; 1 is `dormant`.
    pub(crate) flags: u32,
    pub(crate) sets: BTreeMap<String, Set>,
    pub(crate) chains: BTreeMap<String, Chain>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Chain {
    /// What makes it a base chain.
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Hook {
    pub(crate) kind: ChainKind,
    pub(crate) point: HookPoint,
    pub(crate) priority: i32,
    /// For ingress: names of links.
    pub(crate) devices: BTreeSet<String>,
    pub(crate) policy: Policy,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ChainKind {
    Filter,
    Nat,
    Other(String),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HookPoint {
    Ingress,
    Prerouting,
    Output,
    Postrouting,
    /// The kernel's number in the chain's family.
    Other(u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Policy {
    Accept,
    Drop,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rule {
    pub(crate) expressions: Vec<Expression>,
    /// Comments of other people's tools; ours have none.
    pub(crate) userdata: Vec<u8>,
}

/// A 16-byte register of the virtual machine.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    pub(crate) const ONE: Self = Self(1);
    pub(crate) const TWO: Self = Self(2);
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Expression {
    Meta {
        key: MetaKey,
        to: Register,
    },
    SetMeta {
        key: MetaKey,
        from: Register,
    },
    Payload {
        base: Base,
        offset: u32,
        length: u32,
        to: Register,
    },
    Socket {
        key: SocketKey,
        to: Register,
    },
    /// Connection tracking's `status`.
    CtStatus {
        to: Register,
    },
    Compare {
        from: Register,
        operator: Operator,
        value: Vec<u8>,
    },
    Range {
        from: Register,
        negated: bool,
        low: Vec<u8>,
        high: Vec<u8>,
    },
    Bitwise {
        from: Register,
        to: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Lookup {
        set: String,
        from: Register,
        to: Option<Register>,
        negated: bool,
    },
    Load {
        to: Register,
        value: Vec<u8>,
    },
    Verdict(Verdict),
    Forward {
        device: Register,
        address: Register,
        protocol: Protocol,
    },
    /// A copy of the packet; the packet itself goes on.
    Duplicate {
        address: Register,
        device: Register,
    },
    /// Writes into the TCP header; its checksum stays right.
    SetTransport {
        offset: u32,
        length: u32,
        from: Register,
    },
    Tproxy {
        protocol: Protocol,
        address: Register,
        port: Register,
    },
    SourceNat {
        protocol: Protocol,
        address: Register,
    },
    RejectWithReset,
    /// Anything that is not ours: the name and the attributes as they are.
    Other {
        name: String,
        attributes: Vec<u8>,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MetaKey {
    /// The link layer's protocol number.
    Protocol,
    Mark,
    InputName,
    OutputName,
    Nfproto,
    L4Protocol,
    Other(u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Base {
    Network,
    Transport,
    Other(u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SocketKey {
    Transparent,
    Wildcard,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Other(u32),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    Other(u32),
}

/// A set, or a map if it has a data type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Set {
    pub(crate) key: DataType,
    pub(crate) data: Option<DataType>,
    /// Besides `map`; ours have none.
    pub(crate) flags: u32,
    pub(crate) elements: Elements,
}

/// What is in a set, by key.
pub(crate) type Elements = BTreeMap<Vec<u8>, Element>;

impl Set {
    pub(crate) fn of(key: DataType, data: Option<DataType>) -> Self {
        Self {
            key,
            data,
            flags: 0,
            elements: Elements::new(),
        }
    }

    /// The same set but for what is in it.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        (self.key, self.data, self.flags) == (other.key, other.data, other.flags)
    }
}

/// What a key of a set stands for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Element {
    /// Empty unless the set is a map.
    pub(crate) data: Vec<u8>,
    /// Flags, timeouts, counters, comments: attributes as they are; ours have
    /// none.
    pub(crate) other: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DataType {
    Ipv4Address,
    Ipv6Address,
    Service,
    InterfaceIndex,
    /// nft's number and the length.
    Other(u32, u32),
}

impl Rule {
    /// Names of the sets and chains that it refers to.
    pub(crate) fn refers_to(&self) -> impl Iterator<Item = &str> {
        self.expressions
            .iter()
            .filter_map(|expression| match expression {
                Expression::Lookup { set, .. } => Some(set.as_str()),
                Expression::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => {
                    Some(chain.as_str())
                }
                _ => None,
            })
    }
}

/// An address as a key of a set.
pub(crate) fn address_key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
