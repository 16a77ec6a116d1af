//! As much of DNS as a resolver in a pod needs (RFC 1035).

use std::net::IpAddr;

const HEADER: usize = 12;
const A: u16 = 1;
const AAAA: u16 = 28;
const IN: u16 = 1;
/// A response, authoritative, recursion wanted and available.
const FLAGS: u16 = 0x8580;
/// The name at the beginning of the question.
const NAME: u16 = 0xc000 | HEADER as u16;
const TTL: u32 = 5;

/// A question about one name.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Question {
    /// In lower case, without the dot at its end.
    pub(super) name: String,
    kind: u16,
    id: [u8; 2],
    /// As it was asked, to be repeated.
    bytes: Vec<u8>,
}

/// What is known about a name.
#[derive(Debug)]
pub(super) enum Answer {
    Addresses(Vec<IpAddr>),
    NoSuchName,
    /// It cannot be known now.
    Failed,
}

impl Question {
    /// None when it is not a message with exactly one question.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let is_query = message.get(2)? & 0x80 == 0;
        if !is_query || message.get(4..6)? != [0, 1] {
            return None;
        }
        let mut labels = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // Longer ones are pointers, which a question has no use for.
            if length > 63 {
                return None;
            }
            labels.push(std::str::from_utf8(message.get(at..at + length)?).ok()?);
            at += length;
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        Some(Self {
            name: labels.join(".").to_ascii_lowercase(),
            kind,
            id: message.get(..2)?.try_into().ok()?,
            bytes: message.get(HEADER..at + 4)?.to_vec(),
        })
    }

    /// The message that answers it.
    pub(super) fn answer(&self, answer: &Answer) -> Vec<u8> {
        let (code, addresses) = match answer {
            Answer::Addresses(addresses) => (0, self.wanted(addresses)),
            Answer::Failed => (2, Vec::new()),
            Answer::NoSuchName => (3, Vec::new()),
        };
        let count = u16::try_from(addresses.len()).unwrap_or_default();
        let mut message = self.id.to_vec();
        for number in [FLAGS | code, 1, count, 0, 0] {
            message.extend(number.to_be_bytes());
        }
        message.extend(&self.bytes);
        for address in addresses {
            for number in [NAME, self.kind, IN] {
                message.extend(number.to_be_bytes());
            }
            message.extend(TTL.to_be_bytes());
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            message.extend(u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
            message.extend(bytes);
        }
        message
    }

    fn wanted(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let of_kind = |address: &&IpAddr| match address {
            IpAddr::V4(_) => self.kind == A,
            IpAddr::V6(_) => self.kind == AAAA,
        };
        addresses.iter().filter(of_kind).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\
        \x03Web\x04shop\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";

    #[test]
    fn a_question_is_read_and_answered_with_its_kind_of_address() {
        let question = Question::parse(QUERY).expect("a question");
        assert_eq!(question.name, "web.shop.svc.cluster.local");
        let addresses = ["10.96.0.7", "fd96::7"].map(|ip| ip.parse().expect("an address"));
        let message = question.answer(&Answer::Addresses(addresses.to_vec()));
        assert_eq!(message[..8], *b"\x12\x34\x85\x80\x00\x01\x00\x01");
        assert_eq!(message[HEADER..QUERY.len()], QUERY[HEADER..]);
        let record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x60\x00\x07";
        assert_eq!(message[QUERY.len()..], *record);
    }

    #[test]
    fn unknown_names_and_failures_differ() {
        let question = Question::parse(QUERY).expect("a question");
        assert_eq!(question.answer(&Answer::NoSuchName)[3], 0x83);
        assert_eq!(question.answer(&Answer::Failed)[3], 0x82);
    }

    #[test]
    fn what_is_cut_off_is_no_question() {
        for length in 0..QUERY.len() {
            assert_eq!(Question::parse(&QUERY[..length]), None, "{length}");
        }
    }
}
