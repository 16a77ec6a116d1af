//! A rule as text: the virtual machine's program is run with words instead of
//! values.

use std::collections::BTreeMap;

use super::{
    super::model::{Base, Expression, MetaKey, Operator, Protocol, Register, SocketKey, Verdict},
    array, hexadecimal,
};
use crate::nft::model::DataType;

/// What a register holds.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    kind: Kind,
    /// Of a prefix match.
    prefix: Option<u32>,
}

/// How values that are compared with it are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Data(DataType),
    Name,
    Nfproto,
    EtherType,
    Transport,
    Bits,
    Number,
    Bytes,
}

/// The rule in nft's words.
pub(super) fn text(expressions: &[Expression]) -> String {
    let mut registers = Registers::default();
    let words = expressions
        .iter()
        .filter_map(|expression| registers.step(expression));
    Vec::from_iter(words).join(" ")
}

#[derive(Debug, Default)]
struct Registers(BTreeMap<Register, Word>);

impl Registers {
    /// What the expression adds to the text, if it does not just load something.
    fn step(&mut self, expression: &Expression) -> Option<String> {
        match expression {
            Expression::Meta { key, to } => self.set(*to, meta_text(*key), meta_kind(*key)),
            Expression::Payload {
                base,
                offset,
                length,
                to,
            } => {
                let (text, kind) = payload(*base, *offset, *length);
                self.set(*to, text, kind)
            }
            Expression::Socket { key, to } => self.set(*to, socket(*key), Kind::Number),
            Expression::CtStatus { to } => self.set(*to, "ct status".into(), Kind::Bits),
            Expression::Load { to, value } => {
                let text = literal(value);
                self.set(*to, text, Kind::Bytes)
            }
            Expression::Bitwise {
                from,
                to,
                mask,
                xor,
            } => self.bitwise(*from, *to, mask, xor),
            Expression::Lookup {
                set,
                from,
                to: Some(to),
                ..
            } => {
                let text = format!("{} map @{set}", self.text(*from));
                self.set(*to, text, Kind::Bytes)
            }
            statement => Some(self.statement(statement)),
        }
    }

    fn statement(&self, expression: &Expression) -> String {
        match expression {
            Expression::SetMeta { key, from } => {
                format!("{} set {}", meta_text(*key), self.text(*from))
            }
            Expression::Compare {
                from,
                operator,
                value,
            } => self.compare(*from, *operator, value),
            Expression::Range {
                from,
                negated,
                low,
                high,
            } => {
                let (low, high) = (self.value(*from, low), self.value(*from, high));
                format!("{} {}{low}-{high}", self.text(*from), not(*negated))
            }
            Expression::Lookup {
                set, from, negated, ..
            } => format!("{} {}@{set}", self.text(*from), not(*negated)),
            Expression::Verdict(verdict) => verdict_text(verdict),
            Expression::Forward {
                device,
                address,
                protocol,
            } => {
                let (address, device) = (self.text(*address), self.text(*device));
                format!("fwd {} to {address} device {device}", family(*protocol))
            }
            Expression::Duplicate { address, device } => {
                let (address, device) = (self.text(*address), self.text(*device));
                format!("dup to {address} device {device}")
            }
            Expression::SetTransport {
                offset,
                length,
                from,
            } => {
                let (field, _) = payload(Base::Transport, *offset, *length);
                format!("{field} set {}", self.text(*from))
            }
            Expression::Tproxy {
                protocol,
                address,
                port,
            } => {
                let (address, port) = (self.text(*address), self.text(*port));
                format!("tproxy {} to {address} port {port}", family(*protocol))
            }
            Expression::SourceNat { protocol, address } => {
                format!("snat {} to {}", family(*protocol), self.text(*address))
            }
            Expression::RejectWithReset => "reject with tcp reset".into(),
            Expression::Other { name, attributes } => {
                format!("[{name} {}]", hexadecimal(attributes))
            }
            loaded => format!("{loaded:?}"),
        }
    }

    fn set(&mut self, to: Register, text: String, kind: Kind) -> Option<String> {
        let word = Word {
            text,
            kind,
            prefix: None,
        };
        self.0.insert(to, word);
        None
    }

    fn text(&self, register: Register) -> String {
        self.0.get(&register).map_or_else(
            || format!("register {}", register.0),
            |word| word.text.clone(),
        )
    }

    fn value(&self, register: Register, value: &[u8]) -> String {
        let kind = self.0.get(&register).map_or(Kind::Bytes, |word| word.kind);
        kind.value(value)
    }

    fn compare(&self, from: Register, operator: Operator, value: &[u8]) -> String {
        let operator = match operator {
            Operator::Equal => String::new(),
            Operator::NotEqual => "!= ".into(),
            Operator::Other(number) => format!("operator {number} "),
        };
        let prefix = self.0.get(&from).and_then(|word| word.prefix);
        let prefix = prefix
            .map(|length| format!("/{length}"))
            .unwrap_or_default();
        let (text, value) = (self.text(from), self.value(from, value));
        format!("{text} {operator}{value}{prefix}")
    }

    fn bitwise(&mut self, from: Register, to: Register, mask: &[u8], xor: &[u8]) -> Option<String> {
        let source = self.0.get(&from).cloned();
        let plain = xor.iter().all(|byte| *byte == 0);
        let kind = source.as_ref().map_or(Kind::Bytes, |word| word.kind);
        let prefix = matches!(kind, Kind::Data(_))
            .then(|| prefix(mask))
            .flatten();
        if let (Some(mut word), true, Some(_)) = (source, plain, prefix) {
            word.prefix = prefix;
            self.0.insert(to, word);
            return None;
        }
        let (text, mask) = (self.text(from), number(mask));
        let change = if plain {
            String::new()
        } else {
            format!(" | {}", number(xor))
        };
        self.set(to, format!("{text} & {mask}{change}"), kind)
    }
}

impl Kind {
    fn value(self, bytes: &[u8]) -> String {
        let known = match (self, bytes) {
            (Self::Data(kind), _) => Some(kind.value(bytes)),
            (Self::Name, _) => Some(format!("{:?}", super::super::attributes::text(bytes))),
            (Self::Nfproto, [2]) => Some("ipv4".into()),
            (Self::Nfproto, [10]) => Some("ipv6".into()),
            (Self::EtherType, [0x08, 0x00]) => Some("ip".into()),
            (Self::EtherType, [0x86, 0xdd]) => Some("ip6".into()),
            (Self::Transport, [6]) => Some("tcp".into()),
            (Self::Number, [byte]) => Some(byte.to_string()),
            (Self::Bits, _) => Some(number(bytes)),
            _ => None,
        };
        known.unwrap_or_else(|| hexadecimal(bytes))
    }
}

/// A constant by its length: the kernel does not say what it is meant as.
fn literal(bytes: &[u8]) -> String {
    match bytes.len() {
        2 => DataType::Service.value(bytes),
        16 => DataType::Ipv6Address.value(bytes),
        // An address or an index: an index is small.
        4 => array(bytes)
            .map(u32::from_ne_bytes)
            .filter(|index| *index < 0x10_0000)
            .map_or_else(
                || DataType::Ipv4Address.value(bytes),
                |index| format!("index {index}"),
            ),
        _ => hexadecimal(bytes),
    }
}

fn number(bytes: &[u8]) -> String {
    array(bytes).map_or_else(
        || hexadecimal(bytes),
        |four| format!("{:#x}", u32::from_ne_bytes(four)),
    )
}

/// The length of a mask of ones followed by zeros.
fn prefix(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let leading = mask
        .iter()
        .try_fold(0, |sum, byte| match byte.leading_ones() {
            8 => Ok(sum + 8),
            some => Err(sum + some),
        });
    let leading = leading.unwrap_or_else(|sum| sum);
    (leading == ones).then_some(ones)
}

fn meta_text(key: MetaKey) -> String {
    match key {
        MetaKey::Protocol => "meta protocol".into(),
        MetaKey::Mark => "meta mark".into(),
        MetaKey::InputName => "iifname".into(),
        MetaKey::OutputName => "oifname".into(),
        MetaKey::Nfproto => "meta nfproto".into(),
        MetaKey::L4Protocol => "meta l4proto".into(),
        MetaKey::Other(number) => format!("meta {number}"),
    }
}

fn meta_kind(key: MetaKey) -> Kind {
    match key {
        MetaKey::Protocol => Kind::EtherType,
        MetaKey::Mark => Kind::Bits,
        MetaKey::InputName | MetaKey::OutputName => Kind::Name,
        MetaKey::Nfproto => Kind::Nfproto,
        MetaKey::L4Protocol => Kind::Transport,
        MetaKey::Other(_) => Kind::Bytes,
    }
}

fn payload(base: Base, offset: u32, length: u32) -> (String, Kind) {
    let (text, kind) = match (base, offset, length) {
        (Base::Network, 12, 4) => ("ip saddr", DataType::Ipv4Address),
        (Base::Network, 16, 4) => ("ip daddr", DataType::Ipv4Address),
        (Base::Network, 8, 16) => ("ip6 saddr", DataType::Ipv6Address),
        (Base::Network, 24, 16) => ("ip6 daddr", DataType::Ipv6Address),
        (Base::Transport, 0, 2) => ("tcp sport", DataType::Service),
        (Base::Transport, 2, 2) => ("tcp dport", DataType::Service),
        (Base::Transport, 12, 2) => return ("tcp doff+flags".into(), Kind::Bytes),
        (Base::Transport, 13, 1) => return ("tcp flags".into(), Kind::Bytes),
        _ => return (format!("@{base:?},{offset},{length}"), Kind::Bytes),
    };
    (text.into(), Kind::Data(kind))
}

fn socket(key: SocketKey) -> String {
    match key {
        SocketKey::Transparent => "socket transparent".into(),
        SocketKey::Wildcard => "socket wildcard".into(),
    }
}

fn family(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Ipv4 => "ip",
        Protocol::Ipv6 => "ip6",
    }
}

fn verdict_text(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Other(number) => format!("verdict {number}"),
    }
}

fn not(negated: bool) -> &'static str {
    if negated { "!= " } else { "" }
}
