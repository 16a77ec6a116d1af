//! Rules put together from nft's statements.

use std::net::IpAddr;

pub(super) mod segment;

use super::model::{
    Base, Expression, MetaKey, Operator, Protocol, Register, Rule, SocketKey, Verdict, address_key,
};

const TCP: u8 = 6;
/// `IPS_DST_NAT` of linux/netfilter/nf_conntrack_common.h.
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// Names are compared as the kernel keeps them: 16 bytes, filled with zeros.
const NAME_LENGTH: usize = 16;

impl Protocol {
    pub(super) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The set of this family: `cap4`, `cap6`.
    pub(super) fn set(self, name: &str) -> String {
        match self {
            Self::Ipv4 => format!("{name}4"),
            Self::Ipv6 => format!("{name}6"),
        }
    }

    fn ether_type(self) -> [u8; 2] {
        match self {
            Self::Ipv4 => [0x08, 0x00],
            Self::Ipv6 => [0x86, 0xdd],
        }
    }

    fn nfproto(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// Which end of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Source,
    Destination,
}

/// A rule under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Statements(Vec<Expression>);

impl Statements {
    /// Packets of a protocol, where the link layer says it (family netdev).
    pub(super) fn ether(self, protocol: Protocol) -> Self {
        self.meta(MetaKey::Protocol)
            .equal(protocol.ether_type().into())
    }

    /// Packets of a protocol (family inet).
    pub(super) fn nfproto(self, protocol: Protocol) -> Self {
        self.meta(MetaKey::Nfproto).equal(vec![protocol.nfproto()])
    }

    pub(super) fn tcp(self) -> Self {
        self.meta(MetaKey::L4Protocol).equal(vec![TCP])
    }

    pub(super) fn input(self, link: &str) -> Self {
        self.meta(MetaKey::InputName).equal(name(link))
    }

    pub(super) fn output(self, link: &str) -> Self {
        self.meta(MetaKey::OutputName).equal(name(link))
    }

    pub(super) fn port(self, end: End, port: u16) -> Self {
        self.load_port(end).equal(port.to_be_bytes().into())
    }

    pub(super) fn port_not(self, end: End, port: u16) -> Self {
        self.load_port(end)
            .compare(Operator::NotEqual, port.to_be_bytes().into())
    }

    pub(super) fn port_outside(self, end: End, low: u16, high: u16) -> Self {
        self.load_port(end).and(Expression::Range {
            from: Register::ONE,
            negated: true,
            low: low.to_be_bytes().into(),
            high: high.to_be_bytes().into(),
        })
    }

    pub(super) fn port_not_in(self, end: End, set: &str) -> Self {
        self.load_port(end).lookup(set, true)
    }

    pub(super) fn address_in(self, end: End, protocol: Protocol, set: &str) -> Self {
        self.load_address(end, protocol, Register::ONE)
            .lookup(&protocol.set(set), false)
    }

    /// An address within a prefix of `length` bits.
    pub(super) fn address_within(self, end: End, prefix: IpAddr, length: u32) -> Self {
        let value = address_key(prefix);
        let mask = mask(length, value.len());
        self.load_address(end, Protocol::of(prefix), Register::ONE)
            .mask(mask)
            .equal(value)
    }

    /// Connections whose destination was translated.
    pub(super) fn destination_translated(self) -> Self {
        let bits = DESTINATION_TRANSLATED.to_ne_bytes();
        self.and(Expression::CtStatus { to: Register::ONE })
            .mask(bits.into())
            .compare(Operator::NotEqual, vec![0; 4])
    }

    /// Packets of a connection of a transparent socket, listeners apart.
    pub(super) fn transparent_connection(self) -> Self {
        self.transparent()
            .socket(SocketKey::Wildcard)
            .equal(vec![0])
    }

    /// Packets of a transparent socket, be it a listener, or of a connection
    /// that is not there yet or not any more.
    pub(super) fn transparent(self) -> Self {
        self.socket(SocketKey::Transparent).equal(vec![1])
    }

    /// Packets that no socket but a listener is there for.
    pub(super) fn listener(self) -> Self {
        self.socket(SocketKey::Wildcard).equal(vec![1])
    }

    /// Packets whose mark has this value under the mask.
    pub(super) fn marked(self, value: u32, mask: u32) -> Self {
        self.meta(MetaKey::Mark)
            .mask(mask.to_ne_bytes().into())
            .equal((value & mask).to_ne_bytes().into())
    }

    /// Changes the bits of the mark that are in `mask`.
    pub(super) fn set_mark(self, value: u32, mask: u32) -> Self {
        self.meta(MetaKey::Mark)
            .and(Expression::Bitwise {
                from: Register::ONE,
                to: Register::ONE,
                mask: (!mask).to_ne_bytes().into(),
                xor: (value & mask).to_ne_bytes().into(),
            })
            .and(Expression::SetMeta {
                key: MetaKey::Mark,
                from: Register::ONE,
            })
    }

    /// Out of the link with this index, to the neighbour with this address.
    pub(super) fn forward(self, link: u32, neighbour: IpAddr) -> Rule {
        self.load(Register::ONE, link.to_ne_bytes().into())
            .load(Register::TWO, address_key(neighbour))
            .forward_by_registers(Protocol::of(neighbour))
    }

    /// A copy out of the link with this index, to the neighbour with this
    /// address.
    pub(super) fn duplicate(self, link: u32, neighbour: IpAddr) -> Rule {
        self.load(Register::ONE, address_key(neighbour))
            .load(Register::TWO, link.to_ne_bytes().into())
            .done(Expression::Duplicate {
                address: Register::ONE,
                device: Register::TWO,
            })
    }

    /// Out of the link that a map has for the destination, to the destination.
    pub(super) fn forward_by(self, protocol: Protocol, map: &str) -> Rule {
        self.load_address(End::Destination, protocol, Register::ONE)
            .and(Expression::Lookup {
                set: protocol.set(map),
                from: Register::ONE,
                to: Some(Register::ONE),
                negated: false,
            })
            .load_address(End::Destination, protocol, Register::TWO)
            .forward_by_registers(protocol)
    }

    /// Hands the packet to the socket that listens there, or goes on with the
    /// next rule if none does.
    pub(super) fn tproxy(self, address: IpAddr, port: u16) -> Self {
        self.load(Register::ONE, address_key(address))
            .load(Register::TWO, port.to_be_bytes().into())
            .and(Expression::Tproxy {
                protocol: Protocol::of(address),
                address: Register::ONE,
                port: Register::TWO,
            })
    }

    pub(super) fn source_nat(self, address: IpAddr) -> Rule {
        self.load(Register::ONE, address_key(address))
            .done(Expression::SourceNat {
                protocol: Protocol::of(address),
                address: Register::ONE,
            })
    }

    /// Binds the connection to the source that it has.
    pub(super) fn keep_source(self, protocol: Protocol) -> Rule {
        self.load_address(End::Source, protocol, Register::ONE)
            .done(Expression::SourceNat {
                protocol,
                address: Register::ONE,
            })
    }

    pub(super) fn accept(self) -> Rule {
        self.done(Expression::Verdict(Verdict::Accept))
    }

    pub(super) fn drop(self) -> Rule {
        self.done(Expression::Verdict(Verdict::Drop))
    }

    pub(super) fn jump(self, chain: &str) -> Rule {
        self.done(Expression::Verdict(Verdict::Jump(chain.into())))
    }

    pub(super) fn goto(self, chain: &str) -> Rule {
        self.done(Expression::Verdict(Verdict::Goto(chain.into())))
    }

    pub(super) fn back(self) -> Rule {
        self.done(Expression::Verdict(Verdict::Return))
    }

    pub(super) fn reject(self) -> Rule {
        self.done(Expression::RejectWithReset)
    }

    /// What there is so far, as a rule.
    pub(super) fn rule(self) -> Rule {
        Rule {
            expressions: self.0,
            userdata: Vec::new(),
        }
    }

    fn done(self, last: Expression) -> Rule {
        self.and(last).rule()
    }

    fn and(mut self, expression: Expression) -> Self {
        self.0.push(expression);
        self
    }

    fn meta(self, key: MetaKey) -> Self {
        let to = Register::ONE;
        self.and(Expression::Meta { key, to })
    }

    fn load(self, to: Register, value: Vec<u8>) -> Self {
        self.and(Expression::Load { to, value })
    }

    fn load_port(self, end: End) -> Self {
        let offset = match end {
            End::Source => 0,
            End::Destination => 2,
        };
        self.load_transport(offset, 2)
    }

    fn load_transport(self, offset: u32, length: u32) -> Self {
        self.and(Expression::Payload {
            base: Base::Transport,
            offset,
            length,
            to: Register::ONE,
        })
    }

    fn load_address(self, end: End, protocol: Protocol, to: Register) -> Self {
        let (offset, length) = match (protocol, end) {
            (Protocol::Ipv4, End::Source) => (12, 4),
            (Protocol::Ipv4, End::Destination) => (16, 4),
            (Protocol::Ipv6, End::Source) => (8, 16),
            (Protocol::Ipv6, End::Destination) => (24, 16),
        };
        self.and(Expression::Payload {
            base: Base::Network,
            offset,
            length,
            to,
        })
    }

    fn lookup(self, set: &str, negated: bool) -> Self {
        self.and(Expression::Lookup {
            set: set.into(),
            from: Register::ONE,
            to: None,
            negated,
        })
    }

    fn socket(self, key: SocketKey) -> Self {
        let to = Register::ONE;
        self.and(Expression::Socket { key, to })
    }

    /// Keeps these bits of what was loaded.
    fn mask(self, mask: Vec<u8>) -> Self {
        self.and(Expression::Bitwise {
            from: Register::ONE,
            to: Register::ONE,
            xor: vec![0; mask.len()],
            mask,
        })
    }

    fn equal(self, value: Vec<u8>) -> Self {
        self.compare(Operator::Equal, value)
    }

    fn compare(self, operator: Operator, value: Vec<u8>) -> Self {
        self.and(Expression::Compare {
            from: Register::ONE,
            operator,
            value,
        })
    }

    fn forward_by_registers(self, protocol: Protocol) -> Rule {
        self.done(Expression::Forward {
            device: Register::ONE,
            address: Register::TWO,
            protocol,
        })
    }
}

fn name(link: &str) -> Vec<u8> {
    let mut bytes = link.as_bytes().to_vec();
    bytes.resize(NAME_LENGTH, 0);
    bytes
}

fn mask(length: u32, bytes: usize) -> Vec<u8> {
    let ones = u128::MAX.checked_shl(128 - length).unwrap_or(0);
    ones.to_be_bytes().into_iter().take(bytes).collect()
}
