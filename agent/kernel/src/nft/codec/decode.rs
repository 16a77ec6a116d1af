//! Answers.

use super::{
    super::{
        attributes::{Fields, Malformed, Writer, text},
        model::{
            ChainKind, DataType, Element, Elements, Family, Hook, HookPoint, Policy, Rule, Set,
            Table, TableId,
        },
    },
    chain, data, element, expression, rule, set, table,
};

const HEADER: usize = 4;
/// Attributes of a table, chain or set that are of no interest are skipped;
/// those of an element are kept, because they change what it means.
const ELEMENT_PADDING: u16 = 8;

/// Something in a table.
#[derive(Clone, Debug)]
pub(in crate::nft) struct In<T> {
    pub(in crate::nft) table: TableId,
    /// Its own name; of a rule, the chain's.
    pub(in crate::nft) name: String,
    pub(in crate::nft) value: T,
}

/// A message's family and attributes.
fn message(payload: &[u8]) -> Result<(Family, Fields<'_>), Malformed> {
    let (header, attributes) = payload
        .split_at_checked(HEADER)
        .ok_or(Malformed("a message has no header"))?;
    let family = header.first().copied().unwrap_or_default().into();
    Ok((family, Fields::read(attributes)?))
}

fn named(
    payload: &[u8],
    table: u16,
    name: u16,
) -> Result<(TableId, String, Fields<'_>), Malformed> {
    let (family, fields) = message(payload)?;
    let table = fields
        .text(table)
        .ok_or(Malformed("an object has no table"))?;
    let name = fields
        .text(name)
        .ok_or(Malformed("an object has no name"))?;
    Ok(((family, table), name, fields))
}

pub(in crate::nft) fn table(payload: &[u8]) -> Result<(TableId, Table), Malformed> {
    let (family, fields) = message(payload)?;
    let name = fields
        .text(table::NAME)
        .ok_or(Malformed("a table has no name"))?;
    let table = Table {
        comment: fields.get(table::USERDATA).and_then(comment),
        flags: fields.number(table::FLAGS).unwrap_or(0),
        ..Table::default()
    };
    Ok(((family, name), table))
}

/// The comment among a table's userdata.
fn comment(mut userdata: &[u8]) -> Option<String> {
    loop {
        let (kind, rest) = userdata.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == table::COMMENT {
            return Some(text(value));
        }
        userdata = rest;
    }
}

/// A chain's hook; nothing for a chain that is part of a rule and goes with it.
pub(in crate::nft) fn chain(payload: &[u8]) -> Result<Option<In<Option<Hook>>>, Malformed> {
    let (table, name, fields) = named(payload, chain::TABLE, chain::NAME)?;
    let flags = fields.number(chain::FLAGS).unwrap_or(0);
    if flags & chain::FLAG_BINDING != 0 {
        return Ok(None);
    }
    let value = if fields.get(chain::HOOK).is_some() {
        Some(hook(table.0, &fields)?)
    } else {
        None
    };
    Ok(Some(In { table, name, value }))
}

fn hook(family: Family, fields: &Fields<'_>) -> Result<Hook, Malformed> {
    let hook = fields.nested(chain::HOOK)?;
    let number = hook.number(chain::HOOK_NUMBER).unwrap_or(u32::MAX);
    let devices = hook.nested(chain::HOOK_DEVICES)?;
    let named = hook.get(chain::HOOK_DEVICE).into_iter();
    let kind = fields.text(chain::TYPE).unwrap_or_default();
    Ok(Hook {
        kind: match kind.as_str() {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            _ => ChainKind::Other(kind),
        },
        point: HookPoint::of(number, family),
        priority: hook.number(chain::HOOK_PRIORITY).unwrap_or(0).cast_signed(),
        devices: named.chain(devices.values()).map(text).collect(),
        policy: match fields.number(chain::POLICY) {
            Some(0) => Policy::Drop,
            _ => Policy::Accept,
        },
    })
}

pub(in crate::nft) fn rule(payload: &[u8]) -> Result<In<Rule>, Malformed> {
    let (table, name, fields) = named(payload, rule::TABLE, rule::CHAIN)?;
    let expressions = fields.nested(rule::EXPRESSIONS)?;
    let expressions = expressions.values().map(expression::read);
    let value = Rule {
        expressions: expressions.collect::<Result<_, _>>()?,
        userdata: fields.get(rule::USERDATA).unwrap_or_default().to_vec(),
    };
    Ok(In { table, name, value })
}

/// A set without its elements; nothing for one that is part of a rule.
pub(in crate::nft) fn set(payload: &[u8]) -> Result<Option<In<Set>>, Malformed> {
    let (table, name, fields) = named(payload, set::TABLE, set::NAME)?;
    let flags = fields.number(set::FLAGS).unwrap_or(0);
    if flags & set::FLAG_ANONYMOUS != 0 {
        return Ok(None);
    }
    let number = |kind| fields.number(kind).unwrap_or(0);
    let key = DataType::of(number(set::KEY_TYPE), number(set::KEY_LENGTH));
    let data = DataType::of(number(set::DATA_TYPE), number(set::DATA_LENGTH));
    let value = Set {
        flags: flags & !set::FLAG_MAP,
        ..Set::of(key, (flags & set::FLAG_MAP != 0).then_some(data))
    };
    Ok(Some(In { table, name, value }))
}

/// The elements of one message, and which set they are in.
pub(in crate::nft) fn elements(payload: &[u8]) -> Result<In<Elements>, Malformed> {
    let (table, name, fields) = named(payload, element::TABLE, element::SET)?;
    let list = fields.nested(element::ELEMENTS)?;
    let elements = list.values().map(one_element);
    let value = elements.collect::<Result<_, _>>()?;
    Ok(In { table, name, value })
}

fn one_element(bytes: &[u8]) -> Result<(Vec<u8>, Element), Malformed> {
    let fields = Fields::read(bytes)?;
    let value = |kind| -> Result<Vec<u8>, Malformed> {
        let nested = fields.nested(kind)?;
        Ok(nested.get(data::VALUE).unwrap_or_default().to_vec())
    };
    let mut other = Writer::default();
    for (kind, value) in fields.all() {
        if ![element::KEY, element::DATA, ELEMENT_PADDING].contains(&kind) {
            other.bytes(kind, value);
        }
    }
    let element = Element {
        data: value(element::DATA)?,
        other: other.into_bytes(),
    };
    Ok((value(element::KEY)?, element))
}
