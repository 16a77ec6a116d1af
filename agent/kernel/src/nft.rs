//! Packet rules by nftables: plain values, a pure plan, one transaction.
//!
//! [`node_ruleset`] and [`proxy_ruleset`] say what is wanted, [`observe`] reads
//! what is there into the same values, [`plan`] finds the fewest changes and
//! [`apply`] makes them all or none. Whatever the kernel returns for what was
//! written is equal to it, so nothing has to be remembered to see tampering.
//!
//! Some rules not every kernel takes: [`Resets::probe`] asks for them.
//!
//! A table is ours if its name is and its comment says so. One that has our
//! name only is never touched: [`claimed_tables`].

use crate::model::Settings;

mod apply;
mod attributes;
mod change;
mod codec;
mod display;
mod foreign;
pub(crate) mod model;
mod node;
mod observe;
mod plan;
mod proxy;
mod reset;
mod statement;
#[cfg(test)]
mod tests;

pub(crate) use apply::{NftError, apply};
pub(crate) use change::Change;
pub(crate) use codec::drops_wrong_path;
pub(crate) use foreign::{Claimed, claimed_tables, reverse_path_checks};
pub(crate) use model::Ruleset;
pub(crate) use node::{NodeFacts, node_ruleset, pod_chain, pod_ruleset};
pub(crate) use observe::{observe, observe_pod};
pub(crate) use plan::plan;
pub(crate) use proxy::{ProxyFacts, proxy_ruleset};
pub(crate) use reset::Resets;

/// The comment on every table of ours. Short: see [`Settings::instance`].
pub(crate) fn owner(settings: &Settings) -> String {
    format!("sluice/{}", settings.instance)
}
