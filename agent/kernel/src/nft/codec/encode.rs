//! Requests.

use super::{
    super::{
        attributes::Writer,
        model::{ChainKind, DataType, Element, Family, Hook, Policy, Rule, Set},
    },
    chain, data, element, expression, kind, rule, set, table,
};
use crate::client::Request;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLM_F_EXCL: u16 = 0x200;

/// Opens or closes a transaction.
pub(in crate::nft) fn batch(kind: u16) -> Request {
    // The resource is the subsystem the transaction is for.
    Request::raw(kind, 0, vec![0, 0, 0, 10])
}

/// A request for a table's sake; what it is about is written by `body`.
fn request(kind: u16, flags: u16, family: Family, body: impl FnOnce(&mut Writer)) -> Request {
    let mut writer = Writer::after(&[family.into(), 0, 0, 0]);
    body(&mut writer);
    Request::raw(kind, flags, writer.into_bytes())
}

pub(in crate::nft) fn new_table(family: Family, name: &str, comment: Option<&str>) -> Request {
    // Exclusive: a table that is there already is somebody else's.
    request(
        kind::NEW_TABLE,
        NLM_F_CREATE | NLM_F_EXCL,
        family,
        |writer| {
            writer.text(table::NAME, name).number(table::FLAGS, 0);
            if let Some(comment) = comment {
                writer.bytes(table::USERDATA, &userdata(comment));
            }
        },
    )
}

/// nft's way to keep a comment: type, length, text with its zero.
fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![table::COMMENT, length];
    bytes.extend(comment.as_bytes().iter().take(usize::from(length) - 1));
    bytes.push(0);
    bytes
}

/// Takes all flags of a table away.
pub(in crate::nft) fn wake_table(family: Family, name: &str) -> Request {
    request(kind::NEW_TABLE, 0, family, |writer| {
        writer.text(table::NAME, name).number(table::FLAGS, 0);
    })
}

/// Asks for, or deletes, a table.
pub(in crate::nft) fn table(kind: u16, family: Family, name: &str) -> Request {
    request(kind, 0, family, |writer| {
        writer.text(table::NAME, name);
    })
}

/// Asks for everything of a kind in a family (0: in all).
pub(in crate::nft) fn all(kind: u16, family: Family) -> Request {
    request(kind, 0, family, |_| {})
}

pub(in crate::nft) fn new_chain(
    family: Family,
    table: &str,
    name: &str,
    hook: Option<&Hook>,
) -> Request {
    request(
        kind::NEW_CHAIN,
        NLM_F_CREATE | NLM_F_EXCL,
        family,
        |writer| {
            writer.text(chain::TABLE, table).text(chain::NAME, name);
            if let Some(hook) = hook {
                base_chain(writer, family, hook);
            }
        },
    )
}

fn base_chain(writer: &mut Writer, family: Family, hook: &Hook) {
    writer.nest(chain::HOOK, |writer| {
        writer
            .number(chain::HOOK_NUMBER, hook.point.number(family))
            .number(chain::HOOK_PRIORITY, hook.priority.cast_unsigned());
        let mut devices = hook.devices.iter();
        match (devices.next(), devices.next()) {
            (None, _) => {}
            // Kernels before 5.5 know no lists.
            (Some(device), None) => {
                writer.text(chain::HOOK_DEVICE, device);
            }
            _ => {
                writer.nest(chain::HOOK_DEVICES, |writer| {
                    for device in &hook.devices {
                        writer.text(chain::DEVICE_NAME, device);
                    }
                });
            }
        }
    });
    let policy = match hook.policy {
        Policy::Drop => 0,
        Policy::Accept => 1,
    };
    let kind = match &hook.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Other(kind) => kind,
    };
    writer.number(chain::POLICY, policy).text(chain::TYPE, kind);
}

/// Asks for, or deletes, a chain.
pub(in crate::nft) fn chain(kind: u16, family: Family, table: &str, name: &str) -> Request {
    request(kind, 0, family, |writer| {
        writer.text(chain::TABLE, table).text(chain::NAME, name);
    })
}

pub(in crate::nft) fn new_rule(family: Family, table: &str, chain: &str, rule: &Rule) -> Request {
    request(
        kind::NEW_RULE,
        NLM_F_CREATE | NLM_F_APPEND,
        family,
        |writer| {
            writer.text(rule::TABLE, table).text(rule::CHAIN, chain);
            writer.nest(rule::EXPRESSIONS, |writer| {
                for expression in &rule.expressions {
                    writer.nest(rule::EXPRESSION, |writer| {
                        expression::write(writer, expression);
                    });
                }
            });
            if !rule.userdata.is_empty() {
                writer.bytes(rule::USERDATA, &rule.userdata);
            }
        },
    )
}

/// Asks for, or deletes, all rules of a table, or of one of its chains.
pub(in crate::nft) fn rules(
    kind: u16,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> Request {
    request(kind, 0, family, |writer| {
        writer.text(rule::TABLE, table);
        if let Some(chain) = chain {
            writer.text(rule::CHAIN, chain);
        }
    })
}

pub(in crate::nft) fn new_set(family: Family, table: &str, name: &str, set: &Set) -> Request {
    request(kind::NEW_SET, NLM_F_CREATE | NLM_F_EXCL, family, |writer| {
        let map = if set.data.is_some() { set::FLAG_MAP } else { 0 };
        writer
            .text(set::TABLE, table)
            .text(set::NAME, name)
            .number(set::ID, 1)
            .number(set::FLAGS, set.flags | map);
        let typed = |writer: &mut Writer, of: DataType, kind, length| {
            let (number, bytes) = of.numbers();
            writer.number(kind, number).number(length, bytes);
        };
        typed(writer, set.key, set::KEY_TYPE, set::KEY_LENGTH);
        if let Some(of) = set.data {
            typed(writer, of, set::DATA_TYPE, set::DATA_LENGTH);
            writer.bytes(set::USERDATA, &byte_orders(set.key, of));
        }
    })
}

/// How nft is to print keys and data: 1 is the host's order, 2 big-endian.
fn byte_orders(key: DataType, data: DataType) -> Vec<u8> {
    let order = |of: DataType| match of {
        DataType::InterfaceIndex => 1_u32.to_ne_bytes(),
        _ => 2_u32.to_ne_bytes(),
    };
    [[0, 4].as_slice(), &order(key), &[1, 4], &order(data)].concat()
}

/// Deletes a set, or asks for all sets of a table.
pub(in crate::nft) fn set(kind: u16, family: Family, table: &str, name: Option<&str>) -> Request {
    request(kind, 0, family, |writer| {
        writer.text(set::TABLE, table);
        if let Some(name) = name {
            writer.text(set::NAME, name);
        }
    })
}

/// Adds, deletes or asks for one element; or, without one, asks for all.
pub(in crate::nft) fn element(
    kind: u16,
    (family, table): (Family, &str),
    set: &str,
    element: Option<(&[u8], Option<&Element>)>,
) -> Request {
    let flags = if kind == kind::NEW_ELEMENT {
        NLM_F_CREATE | NLM_F_EXCL
    } else {
        0
    };
    request(kind, flags, family, |writer| {
        writer.text(element::TABLE, table).text(element::SET, set);
        let Some((key, element)) = element else {
            return;
        };
        writer.nest(element::ELEMENTS, |writer| {
            writer.nest(element::ELEMENT, |writer| {
                writer.nest(element::KEY, |writer| {
                    writer.bytes(data::VALUE, key);
                });
                if let Some(element) = element.filter(|element| !element.data.is_empty()) {
                    writer.nest(element::DATA, |writer| {
                        writer.bytes(data::VALUE, &element.data);
                    });
                }
            });
        });
    })
}
