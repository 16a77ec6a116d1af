//! Routing rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    IpProtocol, RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage},
};
use nix::errno::Errno;

use crate::{
    address::family,
    client::{Client, ClientError, Reply, Request},
    state::{Action, Family, Rule},
};

const RTM_DELRULE: u16 = 33;

/// A rule with what tells whose it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct RuleFact {
    pub(crate) rule: Rule,
    pub(crate) protocol: u8,
}

/// All rules of one family.
pub(crate) fn list(client: &mut Client, of: Family) -> Result<Vec<RuleFact>, ClientError> {
    let mut message = RuleMessage::default();
    message.header.family = family(of);
    let request = Request::unacknowledged(&RouteNetlinkMessage::GetRule(message), 0);
    match client.dump(&request) {
        Ok(replies) => Ok(replies.iter().filter_map(|reply| fact(reply, of)).collect()),
        Err(error) if matches!(error.errno(), Some(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn fact(reply: &Reply, of: Family) -> Option<RuleFact> {
    let RouteNetlinkMessage::NewRule(message) = reply.decode().ok()? else {
        return None;
    };
    let header = &message.header;
    let mut read = Attributes::default();
    for attribute in &message.attributes {
        read.take(attribute);
    }
    let unspecified = match of {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let action = match (header.action, read.table, read.goto) {
        (RuleAction::ToTable, Some(table), None) => Action::Lookup(table),
        (RuleAction::Goto, _, Some(priority)) => Action::Goto(priority),
        (RuleAction::Nop, _, None) => Action::Nop,
        _ => Action::Other,
    };
    let odd = read.odd
        || header.dst_len != 0
        || header.tos != 0
        || header.flags.contains(RuleFlags::Invert)
        || action == Action::Other;
    Some(RuleFact {
        rule: Rule {
            family: of,
            priority: read.priority,
            source: (header.src_len > 0)
                .then(|| (read.source.unwrap_or(unspecified), header.src_len)),
            iif: read.iif,
            mark: read.mark.map(|mark| (mark, read.mask)),
            tcp: read.tcp,
            action,
            odd: odd.then(|| reply.payload.clone()),
        },
        protocol: read.protocol,
    })
}

struct Attributes {
    priority: u32,
    source: Option<IpAddr>,
    iif: Option<String>,
    mark: Option<u32>,
    mask: u32,
    tcp: bool,
    table: Option<u32>,
    goto: Option<u32>,
    protocol: u8,
    odd: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Self {
            priority: 0,
            source: None,
            iif: None,
            mark: None,
            mask: u32::MAX,
            tcp: false,
            table: None,
            goto: None,
            protocol: 0,
            odd: false,
        }
    }
}

impl Attributes {
    fn take(&mut self, attribute: &RuleAttribute) {
        match attribute {
            RuleAttribute::Priority(priority) => self.priority = *priority,
            RuleAttribute::Source(address) => self.source = Some(*address),
            RuleAttribute::Iifname(name) => self.iif = Some(name.clone()),
            RuleAttribute::FwMark(mark) => self.mark = Some(*mark),
            RuleAttribute::FwMask(mask) => {
                self.mask = *mask;
                self.mark = self.mark.or(Some(0));
            }
            RuleAttribute::IpProtocol(IpProtocol::Tcp) => self.tcp = true,
            RuleAttribute::Table(table) => self.table = Some(*table),
            RuleAttribute::Goto(priority) => self.goto = Some(*priority),
            RuleAttribute::Protocol(protocol) => self.protocol = (*protocol).into(),
            // Listed always; this value is "none".
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => self.odd = true,
        }
    }
}

pub(crate) fn add(rule: &Rule, protocol: u8) -> Request {
    Request::of(
        &RouteNetlinkMessage::NewRule(described(rule, protocol)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

pub(crate) fn remove(rule: &Rule, protocol: u8) -> Request {
    match &rule.odd {
        Some(payload) => Request::raw(RTM_DELRULE, NLM_F_ACK, payload.clone()),
        None => Request::of(&RouteNetlinkMessage::DelRule(described(rule, protocol)), 0),
    }
}

fn described(rule: &Rule, protocol: u8) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: family(rule.family),
        ..RuleHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(protocol.into()));
    if let Some((address, prefix)) = rule.source {
        message.header.src_len = prefix;
        attributes.push(RuleAttribute::Source(address));
    }
    if let Some(name) = &rule.iif {
        attributes.push(RuleAttribute::Iifname(name.clone()));
    }
    if let Some((mark, mask)) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    if rule.tcp {
        attributes.push(RuleAttribute::IpProtocol(IpProtocol::Tcp));
    }
    match rule.action {
        Action::Lookup(table) => {
            message.header.action = RuleAction::ToTable;
            message.header.table = u8::try_from(table).unwrap_or(252);
            attributes.push(RuleAttribute::Table(table));
        }
        Action::Goto(priority) => {
            message.header.action = RuleAction::Goto;
            attributes.push(RuleAttribute::Goto(priority));
        }
        Action::Nop | Action::Other => message.header.action = RuleAction::Nop,
    }
    message
}
