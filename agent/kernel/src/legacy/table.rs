//! A table of the old iptables as the kernel gives it out, read with care
//! (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).

use std::collections::BTreeSet;

use nix::{libc, sys::socket::SockProtocol};

use crate::nft::drops_wrong_path;

const NAME_LENGTH: usize = 32;
const HOOKS: usize = 5;
const LINK_NAME: usize = 16;
/// Size, then name and revision of an extension.
const EXTENSION_HEADER: usize = 32;
const EXTENSION_NAME: std::ops::Range<usize> = 2..31;
/// What a rule with the verdict DROP says.
const DROP: i32 = -1;
const INVERTED_INPUT: u8 = 1;
/// Jumps that are followed.
const DEPTH: usize = 64;

/// Where things are in the structures of one address family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) command: &'static str,
    pub(super) names: &'static str,
    pub(super) family: u8,
    pub(super) protocol: Option<SockProtocol>,
    pub(super) level: i32,
    pub(super) get_info: i32,
    pub(super) get_entries: i32,
    /// In an entry: the input link's name, its mask, the inversion flags, and
    /// the two offsets.
    input: usize,
    input_mask: usize,
    inversions: usize,
    target_offset: usize,
    entry: usize,
}

impl Layout {
    pub(super) const IPV4: Self = Self {
        command: "iptables-legacy",
        names: "/proc/thread-self/net/ip_tables_names",
        family: 4,
        protocol: Some(SockProtocol::Raw),
        level: libc::IPPROTO_IP,
        get_info: 64,
        get_entries: 65,
        input: 16,
        input_mask: 48,
        inversions: 83,
        target_offset: 88,
        entry: 112,
    };
    pub(super) const IPV6: Self = Self {
        command: "ip6tables-legacy",
        names: "/proc/thread-self/net/ip6_tables_names",
        family: 6,
        protocol: Some(SockProtocol::Raw),
        level: libc::IPPROTO_IPV6,
        get_info: 64,
        get_entries: 65,
        input: 64,
        input_mask: 96,
        inversions: 132,
        target_offset: 140,
        entry: 168,
    };

    /// `struct ipt_getinfo`: name, valid hooks, entry of each hook, underflow of
    /// each, number of entries, size.
    pub(super) fn info_length(self) -> usize {
        NAME_LENGTH + 4 * (1 + HOOKS + HOOKS + 2)
    }

    /// `struct ipt_get_entries`: name, size, then the entries, aligned to 8.
    pub(super) fn entries_header(self) -> usize {
        NAME_LENGTH + 8
    }

    pub(super) fn name(self, name: &str, question: &mut [u8]) {
        for (to, from) in question.iter_mut().zip(name.bytes()).take(NAME_LENGTH - 1) {
            *to = from;
        }
    }

    pub(super) fn size(self, size: u32, question: &mut [u8]) {
        if let Some(field) = question.get_mut(NAME_LENGTH..NAME_LENGTH + 4) {
            field.copy_from_slice(&size.to_ne_bytes());
        }
    }

    /// Where prerouting begins, and the size of all entries.
    pub(super) fn read_info(self, info: &[u8]) -> Option<(usize, u32)> {
        let prerouting = number(info, NAME_LENGTH + 4)?;
        let size = number(info, NAME_LENGTH + 4 * (1 + HOOKS + HOOKS + 1))?;
        Some((usize::try_from(prerouting).ok()?, size))
    }
}

/// A table's rules.
#[derive(Debug)]
pub(super) struct Table {
    layout: Layout,
    entries: Vec<u8>,
    prerouting: usize,
}

/// One rule.
#[derive(Debug)]
struct Entry<'a> {
    layout: Layout,
    bytes: &'a [u8],
    /// Where the target begins.
    target: usize,
    length: usize,
}

impl Table {
    pub(super) fn new(layout: Layout, entries: Vec<u8>, prerouting: usize) -> Self {
        Self {
            layout,
            entries,
            prerouting,
        }
    }

    /// Whether an unmarked packet that arrives on `link` meets a rule that drops
    /// what came in by another way than leads back.
    pub(super) fn checks_reverse_path(&self, link: &str) -> bool {
        self.walk(self.prerouting, link, DEPTH, &mut BTreeSet::new())
    }

    fn walk(&self, mut at: usize, link: &str, depth: usize, seen: &mut BTreeSet<usize>) -> bool {
        while let Some(entry) = self.entry(at) {
            // A loop, or a chain that was looked through before.
            if !seen.insert(at) {
                return false;
            }
            at += entry.length;
            let verdict = entry.verdict();
            if !entry.concerns(link) {
                continue;
            }
            // A rule without a target jumps to the next one.
            let jump = verdict.and_then(|verdict| usize::try_from(verdict).ok());
            let jump = jump.filter(|chain| *chain != at);
            if entry.checks_reverse_path() && (verdict == Some(DROP) || jump.is_some()) {
                return true;
            }
            if let Some(chain) = jump.filter(|_| depth > 0)
                && self.walk(chain, link, depth - 1, seen)
            {
                return true;
            }
            // The end of a chain: its policy, or the return.
            if entry.ends() && verdict.is_some_and(|verdict| verdict < 0) {
                return false;
            }
        }
        false
    }

    fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let bytes = self.entries.get(at..)?;
        let target = half(bytes, self.layout.target_offset)?;
        let length = half(bytes, self.layout.target_offset + 2)?;
        let bytes = bytes.get(..length)?;
        let sound = self.layout.entry <= target && target < length;
        sound.then_some(Entry {
            layout: self.layout,
            bytes,
            target,
            length,
        })
    }
}

impl Entry<'_> {
    /// The number of a standard target: an offset to jump to, or `-1 - NF_*`.
    /// None for targets such as LOG.
    fn verdict(&self) -> Option<i32> {
        let target = self.bytes.get(self.target..)?;
        let standard = name(target).is_some_and(<[u8]>::is_empty);
        standard
            .then(|| number(target, EXTENSION_HEADER))
            .flatten()
            .map(u32::cast_signed)
    }

    /// Matches everything.
    fn ends(&self) -> bool {
        let conditions = self.bytes.get(..self.layout.target_offset);
        self.target == self.layout.entry
            && conditions.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0))
    }

    /// May match an unmarked packet that arrives on `link`.
    fn concerns(&self, link: &str) -> bool {
        let field = |at: usize| self.bytes.get(at..at + LINK_NAME).unwrap_or_default();
        let mut own = link.as_bytes().to_vec();
        own.resize(LINK_NAME, 0);
        let (input, mask) = (field(self.layout.input), field(self.layout.input_mask));
        let same = own
            .iter()
            .zip(input.iter().zip(mask))
            .all(|(own, (input, mask))| own & mask == *input & *mask);
        let inverted = self
            .bytes
            .get(self.layout.inversions)
            .is_some_and(|flags| flags & INVERTED_INPUT != 0);
        same != inverted && !self.matches().any(|(name, _)| name == b"mark")
    }

    fn checks_reverse_path(&self) -> bool {
        self.matches().any(|(name, info)| {
            name == b"rpfilter" && info.first().is_some_and(|flags| drops_wrong_path(*flags))
        })
    }

    /// Names of the matches and what they are told.
    fn matches(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = self
            .bytes
            .get(self.layout.entry..self.target)
            .unwrap_or_default();
        std::iter::from_fn(move || {
            let length = half(rest, 0).filter(|length| *length >= EXTENSION_HEADER)?;
            let (extension, next) = rest.split_at_checked(length)?;
            rest = next;
            Some((name(extension)?, extension.get(EXTENSION_HEADER..)?))
        })
    }
}

fn name(extension: &[u8]) -> Option<&[u8]> {
    extension
        .get(EXTENSION_NAME)?
        .split(|byte| *byte == 0)
        .next()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(four))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let two = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_ne_bytes(two).into())
}
