//! Makes changes in one transaction.

use super::{
    change::{Change, Step},
    codec::{encode, kind},
};
use crate::client::{Client, ClientError, Refused, Request};

const NLM_F_ACK: u16 = 4;

/// Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NftError {
    #[error("the packet rules were left as they are, because the kernel would not {}", first(.0))]
    Denied(Vec<Denied>),
    #[error("the kernel does not take a transaction of packet rules")]
    Transaction(#[source] Refused),
    #[error("cannot change the packet rules")]
    Client(#[from] ClientError),
}

/// A change that the kernel refused, and with it the whole transaction.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) change: Change,
    pub(crate) refused: Refused,
}

fn first(denied: &[Denied]) -> String {
    let texts = denied.iter().map(|denied| {
        let Denied { change, refused } = denied;
        format!("{change}: {refused}")
    });
    texts.take(3).collect::<Vec<_>>().join("; ")
}

/// Makes all changes, or none.
pub(crate) fn apply(client: &mut Client, changes: &[Change]) -> Result<(), NftError> {
    transact(client, changes, Some(encode::batch(kind::BATCH_END)))
}

/// Whether the kernel would make all changes. Makes none: a transaction without
/// an end is looked at and forgotten.
pub(crate) fn check(client: &mut Client, changes: &[Change]) -> Result<(), NftError> {
    transact(client, changes, None)
}

fn transact(client: &mut Client, changes: &[Change], end: Option<Request>) -> Result<(), NftError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut requests = vec![encode::batch(kind::BATCH_BEGIN)];
    requests.extend(changes.iter().map(encode_change));
    // Refusals are always reported; one acknowledgement says it is done.
    if let Some(last) = requests.last_mut() {
        last.flags |= NLM_F_ACK;
    }
    requests.extend(end);

    let mut denied = Vec::new();
    for refused in client.batch(&requests)? {
        let change = refused.index.checked_sub(1).and_then(|at| changes.get(at));
        match change.cloned() {
            Some(change) => denied.push(Denied { change, refused }),
            None => return Err(NftError::Transaction(refused)),
        }
    }
    if denied.is_empty() {
        Ok(())
    } else {
        Err(NftError::Denied(denied))
    }
}

fn encode_change(change: &Change) -> Request {
    let (family, table) = (change.table.0, change.table.1.as_str());
    match &change.step {
        Step::AddTable { comment } => encode::new_table(family, table, comment.as_deref()),
        Step::WakeTable => encode::wake_table(family, table),
        Step::DeleteTable => encode::table(kind::DEL_TABLE, family, table),
        Step::AddSet { name, set } => encode::new_set(family, table, name, set),
        Step::DeleteSet { name } => encode::set(kind::DEL_SET, family, table, Some(name)),
        Step::AddElement { of, key, element } => {
            let element = Some((key.as_slice(), Some(element)));
            encode::element(kind::NEW_ELEMENT, (family, table), &of.name, element)
        }
        Step::DeleteElement { of, key, .. } => {
            let element = Some((key.as_slice(), None));
            encode::element(kind::DEL_ELEMENT, (family, table), &of.name, element)
        }
        Step::AddChain { name, hook } => encode::new_chain(family, table, name, hook.as_ref()),
        Step::FlushChain { name } => encode::rules(kind::DEL_RULE, family, table, Some(name)),
        Step::DeleteChain { name } => encode::chain(kind::DEL_CHAIN, family, table, name),
        Step::AddRule { chain, rule } => encode::new_rule(family, table, chain, rule),
    }
}
