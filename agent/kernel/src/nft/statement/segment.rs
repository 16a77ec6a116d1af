//! Statements about the flags of TCP segments.

use super::{
    super::model::{Expression, Register, Rule},
    Statements,
};

/// Bits of the flags.
pub(in crate::nft) const SYN: u8 = 0x02;
pub(in crate::nft) const RST: u8 = 0x04;
pub(in crate::nft) const ACK: u8 = 0x10;
pub(in crate::nft) const URG: u8 = 0x20;

/// Where they are in the header. They are written together with the byte before
/// them: checksums are made of pairs.
const FLAGS: u32 = 13;
const OFFSET_AND_FLAGS: u32 = 12;

impl Statements {
    /// Segments that have none of these flags.
    pub(in crate::nft) fn without_flags(self, flags: u8) -> Self {
        self.flags(flags).equal(vec![0])
    }

    /// Segments that have all of these flags.
    pub(in crate::nft) fn with_flags(self, flags: u8) -> Self {
        self.flags(flags).equal(vec![flags])
    }

    /// Makes these the segment's flags, and no others.
    pub(in crate::nft) fn set_flags(self, flags: u8) -> Rule {
        self.load_transport(OFFSET_AND_FLAGS, 2)
            .and(Expression::Bitwise {
                from: Register::ONE,
                to: Register::ONE,
                mask: vec![0xff, 0],
                xor: vec![0, flags],
            })
            .done(Expression::SetTransport {
                offset: OFFSET_AND_FLAGS,
                length: 2,
                from: Register::ONE,
            })
    }

    fn flags(self, mask: u8) -> Self {
        self.load_transport(FLAGS, 1).mask(vec![mask])
    }
}
