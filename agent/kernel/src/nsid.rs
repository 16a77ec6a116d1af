//! The numbers by which a namespace knows others.

use std::os::fd::AsRawFd as _;

use netlink_packet_core::NLM_F_ACK;
use nix::errno::Errno;

use crate::{
    client::{Client, ClientError, Request},
    netns::Netns,
};

const RTM_GETNSID: u16 = 90;
/// `struct rtgenmsg`, padded.
const HEADER: usize = 4;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The number by which the socket's namespace knows another; none while no link
/// leads into it.
pub(crate) fn number(client: &mut Client, netns: &Netns) -> Result<Option<i32>, ClientError> {
    let mut payload = vec![0; HEADER];
    payload.extend(8_u16.to_ne_bytes());
    payload.extend(NETNSA_FD.to_ne_bytes());
    payload.extend(netns.file().as_raw_fd().to_ne_bytes());
    let request = Request::raw(RTM_GETNSID, NLM_F_ACK, payload);
    let (replies, refused) = client.query(&[request])?;
    match refused.into_iter().next() {
        // It went away just now.
        Some(refused) if refused.errno == Errno::EINVAL => return Ok(None),
        Some(refused) => return Err(refused.into()),
        None => {}
    }
    let number = replies
        .first()
        .and_then(|reply| read_number(&reply.payload));
    Ok(number.filter(|number| *number >= 0))
}

fn read_number(payload: &[u8]) -> Option<i32> {
    let mut attributes = payload.get(HEADER..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == NETNSA_NSID {
            return Some(i32::from_ne_bytes(value.get(..4)?.try_into().ok()?));
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_among_attributes_and_garbage_is_none() {
        let mut payload = vec![0; HEADER];
        payload.extend([8, 0, 9, 0, 1, 2, 3, 4]);
        payload.extend([8, 0, 1, 0]);
        payload.extend(7_i32.to_ne_bytes());
        assert_eq!(read_number(&payload), Some(7));
        for end in 0..payload.len() {
            assert_eq!(read_number(&payload[..end]), None);
        }
        assert_eq!(read_number(&[0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
