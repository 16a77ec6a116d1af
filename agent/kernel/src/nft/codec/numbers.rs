//! The kernel's and nft's numbers for our words.

use super::super::model::{
    Base, DataType, Family, HookPoint, MetaKey, Operator, Protocol, SocketKey,
};

impl From<Family> for u8 {
    fn from(family: Family) -> Self {
        match family {
            Family::Inet => 1,
            Family::Ipv4 => 2,
            Family::Arp => 3,
            Family::Netdev => 5,
            Family::Bridge => 7,
            Family::Ipv6 => 10,
            Family::Other(number) => number,
        }
    }
}

impl From<u8> for Family {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Inet,
            2 => Self::Ipv4,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ipv6,
            number => Self::Other(number),
        }
    }
}

impl HookPoint {
    pub(super) fn number(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Ingress, Family::Netdev) | (Self::Prerouting, _) => 0,
            (Self::Ingress, _) => 5,
            (Self::Output, _) => 3,
            (Self::Postrouting, _) => 4,
            (Self::Other(number), _) => number,
        }
    }

    pub(super) fn of(number: u32, family: Family) -> Self {
        match (number, family) {
            (0, Family::Netdev) | (5, Family::Inet) => Self::Ingress,
            (0, Family::Inet | Family::Ipv4 | Family::Ipv6 | Family::Bridge) => Self::Prerouting,
            (3, Family::Inet | Family::Ipv4 | Family::Ipv6 | Family::Bridge) => Self::Output,
            (4, Family::Inet | Family::Ipv4 | Family::Ipv6 | Family::Bridge) => Self::Postrouting,
            (number, _) => Self::Other(number),
        }
    }
}

impl DataType {
    /// nft's number for it, and its length.
    pub(super) fn numbers(self) -> (u32, u32) {
        match self {
            Self::Ipv4Address => (7, 4),
            Self::Ipv6Address => (8, 16),
            Self::Service => (13, 2),
            Self::InterfaceIndex => (20, 4),
            Self::Other(number, length) => (number, length),
        }
    }

    pub(super) fn of(number: u32, length: u32) -> Self {
        [
            Self::Ipv4Address,
            Self::Ipv6Address,
            Self::Service,
            Self::InterfaceIndex,
        ]
        .into_iter()
        .find(|known| known.numbers() == (number, length))
        .unwrap_or(Self::Other(number, length))
    }
}

impl From<MetaKey> for u32 {
    fn from(key: MetaKey) -> Self {
        match key {
            MetaKey::Protocol => 1,
            MetaKey::Mark => 3,
            MetaKey::InputName => 6,
            MetaKey::OutputName => 7,
            MetaKey::Nfproto => 15,
            MetaKey::L4Protocol => 16,
            MetaKey::Other(number) => number,
        }
    }
}

impl From<u32> for MetaKey {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Protocol,
            3 => Self::Mark,
            6 => Self::InputName,
            7 => Self::OutputName,
            15 => Self::Nfproto,
            16 => Self::L4Protocol,
            number => Self::Other(number),
        }
    }
}

impl From<Base> for u32 {
    fn from(base: Base) -> Self {
        match base {
            Base::Network => 1,
            Base::Transport => 2,
            Base::Other(number) => number,
        }
    }
}

impl From<u32> for Base {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Network,
            2 => Self::Transport,
            number => Self::Other(number),
        }
    }
}

impl From<SocketKey> for u32 {
    fn from(key: SocketKey) -> Self {
        match key {
            SocketKey::Transparent => 0,
            SocketKey::Wildcard => 2,
        }
    }
}

impl From<Operator> for u32 {
    fn from(operator: Operator) -> Self {
        match operator {
            Operator::Equal => 0,
            Operator::NotEqual => 1,
            Operator::Other(number) => number,
        }
    }
}

impl From<u32> for Operator {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Equal,
            1 => Self::NotEqual,
            number => Self::Other(number),
        }
    }
}

impl From<Protocol> for u32 {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Ipv4 => 2,
            Protocol::Ipv6 => 10,
        }
    }
}
