//! Netlink framing. Everything is checked: an answer that lies about its
//! lengths is an error, never a panic.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
use nix::errno::Errno;

use super::{ClientError, Refused, Reply, Request};

const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSGERR_ATTR_MSG: u16 = 1;
const ATTRIBUTE_HEADER: usize = 4;

/// What one message of the kernel means to whoever asked.
#[derive(Debug)]
pub(super) enum Answer {
    /// An object.
    Message { reply: Reply, interrupted: bool },
    /// Done, or refused.
    Status {
        index: usize,
        refused: Option<Refused>,
        interrupted: bool,
    },
}

impl Answer {
    /// The listing was changed while it was made.
    pub(super) fn interrupted(&self) -> bool {
        match self {
            Self::Message { interrupted, .. } | Self::Status { interrupted, .. } => *interrupted,
        }
    }
}

/// Appends a request, padded.
pub(super) fn encode(request: &Request, flags: u16, sequence: u32, bytes: &mut Vec<u8>) {
    let length = u32::try_from(HEADER + request.payload.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(request.kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(&request.payload);
    bytes.resize(align(bytes.len()), 0);
}

/// The messages of a datagram that answer the `count` requests from sequence
/// number `first` on; anything else is an answer to a request given up before.
pub(super) fn answers(
    mut bytes: &[u8],
    first: u32,
    count: u32,
) -> Result<Vec<Answer>, ClientError> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let short = || malformed("a message is cut short");
        let length = usize::try_from(u32_at(bytes, 0).ok_or_else(short)?).map_err(|_| short())?;
        let message = bytes
            .get(..length)
            .filter(|message| message.len() >= HEADER)
            .ok_or_else(short)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        let sequence = u32_at(message, 8).ok_or_else(short)?;
        let index = sequence.wrapping_sub(first);
        if index < count {
            let index = usize::try_from(index).map_err(|_| short())?;
            answers.extend(answer(message, index)?);
        }
    }
    Ok(answers)
}

fn answer(message: &[u8], index: usize) -> Result<Option<Answer>, ClientError> {
    let short = || malformed("a message is cut short");
    let kind = u16_at(message, 4).ok_or_else(short)?;
    let flags = u16_at(message, 6).ok_or_else(short)?;
    let interrupted = flags & NLM_F_DUMP_INTR != 0;
    let payload = message.get(HEADER..).unwrap_or_default();
    let status = |attributes: Option<&[u8]>| Answer::Status {
        index,
        refused: refusal(payload, flags, attributes, index),
        interrupted,
    };
    Ok(match kind {
        NLMSG_NOOP => None,
        NLMSG_DONE => Some(status(payload.get(4..))),
        NLMSG_ERROR => Some(status(after_request(payload, flags))),
        _ => Some(Answer::Message {
            reply: Reply {
                index,
                kind,
                payload: payload.to_vec(),
            },
            interrupted,
        }),
    })
}

/// The attributes that follow the copy of the request in an error message.
fn after_request(payload: &[u8], flags: u16) -> Option<&[u8]> {
    let request = if flags & NLM_F_CAPPED == 0 {
        usize::try_from(u32_at(payload, 4)?).ok()?
    } else {
        HEADER
    };
    payload.get(align(request.checked_add(4)?)..)
}

fn refusal(payload: &[u8], flags: u16, attributes: Option<&[u8]>, index: usize) -> Option<Refused> {
    // An empty end of a listing means success.
    let code = u32_at(payload, 0)?.cast_signed();
    (code != 0).then(|| Refused {
        index,
        errno: Errno::from_raw(code.wrapping_neg()),
        message: attributes
            .filter(|_| flags & NLM_F_ACK_TLVS != 0)
            .and_then(explanation),
    })
}

fn explanation(mut attributes: &[u8]) -> Option<String> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & 0x3fff;
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if kind == NLMSGERR_ATTR_MSG {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(align(length)..)?;
    }
}

/// A message's payload as a value.
pub(super) fn decode<M: NetlinkDeserializable>(
    kind: u16,
    payload: &[u8],
) -> Result<M, ClientError> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    header.length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
    M::deserialize(&header, payload).map_err(|error| malformed(&error.to_string()))
}

fn malformed(what: &str) -> ClientError {
    ClientError::Malformed { what: what.into() }
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let request = Request::raw(kind, 0, payload.to_vec());
        let mut bytes = Vec::new();
        encode(&request, flags, sequence, &mut bytes);
        bytes
    }

    fn error(errno: Errno, text: &str) -> Vec<u8> {
        let mut payload = (-(errno as i32)).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        let length = u16::try_from(ATTRIBUTE_HEADER + text.len() + 1).unwrap();
        payload.extend(length.to_ne_bytes());
        payload.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        payload.extend(text.bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn a_refusal_has_the_kernels_words_and_the_requests_index() {
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        let bytes = [
            message(NLMSG_ERROR, NLM_F_CAPPED, 7, &[0; 4 + HEADER]),
            message(NLMSG_ERROR, flags, 8, &error(Errno::EEXIST, "It is there")),
            message(NLMSG_ERROR, flags, 99, &error(Errno::EPERM, "of long ago")),
        ]
        .concat();
        let refusals: Vec<_> = answers(&bytes, 7, 2)
            .unwrap()
            .into_iter()
            .map(|answer| match answer {
                Answer::Status { index, refused, .. } => {
                    (index, refused.map(|refused| refused.to_string()))
                }
                Answer::Message { .. } => panic!("no objects here"),
            })
            .collect();
        let words = "the kernel refused: It is there (File exists, EEXIST)";
        assert_eq!(refusals, [(0, None), (1, Some(words.into()))]);
    }

    #[test]
    fn a_listing_that_changed_says_so() {
        let bytes = message(24, NLM_F_DUMP_INTR, 1, &[1, 2, 3, 4]);
        let answers = answers(&bytes, 1, 1).unwrap();
        assert!(answers[0].interrupted());
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = answers(&bytes, 0, u32::MAX);
        }

        #[test]
        fn no_error_message_panics(payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
            let _ = answers(&message(NLMSG_ERROR, flags, 1, &payload), 1, 1);
            let _ = answers(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, 1, &payload), 1, 1);
        }
    }
}
