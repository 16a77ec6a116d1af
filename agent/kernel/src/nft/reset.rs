//! Connections from before capture: the pod that does not speak hears of it.
//!
//! A segment of a connection that the proxy does not have makes the proxy's
//! kernel reset whoever sent it. Whoever it was sent to would hear nothing, and
//! wait for ever if it has nothing to send. So it gets the segment too, but with
//! other flags, so that nothing of what is in it can be read:
//! - once as RST. If the segment is the one that is expected next, that is all.
//! - once as SYN and ACK, for segments that are not: a keepalive, a probe of a
//!   closed window, something sent again. As RST they would be passed over; a SYN
//!   is answered with where the connection is (RFC 5961, 4.2). That answer is
//!   steered, the proxy does not know it, and its reset is the right one.
//!
//! Both carry URG, which nobody else sends with RST or SYN: the node passes them
//! to captured pods of its own and drops them otherwise ([`super::node`]), so
//! that no payload leaves it.
//!
//! `dup` is not known in family inet, hence the tables of their own. Not every
//! kernel has it: [`Resets::probe`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{
    NftError,
    apply::{Denied, check},
    model::{Chain, ChainKind, Family, Hook, HookPoint, Policy, Protocol, Rule, Ruleset, Table},
    owner, plan,
    proxy::MANGLE,
    statement::{
        End, Statements,
        segment::{ACK, RST, SYN, URG},
    },
};
use crate::{
    client::{Client, ClientError},
    layout::NODE_HOP_V6,
    model::Settings,
};

const LOST: &str = "lost";
const TELL: &str = "tell";
/// Index of the loopback in every namespace.
const LOOPBACK: u32 = 1;

/// Flags of what is sent to whom the segment was for.
const TOLD: [u8; 2] = [RST | URG, SYN | ACK | URG];

/// For which protocols the kernel takes these rules.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Resets {
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

impl Resets {
    /// Asks the kernel, which changes nothing for it. Also what it refuses, in
    /// words.
    pub(crate) fn probe(
        client: &mut Client,
        settings: &Settings,
    ) -> Result<(Self, Vec<String>), ClientError> {
        let mut limits = Vec::new();
        let mut takes = |protocol| {
            let why = refusal(client, settings, protocol)?;
            limits.extend(why.as_ref().map(|why| limit(protocol, why)));
            Ok::<_, ClientError>(why.is_none())
        };
        let resets = Self {
            ipv4: takes(Protocol::Ipv4)?,
            ipv6: takes(Protocol::Ipv6)?,
        };
        Ok((resets, limits))
    }

    pub(super) fn of(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Ipv4 => self.ipv4,
            Protocol::Ipv6 => self.ipv6,
        }
    }
}

fn refusal(
    client: &mut Client,
    settings: &Settings,
    protocol: Protocol,
) -> Result<Option<String>, ClientError> {
    // Not the name of ours: somebody else may have one in that family.
    let settings = Settings {
        nft_table: format!("{}-probe", settings.nft_table),
        ..settings.clone()
    };
    let Some(wanted) = table(&settings, protocol, LOOPBACK) else {
        let mask = settings.mark_mask;
        return Ok(Some(format!("the mark mask {mask:#x} has one bit only")));
    };
    let id = (family(protocol), settings.nft_table);
    let wanted = Ruleset {
        tables: BTreeMap::from([(id, wanted)]),
    };
    match check(client, &plan(&wanted, &Ruleset::default())) {
        Ok(()) => Ok(None),
        Err(NftError::Client(error)) => Err(error),
        Err(NftError::Transaction(refused)) => Ok(Some(refused.to_string())),
        Err(NftError::Denied(denied)) => Ok(denied.first().map(|denied| {
            let Denied { change, refused } = denied;
            format!("the kernel would not {change}: {refused}")
        })),
    }
}

fn limit(protocol: Protocol, why: &str) -> String {
    let protocol = match protocol {
        Protocol::Ipv4 => "IPv4",
        Protocol::Ipv6 => "IPv6",
    };
    format!(
        "a pod that only receives on a live {protocol} connection is not told when capture ends \
         it, and waits until it sends something: {why}"
    )
}

/// The table of one protocol in the proxy's namespace. `link_out`: the index of
/// the proxy's end of that link. None if there are too few marks.
pub(super) fn table(settings: &Settings, protocol: Protocol, link_out: u32) -> Option<Table> {
    let marks = marks(settings.mark, settings.mark_mask)?;
    let node = match protocol {
        Protocol::Ipv4 => IpAddr::from(settings.next_hop),
        Protocol::Ipv6 => NODE_HOP_V6.into(),
    };
    let copies = marks.map(|mark| {
        Statements::default()
            .set_mark(mark, settings.mark_mask)
            .duplicate(link_out, node)
    });
    let unmark = Statements::default().set_mark(0, settings.mark_mask).rule();
    let told = marks.iter().zip(TOLD).map(|(mark, flags)| {
        Statements::default()
            .output(&settings.link_out)
            .marked(*mark, settings.mark_mask)
            .tcp()
            .set_flags(flags)
    });
    Some(Table {
        comment: Some(owner(settings)),
        chains: BTreeMap::from([
            ("prerouting".into(), before_mangle(settings)),
            (LOST.into(), plain(lost(settings))),
            (TELL.into(), plain(copies.into_iter().chain([unmark]))),
            (
                "output".into(),
                base(HookPoint::Output, MANGLE, told.collect()),
            ),
        ]),
        ..Table::default()
    })
}

pub(super) fn family(protocol: Protocol) -> Family {
    match protocol {
        Protocol::Ipv4 => Family::Ipv4,
        Protocol::Ipv6 => Family::Ipv6,
    }
}

/// Segments of connections. HBONE is the proxy's own.
fn before_mangle(settings: &Settings) -> Chain {
    let segment = |link: &str| {
        Statements::default()
            .input(link)
            .tcp()
            .without_flags(SYN | RST)
    };
    let inward = segment(&settings.link_in).port_not(End::Destination, settings.ports.hbone);
    let outward = segment(&settings.link_out);
    let rules = vec![inward.jump(LOST), outward.jump(LOST)];
    base(HookPoint::Prerouting, MANGLE - 1, rules)
}

/// Those that the proxy does not have. A connection that just begins or that has
/// ended has a socket too, but not one that can be asked about wildcards. The
/// others are marked here already: each question is a look-up of the socket.
fn lost(settings: &Settings) -> [Rule; 3] {
    let had = Statements::default().transparent();
    [
        Statements::default().listener().goto(TELL),
        had.set_mark(settings.mark, settings.mark_mask).back(),
        Statements::default().goto(TELL),
    ]
}

fn plain(rules: impl IntoIterator<Item = Rule>) -> Chain {
    Chain {
        hook: None,
        rules: rules.into_iter().collect(),
    }
}

fn base(point: HookPoint, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        hook: Some(Hook {
            kind: ChainKind::Filter,
            point,
            priority,
            devices: BTreeSet::new(),
            policy: Policy::Accept,
        }),
        rules,
    }
}

/// Two marks under the mask that are neither none nor `mark`: that one with one
/// or both of the mask's lowest bits turned over. None if it has one bit only.
fn marks(mark: u32, mask: u32) -> Option<[u32; 2]> {
    let lowest = |bits: u32| bits & bits.wrapping_neg();
    let one = lowest(mask);
    let two = lowest(mask ^ one);
    let turned = [one, two, one | two].map(|bits| (mark & mask) ^ bits);
    let mut usable = turned.into_iter().filter(|other| *other != 0);
    let marks = [usable.next()?, usable.next()?];
    (two != 0).then_some(marks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::marks;

    #[test]
    fn the_usual_mark_has_two_others() {
        assert_eq!(marks(0x111, 0xfff), Some([0x110, 0x113]));
        assert_eq!(marks(1, 3), Some([3, 2]));
        assert_eq!(marks(1, 1), None);
    }

    proptest! {
        #[test]
        fn marks_are_ours_and_not_each_other(mark: u32, mask: u32) {
            let mark = mark & mask;
            prop_assume!(mark != 0);
            let marks = marks(mark, mask);
            prop_assert_eq!(marks.is_some(), mask.count_ones() > 1);
            if let Some([one, two]) = marks {
                prop_assert!(one & !mask == 0 && two & !mask == 0);
                prop_assert!(one != two && one != mark && two != mark && one != 0 && two != 0);
            }
        }
    }
}
