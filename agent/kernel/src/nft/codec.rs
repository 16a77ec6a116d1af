//! Rulesets to and from netlink (linux/netfilter/nf_tables.h).

pub(super) mod decode;
pub(super) mod encode;
mod expression;
mod foreign;
mod numbers;

pub(crate) use foreign::drops_wrong_path;
pub(super) use foreign::{matches_mark, reverse_path};

const SUBSYSTEM: u16 = 10 << 8;

/// Message types.
pub(super) mod kind {
    use super::SUBSYSTEM;

    pub(in crate::nft) const BATCH_BEGIN: u16 = 16;
    pub(in crate::nft) const BATCH_END: u16 = 17;
    pub(in crate::nft) const NEW_TABLE: u16 = SUBSYSTEM;
    pub(in crate::nft) const GET_TABLE: u16 = SUBSYSTEM + 1;
    pub(in crate::nft) const DEL_TABLE: u16 = SUBSYSTEM + 2;
    pub(in crate::nft) const NEW_CHAIN: u16 = SUBSYSTEM + 3;
    pub(in crate::nft) const GET_CHAIN: u16 = SUBSYSTEM + 4;
    pub(in crate::nft) const DEL_CHAIN: u16 = SUBSYSTEM + 5;
    pub(in crate::nft) const NEW_RULE: u16 = SUBSYSTEM + 6;
    pub(in crate::nft) const GET_RULE: u16 = SUBSYSTEM + 7;
    pub(in crate::nft) const DEL_RULE: u16 = SUBSYSTEM + 8;
    pub(in crate::nft) const NEW_SET: u16 = SUBSYSTEM + 9;
    pub(in crate::nft) const GET_SET: u16 = SUBSYSTEM + 10;
    pub(in crate::nft) const DEL_SET: u16 = SUBSYSTEM + 11;
    pub(in crate::nft) const NEW_ELEMENT: u16 = SUBSYSTEM + 12;
    pub(in crate::nft) const GET_ELEMENT: u16 = SUBSYSTEM + 13;
    pub(in crate::nft) const DEL_ELEMENT: u16 = SUBSYSTEM + 14;
}

mod table {
    pub(super) const NAME: u16 = 1;
    pub(super) const FLAGS: u16 = 2;
    pub(super) const USERDATA: u16 = 6;
    /// In the userdata, nft's own numbering (libnftnl/udata.h).
    pub(super) const COMMENT: u8 = 0;
}

mod chain {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 3;
    pub(super) const HOOK: u16 = 4;
    pub(super) const POLICY: u16 = 5;
    pub(super) const TYPE: u16 = 7;
    pub(super) const FLAGS: u16 = 10;
    /// Part of the rule that jumps to it.
    pub(super) const FLAG_BINDING: u32 = 4;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const HOOK_DEVICE: u16 = 3;
    pub(super) const HOOK_DEVICES: u16 = 4;
    pub(super) const DEVICE_NAME: u16 = 1;
}

mod rule {
    pub(super) const TABLE: u16 = 1;
    pub(super) const CHAIN: u16 = 2;
    pub(super) const EXPRESSIONS: u16 = 4;
    pub(super) const USERDATA: u16 = 7;
    pub(super) const EXPRESSION: u16 = 1;
    pub(super) const EXPRESSION_NAME: u16 = 1;
    pub(super) const EXPRESSION_DATA: u16 = 2;
}

mod set {
    pub(super) const TABLE: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const KEY_TYPE: u16 = 4;
    pub(super) const KEY_LENGTH: u16 = 5;
    pub(super) const DATA_TYPE: u16 = 6;
    pub(super) const DATA_LENGTH: u16 = 7;
    pub(super) const ID: u16 = 10;
    pub(super) const USERDATA: u16 = 13;
    /// Part of the rule that looks in it.
    pub(super) const FLAG_ANONYMOUS: u32 = 1;
    pub(super) const FLAG_MAP: u32 = 8;
}

mod element {
    pub(super) const TABLE: u16 = 1;
    pub(super) const SET: u16 = 2;
    pub(super) const ELEMENTS: u16 = 3;
    pub(super) const ELEMENT: u16 = 1;
    pub(super) const KEY: u16 = 1;
    pub(super) const DATA: u16 = 2;
}

/// `NFTA_DATA_*`.
mod data {
    pub(super) const VALUE: u16 = 1;
    pub(super) const VERDICT: u16 = 2;
}
