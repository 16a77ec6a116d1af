//! Rulesets as text, close to what `nft list ruleset` prints.

use std::{
    fmt::{self, Display, Formatter},
    net::{Ipv4Addr, Ipv6Addr},
};

use super::model::{
    Chain, ChainKind, DataType, Element, Family, Hook, HookPoint, Policy, Rule, Ruleset, Set, Table,
};

mod rule;

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for ((family, name), table) in &self.tables {
            writeln!(f, "table {family} {name} {{")?;
            write!(f, "{table}")?;
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet => f.write_str("inet"),
            Self::Ipv4 => f.write_str("ip"),
            Self::Arp => f.write_str("arp"),
            Self::Netdev => f.write_str("netdev"),
            Self::Bridge => f.write_str("bridge"),
            Self::Ipv6 => f.write_str("ip6"),
            Self::Other(number) => write!(f, "family {number}"),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(comment) = &self.comment {
            writeln!(f, "\tcomment {comment:?}")?;
        }
        if self.flags != 0 {
            writeln!(f, "\tflags {:#x}", self.flags)?;
        }
        for (name, set) in &self.sets {
            let kind = if set.data.is_some() { "map" } else { "set" };
            writeln!(f, "\t{kind} {name} {{\n{set}\t}}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "\tchain {name} {{\n{chain}\t}}")?;
        }
        Ok(())
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(hook) = &self.hook {
            writeln!(f, "\t\t{hook}")?;
        }
        self.rules
            .iter()
            .try_for_each(|rule| writeln!(f, "\t\t{rule}"))
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (kind, point) = (&self.kind, self.point);
        write!(f, "type {kind} hook {point}")?;
        if !self.devices.is_empty() {
            let names = Vec::from_iter(self.devices.iter().map(String::as_str));
            write!(f, " devices = {{ {} }}", names.join(", "))?;
        }
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, " priority {}; policy {policy};", self.priority)
    }
}

impl Display for ChainKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Other(kind) => kind,
        })
    }
}

impl Display for HookPoint {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ingress => f.write_str("ingress"),
            Self::Prerouting => f.write_str("prerouting"),
            Self::Output => f.write_str("output"),
            Self::Postrouting => f.write_str("postrouting"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "\t\ttype {}", self.key)?;
        match self.data {
            Some(data) => writeln!(f, " : {data}")?,
            None => writeln!(f)?,
        }
        if self.flags != 0 {
            writeln!(f, "\t\tflags {:#x}", self.flags)?;
        }
        if !self.elements.is_empty() {
            let elements = self.elements.iter();
            let texts = Vec::from_iter(elements.map(|(key, element)| self.element(key, element)));
            writeln!(f, "\t\telements = {{ {} }}", texts.join(", "))?;
        }
        Ok(())
    }
}

impl Set {
    /// One element as text.
    pub(crate) fn element(&self, key: &[u8], element: &Element) -> String {
        let key = self.key.value(key);
        let extra = match element.other.len() {
            0 => String::new(),
            bytes => format!(" (and {bytes} bytes of attributes)"),
        };
        match self.data {
            Some(data) => format!("{key} : {}{extra}", data.value(&element.data)),
            None => format!("{key}{extra}"),
        }
    }
}

impl Display for DataType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4Address => f.write_str("ipv4_addr"),
            Self::Ipv6Address => f.write_str("ipv6_addr"),
            Self::Service => f.write_str("inet_service"),
            Self::InterfaceIndex => f.write_str("iface_index"),
            Self::Other(number, length) => write!(f, "type {number} of {length} bytes"),
        }
    }
}

impl DataType {
    /// A value of this type as text.
    pub(crate) fn value(self, bytes: &[u8]) -> String {
        let text = match self {
            Self::Ipv4Address => {
                array(bytes).map(|octets| Ipv4Addr::from_octets(octets).to_string())
            }
            Self::Ipv6Address => {
                array(bytes).map(|octets| Ipv6Addr::from_octets(octets).to_string())
            }
            Self::Service => array(bytes).map(|two| u16::from_be_bytes(two).to_string()),
            Self::InterfaceIndex => array(bytes).map(|four| u32::from_ne_bytes(four).to_string()),
            Self::Other(..) => None,
        };
        text.unwrap_or_else(|| hexadecimal(bytes))
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&rule::text(&self.expressions))?;
        match self.userdata.len() {
            0 => Ok(()),
            bytes => write!(f, " (and {bytes} bytes of comment)"),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".into()).chain(digits).collect()
}
