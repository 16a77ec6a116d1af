//! Expressions of other people that say something about our traffic.

use super::super::attributes::{Fields, text};

const FIB_FLAGS: u16 = 3;
const FIB_SOURCE: u32 = 1 << 0;
const FIB_INPUT: u32 = 1 << 3;
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;
/// `XT_RPFILTER_*` of linux/netfilter/xt_rpfilter.h.
const RPFILTER_LOOSE: u8 = 1;
const RPFILTER_INVERT: u8 = 8;

/// Whether the expression asks if the source is reached by the input interface:
/// nft's `fib saddr . iif`, or iptables' `rpfilter --invert`.
pub(in crate::nft) fn reverse_path(name: &str, attributes: &[u8]) -> bool {
    let fields = Fields::read(attributes).unwrap_or_default();
    match name {
        "fib" => {
            let flags = fields.number(FIB_FLAGS).unwrap_or(0);
            flags & (FIB_SOURCE | FIB_INPUT) == FIB_SOURCE | FIB_INPUT
        }
        "match" => {
            let options = fields.get(MATCH_INFO).and_then(|info| info.first());
            fields.text(MATCH_NAME).as_deref() == Some("rpfilter")
                && options.is_some_and(|options| drops_wrong_path(*options))
        }
        _ => false,
    }
}

/// Options of an `rpfilter` match that select what came in by the wrong way.
pub(crate) fn drops_wrong_path(options: u8) -> bool {
    options & RPFILTER_INVERT != 0 && options & RPFILTER_LOOSE == 0
}

/// Whether the expression is iptables' `mark` match.
pub(in crate::nft) fn matches_mark(name: &str, attributes: &[u8]) -> bool {
    let fields = Fields::read(attributes).unwrap_or_default();
    name == "match" && fields.get(MATCH_NAME).map(text).as_deref() == Some("mark")
}
