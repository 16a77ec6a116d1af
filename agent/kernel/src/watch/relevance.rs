//! Which announcements of the kernel concern us.

use std::net::IpAddr;

use crate::model::Settings;

const HEADER: usize = 16;
const NEW_ROUTE: u16 = 24;
const DEL_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
/// `struct rtmsg` and `struct ndmsg`.
const OBJECT: usize = 12;
const PROTOCOL: usize = HEADER + 5;
const NDA_DST: u16 = 1;
const RTA_TABLE: u16 = 15;
/// Every message about an object of a table names the table first.
const NFT_TABLE: u16 = 1;
/// `NFNL_SUBSYS_NFTABLES`, and `NFT_MSG_NEWGEN` in it, which names none.
const NFTABLES: u16 = 10;
const NEW_GENERATION: u16 = (NFTABLES << 8) | 15;
const NFGENMSG: usize = 4;

#[derive(Debug)]
pub(super) struct Relevance {
    hops: Vec<Vec<u8>>,
    protocol: u8,
    tables: [u32; 3],
    nft_table: Vec<u8>,
}

impl Relevance {
    pub(super) fn new(settings: &Settings, hops: [IpAddr; 3]) -> Self {
        let octets = |hop| match hop {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let mut nft_table = settings.nft_table.clone().into_bytes();
        nft_table.push(0);
        Self {
            hops: hops.into_iter().map(octets).collect(),
            protocol: settings.protocol,
            tables: [
                settings.pod_table,
                settings.local_table,
                settings.return_table,
            ],
            nft_table,
        }
    }

    /// Whether any message of a datagram may be about an object of ours. What
    /// cannot be understood may be.
    pub(super) fn concerns_us(&self, mut datagram: &[u8]) -> bool {
        while !datagram.is_empty() {
            let Some((message, rest)) = split(datagram) else {
                return true;
            };
            if self.message(message).unwrap_or(true) {
                return true;
            }
            datagram = rest;
        }
        false
    }

    fn message(&self, message: &[u8]) -> Option<bool> {
        let kind = u16_at(message, 4)?;
        Some(match kind {
            NEW_ROUTE | DEL_ROUTE => {
                let table = attribute(message, HEADER + OBJECT, RTA_TABLE)?;
                *message.get(PROTOCOL)? == self.protocol
                    || self.tables.iter().any(|ours| table == ours.to_ne_bytes())
            }
            NEW_NEIGHBOUR..=GET_NEIGHBOUR => {
                let address = attribute(message, HEADER + OBJECT, NDA_DST)?;
                self.hops.iter().any(|hop| hop == address)
            }
            NEW_GENERATION => false,
            kind if kind >> 8 == NFTABLES => {
                attribute(message, HEADER + NFGENMSG, NFT_TABLE)? == self.nft_table
            }
            _ => true,
        })
    }
}

fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?)).ok()?;
    let message = datagram.get(..length).filter(|_| length >= HEADER)?;
    let rest = datagram.get(length.next_multiple_of(4)..);
    Some((message, rest.unwrap_or_default()))
}

fn attribute(message: &[u8], from: usize, wanted: u16) -> Option<&[u8]> {
    let mut attributes = message.get(from..)?;
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if u16_at(attributes, 2)? & 0x3fff == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relevance() -> Relevance {
        let settings = Settings::default();
        let hop = IpAddr::from(settings.next_hop);
        Relevance::new(&settings, [hop; 3])
    }

    fn message(kind: u16, fixed: usize, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + fixed];
        for (kind, value) in attributes {
            bytes.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_what_is_ours_wakes() {
        let relevance = relevance();
        let route = |table: u32| message(NEW_ROUTE, OBJECT, &[(RTA_TABLE, &table.to_ne_bytes())]);
        let nft = |table: &[u8]| message((NFTABLES << 8) | 6, NFGENMSG, &[(NFT_TABLE, table)]);
        let neighbour = |address: [u8; 4]| message(NEW_NEIGHBOUR, OBJECT, &[(NDA_DST, &address)]);
        assert!(!relevance.concerns_us(&route(254)));
        assert!(relevance.concerns_us(&route(8301)));
        assert!(!relevance.concerns_us(&nft(b"kube-proxy\0")));
        assert!(relevance.concerns_us(&nft(b"sluice\0")));
        assert!(!relevance.concerns_us(&neighbour([10, 0, 0, 1])));
        assert!(relevance.concerns_us(&neighbour([169, 254, 0, 1])));
        assert!(!relevance.concerns_us(&message(NEW_GENERATION, NFGENMSG, &[])));
        let both = [route(254), message(17, 16, &[])].concat();
        assert!(relevance.concerns_us(&both), "a link that goes");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            relevance().concerns_us(&bytes);
        }
    }
}
